#include "encoder/regions.h"

#include <string.h>

/* Floor and ceiling of a / b, b > 0. */
static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0); }

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

/* ---- Components ---- */

enum { OUTSIDE = 0, UNVISITED = 1, VISITED = 2 };

static void clear_margins(uint8_t *mask, const kp_mask_frame *frame) {
  kp_rect inside = kp_mask_rect(frame, (kp_rect){0, 0, frame->width, frame->height});
  for (int32_t y = 0; y < frame->side; y++) {
    for (int32_t x = 0; x < frame->side; x++) {
      bool keep = y >= inside.y0 && y < inside.y1 && x >= inside.x0 && x < inside.x1;
      if (!keep) mask[y * frame->side + x] = OUTSIDE;
    }
  }
}

/* Marks the component of `seed` as visited and leaves its pixels in `queue`, breadth first. Returns their number. */
static int32_t flood(uint8_t *mask, int32_t side, int32_t seed, int32_t *queue) {
  int32_t count = 0;
  mask[seed] = VISITED;
  queue[count++] = seed;
  for (int32_t head = 0; head < count; head++) {
    int32_t pixel = queue[head], x = pixel % side, y = pixel / side;
    const int32_t neighbours[4] = {y > 0 ? pixel - side : pixel, x > 0 ? pixel - 1 : pixel,
                                   x + 1 < side ? pixel + 1 : pixel, y + 1 < side ? pixel + side : pixel};
    for (int i = 0; i < 4; i++) {
      if (mask[neighbours[i]] != UNVISITED) continue;
      mask[neighbours[i]] = VISITED;
      queue[count++] = neighbours[i];
    }
  }
  return count;
}

int32_t kp_mask_largest_component(uint8_t *mask, const kp_mask_frame *frame, int32_t *queue) {
  clear_margins(mask, frame);
  int32_t side = frame->side, pixels = side * side, best_seed = 0, best_count = 0;
  for (int32_t pixel = 0; pixel < pixels; pixel++) {
    if (mask[pixel] != UNVISITED) continue;
    int32_t count = flood(mask, side, pixel, queue);
    if (count > best_count) {
      best_count = count;
      best_seed = pixel;
    }
  }
  if (best_count == 0) return 0;
  for (int32_t pixel = 0; pixel < pixels; pixel++) mask[pixel] = mask[pixel] == VISITED ? UNVISITED : OUTSIDE;
  flood(mask, side, best_seed, queue);
  for (int32_t pixel = 0; pixel < pixels; pixel++) mask[pixel] = mask[pixel] == VISITED;
  return best_count;
}

/* ---- Between the mask and the picture ---- */

kp_rect kp_mask_box(const uint8_t *mask, const kp_mask_frame *frame) {
  int32_t side = frame->side, scale = frame->scale, width = frame->width, height = frame->height;
  kp_letterbox box = frame->box;
  int32_t x0 = side, y0 = side, x1 = 0, y1 = 0; /* in mask pixels */
  for (int32_t y = 0; y < side; y++) {
    for (int32_t x = 0; x < side; x++) {
      if (mask[y * side + x] == 0) continue;
      if (x < x0) x0 = x;
      if (x + 1 > x1) x1 = x + 1;
      if (y < y0) y0 = y;
      y1 = y + 1;
    }
  }
  return (kp_rect){
      .x0 = (int32_t)clamp(floor_div((int64_t)(x0 * scale - box.x) * width, box.width), 0, width),
      .y0 = (int32_t)clamp(floor_div((int64_t)(y0 * scale - box.y) * height, box.height), 0, height),
      .x1 = (int32_t)clamp(ceil_div((int64_t)(x1 * scale - box.x) * width, box.width), 0, width),
      .y1 = (int32_t)clamp(ceil_div((int64_t)(y1 * scale - box.y) * height, box.height), 0, height),
  };
}

/* Thousandths of `size` to pixels: a range that is not empty. */
static void grid_range(uint32_t from, uint32_t to, int32_t size, int32_t *start, int32_t *end) {
  int64_t first = (int64_t)from * size / 1000, last = (int64_t)to * size / 1000;
  if (first > size - 1) first = size - 1;
  *start = (int32_t)first;
  *end = (int32_t)(last > first ? last : first + 1);
}

kp_rect kp_grid_box(const uint32_t cell[4], int32_t width, int32_t height) {
  kp_rect rect;
  grid_range(cell[0], cell[2], width, &rect.x0, &rect.x1);
  grid_range(cell[1], cell[3], height, &rect.y0, &rect.y1);
  return rect;
}

kp_rect kp_mask_rect(const kp_mask_frame *frame, kp_rect rect) {
  int32_t side = frame->side;
  kp_letterbox box = frame->box;
  /* The picture's x lies at box.x + x * box.width / width in the letterbox. */
  int64_t cell_width = (int64_t)frame->scale * frame->width, cell_height = (int64_t)frame->scale * frame->height;
  int64_t left = (int64_t)box.x * frame->width, top = (int64_t)box.y * frame->height;
  return (kp_rect){
      .x0 = (int32_t)clamp(floor_div(left + (int64_t)rect.x0 * box.width, cell_width), 0, side),
      .y0 = (int32_t)clamp(floor_div(top + (int64_t)rect.y0 * box.height, cell_height), 0, side),
      .x1 = (int32_t)clamp(ceil_div(left + (int64_t)rect.x1 * box.width, cell_width), 0, side),
      .y1 = (int32_t)clamp(ceil_div(top + (int64_t)rect.y1 * box.height, cell_height), 0, side),
  };
}

void kp_mask_fill(uint8_t *mask, int32_t side, kp_rect rect) {
  for (int32_t y = rect.y0; y < rect.y1; y++) {
    for (int32_t x = rect.x0; x < rect.x1; x++) mask[y * side + x] = 1;
  }
}

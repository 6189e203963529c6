#include "encoder/detections.h"

#include <string.h>

#include "base/sort.h"

/* ---- Non-maximum suppression ---- */

/* By falling score, equals by rising index. `context` is the scores. */
static bool precedes(const void *context, uint32_t a, uint32_t b) {
  const float *scores = context;
  return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
}

typedef struct float_box {
  float x0, y0, x1, y1;
} float_box;

static float_box box_of(const kp_planes *boxes, size_t anchor) {
  const float *box = boxes->data + anchor * boxes->strides[0];
  size_t step = boxes->strides[1];
  return (float_box){box[0], box[step], box[2 * step], box[3 * step]};
}

static bool overlap(float_box a, float_box b, float max_overlap) {
  float width = (a.x1 < b.x1 ? a.x1 : b.x1) - (a.x0 > b.x0 ? a.x0 : b.x0);
  float height = (a.y1 < b.y1 ? a.y1 : b.y1) - (a.y0 > b.y0 ? a.y0 : b.y0);
  if (!(width > 0) || !(height > 0)) return false;
  float both = width * height;
  float either = (a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - both;
  return both > max_overlap * either;
}

int32_t kp_detections_keep(const kp_detections *detections, const kp_detection_settings *settings, uint32_t *kept) {
  size_t candidates = 0;
  for (uint32_t anchor = 0; anchor < (uint32_t)settings->anchors; anchor++) {
    if (detections->scores[anchor] >= settings->min_score) kept[candidates++] = anchor;
  }
  kp_sort_items(kept, candidates, precedes, detections->scores);
  int32_t count = 0;
  for (size_t i = 0; i < candidates && count < settings->max_count; i++) {
    float_box box = box_of(&detections->boxes, kept[i]);
    bool keep = true;
    for (int32_t j = 0; j < count && keep; j++) {
      keep = !overlap(box, box_of(&detections->boxes, kept[j]), settings->max_overlap);
    }
    if (keep) kept[count++] = kept[i];
  }
  return count;
}

/* ---- Masks ---- */

enum { LANES = 16 }; /* pixels of a row that are summed up together */

static int32_t row_size(int32_t side) { return (side + LANES - 1) / LANES * LANES; }

size_t kp_detection_prototype_size(int32_t side) {
  return KP_DETECTION_COEFFICIENTS * (size_t)side * (size_t)row_size(side);
}

/* Of the mask's rows or columns, those in [*start, *end) whose place in the letterbox lies in [low, high). */
static void cut_range(int32_t *start, int32_t *end, int32_t scale, float low, float high) {
  while (*start < *end && !((float)(*start * scale) >= low)) ++*start;
  int32_t first_beyond = *start;
  while (first_beyond < *end && (float)(first_beyond * scale) < high) first_beyond++;
  *end = first_beyond;
}

/* Sets the pixels of `cut` where the weighted sum of the prototypes is positive. Returns how many. */
static int64_t draw_mask(const float *coefficients, size_t step, const float *prototypes, int32_t side, kp_rect cut,
                         uint8_t *mask) {
  size_t row = (size_t)row_size(side), plane = row * (size_t)side;
  int64_t area = 0;
  for (int32_t y = cut.y0; y < cut.y1; y++) {
    for (int32_t start = cut.x0 / LANES * LANES; start < cut.x1; start += LANES) {
      const float *pixels = prototypes + (size_t)y * row + (size_t)start;
      float sum[LANES] = {0};
      for (size_t k = 0; k < KP_DETECTION_COEFFICIENTS; k++) {
        float coefficient = coefficients[k * step];
        for (int lane = 0; lane < LANES; lane++) sum[lane] += coefficient * pixels[k * plane + (size_t)lane];
      }
      for (int32_t x = start < cut.x0 ? cut.x0 : start; x < cut.x1 && x < start + LANES; x++) {
        bool inside = sum[x - start] > 0;
        mask[(size_t)y * (size_t)side + (size_t)x] = inside;
        area += inside;
      }
    }
  }
  return area;
}

static int64_t rect_area(kp_rect rect) { return (int64_t)(rect.x1 - rect.x0) * (rect.y1 - rect.y0); }

static int64_t count_in(const uint8_t *mask, int32_t side, kp_rect rect) {
  int64_t count = 0;
  for (int32_t y = rect.y0; y < rect.y1; y++) {
    for (int32_t x = rect.x0; x < rect.x1; x++) count += mask[(size_t)y * (size_t)side + (size_t)x];
  }
  return count;
}

int32_t kp_detections_choose(const kp_detections *detections, const kp_detection_settings *settings,
                             const uint32_t grid[][4], const kp_mask_frame *frame, const kp_detection_buffers *buffers,
                             uint8_t *masks) {
  int32_t side = frame->side, width = frame->width, height = frame->height;
  size_t pixels = (size_t)side * (size_t)side, row = (size_t)row_size(side);
  kp_planes rows = {
      buffers->prototypes, {KP_DETECTION_COEFFICIENTS, (size_t)side, (size_t)side}, {row * (size_t)side, row, 1}};
  kp_planes_copy(&rows, &detections->prototypes);
  kp_rect picture = kp_mask_rect(frame, (kp_rect){0, 0, width, height});
  kp_rect cells[KP_REGION_COUNT];
  int64_t best_both[KP_REGION_COUNT] = {0}, best_either[KP_REGION_COUNT]; /* pixels: intersection and union */
  for (int region = 0; region < KP_REGION_COUNT; region++) {
    cells[region] = kp_mask_rect(frame, kp_grid_box(grid[region], width, height));
    best_either[region] = 1;
  }
  memset(masks, 0, KP_REGION_COUNT * pixels);
  int32_t count = kp_detections_keep(detections, settings, buffers->kept);
  for (int32_t i = 0; i < count; i++) {
    size_t anchor = buffers->kept[i];
    float_box box = box_of(&detections->boxes, anchor);
    kp_rect cut = picture;
    cut_range(&cut.x0, &cut.x1, frame->scale, box.x0, box.x1);
    cut_range(&cut.y0, &cut.y1, frame->scale, box.y0, box.y1);
    memset(buffers->mask, 0, pixels);
    const kp_planes *weights = &detections->coefficients;
    int64_t area = draw_mask(weights->data + anchor * weights->strides[0], weights->strides[1], buffers->prototypes,
                             side, cut, buffers->mask);
    for (int region = 0; region < KP_REGION_COUNT; region++) {
      int64_t both = count_in(buffers->mask, side, cells[region]);
      int64_t either = area + rect_area(cells[region]) - both;
      if (both * best_either[region] <= best_both[region] * either) continue;
      best_both[region] = both;
      best_either[region] = either;
      memcpy(masks + (size_t)region * pixels, buffers->mask, pixels);
    }
  }
  return count;
}

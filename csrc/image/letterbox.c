#include <string.h>

#include "image/image.h"

static int32_t shorter_side(int32_t shorter, int32_t longer, int32_t side) {
  int64_t rounded = (2 * (int64_t)shorter * side + longer) / (2 * (int64_t)longer);
  return rounded < 1 ? 1 : (int32_t)rounded;
}

kp_letterbox kp_letterbox_fit(int32_t width, int32_t height, int32_t side) {
  kp_letterbox box = {0, 0, side, side};
  if (width < height) box.width = shorter_side(width, height, side);
  if (height < width) box.height = shorter_side(height, width, side);
  box.x = (side - box.width) / 2;
  box.y = (side - box.height) / 2;
  return box;
}

static void fill(uint8_t *dst, int32_t pixels, const uint8_t pad[3]) {
  for (int32_t i = 0; i < pixels; i++) memcpy(dst + 3 * (size_t)i, pad, 3);
}

kp_status kp_image_letterbox(kp_resizer *resizer, const kp_image *image, kp_rect rect, int32_t side,
                             const uint8_t pad[3], uint8_t *dst, kp_error *error) {
  kp_letterbox box = kp_letterbox_fit(rect.x1 - rect.x0, rect.y1 - rect.y0, side);
  size_t stride = 3 * (size_t)side;
  uint8_t *inside = dst + (size_t)box.y * stride + 3 * (size_t)box.x;
  KP_TRY(kp_image_resize(resizer, image, rect, box.width, box.height, inside, stride, error));
  for (int32_t y = 0; y < side; y++) {
    uint8_t *row = dst + (size_t)y * stride;
    if (y < box.y || y >= box.y + box.height) {
      fill(row, side, pad);
      continue;
    }
    fill(row, box.x, pad);
    int32_t end = box.x + box.width;
    fill(row + 3 * (size_t)end, side - end, pad);
  }
  return KP_OK;
}

#include "kernels/c/kernels_c.h"
#include "kernels/clip8.h"

void kp_resize_column_u8_c(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count, size_t n) {
  for (size_t j = 0; j < n; j++) {
    int32_t sum = KP_CLIP8_HALF;
    for (size_t i = 0; i < count; i++) {
      sum += rows[i][j] * weights[i];
    }
    dst[j] = kp_clip8(sum);
  }
}

#include "kernels/c/kernels_c.h"
#include "kernels/clip8.h"

void kp_resize_row_u8_c(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                        const int32_t *counts, const int32_t *weights, size_t weight_stride) {
  for (size_t x = 0; x < width; x++) {
    const uint8_t *first = src + (size_t)starts[x] * channels;
    const int32_t *w = weights + x * weight_stride;
    size_t count = (size_t)counts[x];
    for (size_t c = 0; c < channels; c++) {
      int32_t sum = KP_CLIP8_HALF;
      for (size_t i = 0; i < count; i++) {
        sum += first[i * channels + c] * w[i];
      }
      dst[x * channels + c] = kp_clip8(sum);
    }
  }
}

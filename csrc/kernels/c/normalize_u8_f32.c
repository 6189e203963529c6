#include "kernels/c/kernels_c.h"

/* The only implementation: the cost is one table look-up per byte, which vector gathers do not lower. */
void kp_normalize_u8_f32_c(float *dst, const uint8_t *src, size_t pixels, const float table[3][256]) {
  for (size_t i = 0; i < pixels; i++) {
    dst[3 * i] = table[0][src[3 * i]];
    dst[3 * i + 1] = table[1][src[3 * i + 1]];
    dst[3 * i + 2] = table[2][src[3 * i + 2]];
  }
}

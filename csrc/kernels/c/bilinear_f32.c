#include "kernels/c/kernels_c.h"

#include <math.h>

void kp_bilinear_f32_c(float *dst, const float *a, const float *b, const float *e, const float *f, float wx, float wy,
                       size_t channels) {
  for (size_t c = 0; c < channels; c++) {
    float top = fmaf(b[c] - a[c], wx, a[c]);
    float bottom = fmaf(f[c] - e[c], wx, e[c]);
    dst[c] = fmaf(bottom - top, wy, top);
  }
}

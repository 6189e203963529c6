#include <math.h>

#include "kernels/c/kernels_c.h"
#include "kernels/c/reduce_c.h"

void kp_layer_norm_f32_c(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                         size_t columns, float eps) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns;
    float *y = dst + r * columns;
    const float mean = kp_sum_f32_c(x, columns) / (float)columns;
    float lanes[16] = {0};
    for (size_t c = 0; c < columns; c++) {
      const float d = x[c] - mean;
      lanes[c % 16] += d * d;
    }
    const float variance = kp_reduce_add_f32_c(lanes) / (float)columns;
    const float scale = 1.0f / sqrtf(variance + eps);
    for (size_t c = 0; c < columns; c++) {
      const float normal = (x[c] - mean) * scale;
      if (gamma && beta) {
        y[c] = fmaf(normal, gamma[c], beta[c]);
      } else if (gamma) {
        y[c] = normal * gamma[c];
      } else {
        y[c] = beta ? normal + beta[c] : normal;
      }
    }
  }
}

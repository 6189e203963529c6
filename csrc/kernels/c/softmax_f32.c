#include <math.h>

#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"
#include "kernels/c/reduce_c.h"

void kp_softmax_f32_c(float *dst, const float *src, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns;
    float *y = dst + r * columns;
    float lanes[16];
    for (size_t l = 0; l < 16; l++) {
      lanes[l] = -INFINITY;
    }
    for (size_t c = 0; c < columns; c++) {
      lanes[c % 16] = lanes[c % 16] > x[c] ? lanes[c % 16] : x[c];
    }
    const float maximum = kp_reduce_max_f32_c(lanes);
    for (size_t c = 0; c < columns; c++) {
      y[c] = kp_exp_bounded_f32_c(x[c] - maximum);
    }
    const float sum = kp_sum_f32_c(y, columns);
    for (size_t c = 0; c < columns; c++) {
      y[c] = y[c] / sum;
    }
  }
}

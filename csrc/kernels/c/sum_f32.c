#include "kernels/c/kernels_c.h"
#include "kernels/c/reduce_c.h"

float kp_sum_f32_c(const float *src, size_t n) {
  float lanes[16] = {0};
  for (size_t i = 0; i < n; i++) {
    lanes[i % 16] += src[i];
  }
  return kp_reduce_add_f32_c(lanes);
}

void kp_sum_rows_f32_c(float *dst, const float *src, size_t stride, size_t rows, size_t columns) {
  for (size_t c = 0; c < columns; c++) {
    float lanes[16] = {0};
    for (size_t r = 0; r < rows; r++) {
      lanes[r % 16] += src[r * stride + c];
    }
    dst[c] = kp_reduce_add_f32_c(lanes);
  }
}

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

float kp_sum_f32_avx2(const float *src, size_t n) {
  __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    low = _mm256_add_ps(low, _mm256_loadu_ps(src + i));
    high = _mm256_add_ps(high, _mm256_loadu_ps(src + i + 8));
  }
  if (i + 8 <= n) {
    low = _mm256_add_ps(low, _mm256_loadu_ps(src + i));
    high = _mm256_add_ps(high, kp_load_partial_f32_avx2(src + i + 8, n - i - 8));
  } else {
    low = _mm256_add_ps(low, kp_load_partial_f32_avx2(src + i, n - i));
  }
  return kp_reduce_add_f32_avx2(low, high);
}

/* Eight columns or fewer: one register for each lane. */
KP_SPECIALIZED void sum_columns(float *dst, const float *src, size_t stride, size_t rows, size_t columns) {
  __m256 lanes[16];
  KP_UNROLL
  for (size_t l = 0; l < 16; l++) {
    lanes[l] = _mm256_setzero_ps();
  }
  size_t r = 0;
  for (; r + 16 <= rows; r += 16) {
    KP_UNROLL
    for (size_t l = 0; l < 16; l++) {
      lanes[l] = _mm256_add_ps(lanes[l], kp_load_partial_f32_avx2(src + (r + l) * stride, columns));
    }
  }
  KP_UNROLL
  for (size_t l = 0; l < 15; l++) {
    if (r + l < rows) lanes[l] = _mm256_add_ps(lanes[l], kp_load_partial_f32_avx2(src + (r + l) * stride, columns));
  }
  KP_UNROLL
  for (size_t l = 0; l < 8; l++) {
    lanes[l] = _mm256_add_ps(lanes[l], lanes[l + 8]);
  }
  KP_UNROLL
  for (size_t l = 0; l < 4; l++) {
    lanes[l] = _mm256_add_ps(lanes[l], lanes[l + 4]);
  }
  const __m256 even = _mm256_add_ps(lanes[0], lanes[2]), odd = _mm256_add_ps(lanes[1], lanes[3]);
  kp_store_partial_f32_avx2(dst, columns, _mm256_add_ps(even, odd));
}

void kp_sum_rows_f32_avx2(float *dst, const float *src, size_t stride, size_t rows, size_t columns) {
  size_t c = 0;
  for (; c + 8 <= columns; c += 8) {
    sum_columns(dst + c, src + c, stride, rows, 8);
  }
  if (c < columns) sum_columns(dst + c, src + c, stride, rows, columns - c);
}

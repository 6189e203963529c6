#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

float kp_sum_f32_avx512(const float *src, size_t n) {
  __m512 lanes = _mm512_setzero_ps();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    lanes = _mm512_add_ps(lanes, _mm512_loadu_ps(src + i));
  }
  if (i < n) lanes = _mm512_add_ps(lanes, _mm512_maskz_loadu_ps(kp_lanes_avx512(n - i), src + i));
  return kp_reduce_add_f32_avx512(lanes);
}

/* Sixteen columns or fewer, by `mask`: one register for each lane. */
KP_SPECIALIZED __m512 sum_columns(const float *src, size_t stride, size_t rows, __mmask16 mask) {
  __m512 lanes[16];
  KP_UNROLL
  for (size_t l = 0; l < 16; l++) {
    lanes[l] = _mm512_setzero_ps();
  }
  size_t r = 0;
  for (; r + 16 <= rows; r += 16) {
    KP_UNROLL
    for (size_t l = 0; l < 16; l++) {
      lanes[l] = _mm512_add_ps(lanes[l], _mm512_maskz_loadu_ps(mask, src + (r + l) * stride));
    }
  }
  KP_UNROLL
  for (size_t l = 0; l < 15; l++) {
    if (r + l < rows) lanes[l] = _mm512_add_ps(lanes[l], _mm512_maskz_loadu_ps(mask, src + (r + l) * stride));
  }
  KP_UNROLL
  for (size_t l = 0; l < 8; l++) {
    lanes[l] = _mm512_add_ps(lanes[l], lanes[l + 8]);
  }
  KP_UNROLL
  for (size_t l = 0; l < 4; l++) {
    lanes[l] = _mm512_add_ps(lanes[l], lanes[l + 4]);
  }
  const __m512 even = _mm512_add_ps(lanes[0], lanes[2]), odd = _mm512_add_ps(lanes[1], lanes[3]);
  return _mm512_add_ps(even, odd);
}

void kp_sum_rows_f32_avx512(float *dst, const float *src, size_t stride, size_t rows, size_t columns) {
  size_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    _mm512_storeu_ps(dst + c, sum_columns(src + c, stride, rows, 0xffff));
  }
  if (c < columns) {
    const __m512 sums = sum_columns(src + c, stride, rows, kp_lanes_avx512(columns - c));
    kp_store_partial_f32_avx512(dst + c, columns - c, sums);
  }
}

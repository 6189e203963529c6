#include <math.h>

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

void kp_softmax_f32_avx512(float *dst, const float *src, size_t rows, size_t columns) {
  const size_t whole = columns & ~(size_t)15;
  const __mmask16 tail = kp_lanes_avx512(columns - whole);
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns;
    float *y = dst + r * columns;
    __m512 lanes = _mm512_set1_ps(-INFINITY);
    for (size_t c = 0; c < whole; c += 16) {
      lanes = _mm512_max_ps(lanes, _mm512_loadu_ps(x + c));
    }
    lanes = _mm512_mask_max_ps(lanes, tail, lanes, _mm512_maskz_loadu_ps(tail, x + whole));
    const __m512 maximum = _mm512_set1_ps(kp_reduce_max_f32_avx512(lanes));
    lanes = _mm512_setzero_ps();
    for (size_t c = 0; c < whole; c += 16) {
      const __m512 e = kp_exp_bounded_f32_avx512(_mm512_sub_ps(_mm512_loadu_ps(x + c), maximum));
      lanes = _mm512_add_ps(lanes, e);
      _mm512_storeu_ps(y + c, e);
    }
    const __m512 shifted = _mm512_sub_ps(_mm512_maskz_loadu_ps(tail, x + whole), maximum);
    const __m512 last = _mm512_maskz_mov_ps(tail, kp_exp_bounded_f32_avx512(shifted));
    lanes = _mm512_add_ps(lanes, last);
    const __m512 sum = _mm512_set1_ps(kp_reduce_add_f32_avx512(lanes));
    for (size_t c = 0; c < whole; c += 16) {
      _mm512_storeu_ps(y + c, _mm512_div_ps(_mm512_loadu_ps(y + c), sum));
    }
    kp_store_partial_f32_avx512(y + whole, columns - whole, _mm512_div_ps(last, sum));
  }
}

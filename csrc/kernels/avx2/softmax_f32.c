#include <math.h>

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

/* exp(x - maximum) of n <= 8 elements; zero in the other lanes. */
KP_SPECIALIZED __m256 exponentials(float *dst, const float *src, size_t n, __m256 maximum) {
  __m256 e = kp_exp_bounded_f32_avx2(_mm256_sub_ps(kp_load_partial_f32_avx2(src, n), maximum));
  kp_store_partial_f32_avx2(dst, n, e);
  return n == 8 ? e : _mm256_and_ps(e, _mm256_castsi256_ps(kp_lanes_avx2(n)));
}

KP_SPECIALIZED __m256 larger(__m256 lanes, const float *src, size_t n) {
  const __m256 x = _mm256_max_ps(lanes, kp_load_partial_f32_avx2(src, n));
  return n == 8 ? x : _mm256_blendv_ps(lanes, x, _mm256_castsi256_ps(kp_lanes_avx2(n)));
}

void kp_softmax_f32_avx2(float *dst, const float *src, size_t rows, size_t columns) {
  const size_t whole = columns & ~(size_t)15;
  const size_t low_tail = columns - whole < 8 ? columns - whole : 8;
  const size_t high_tail = columns - whole - low_tail;
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns;
    float *y = dst + r * columns;
    __m256 low = _mm256_set1_ps(-INFINITY), high = low;
    for (size_t c = 0; c < whole; c += 16) {
      low = larger(low, x + c, 8);
      high = larger(high, x + c + 8, 8);
    }
    if (low_tail > 0) low = larger(low, x + whole, low_tail);
    if (high_tail > 0) high = larger(high, x + whole + 8, high_tail);
    const __m256 maximum = _mm256_set1_ps(kp_reduce_max_f32_avx2(low, high));
    low = high = _mm256_setzero_ps();
    for (size_t c = 0; c < whole; c += 16) {
      low = _mm256_add_ps(low, exponentials(y + c, x + c, 8, maximum));
      high = _mm256_add_ps(high, exponentials(y + c + 8, x + c + 8, 8, maximum));
    }
    if (low_tail > 0) low = _mm256_add_ps(low, exponentials(y + whole, x + whole, low_tail, maximum));
    if (high_tail > 0) high = _mm256_add_ps(high, exponentials(y + whole + 8, x + whole + 8, high_tail, maximum));
    const __m256 sum = _mm256_set1_ps(kp_reduce_add_f32_avx2(low, high));
    size_t c = 0;
    for (; c + 8 <= columns; c += 8) {
      _mm256_storeu_ps(y + c, _mm256_div_ps(_mm256_loadu_ps(y + c), sum));
    }
    if (c < columns) {
      const __m256 last = kp_load_partial_f32_avx2(y + c, columns - c);
      kp_store_partial_f32_avx2(y + c, columns - c, _mm256_div_ps(last, sum));
    }
  }
}

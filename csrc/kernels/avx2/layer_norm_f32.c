#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

#define ROWS 2

/* A row's 16 lanes. */
typedef struct lanes16 {
  __m256 low, high;
} lanes16;

/* The ends of two sums in 16 lanes at once: every element of a 128-bit half is a row's. */
KP_SPECIALIZED __m256 reduce_rows(const lanes16 lanes[ROWS]) {
  const __m256 a = _mm256_add_ps(lanes[0].low, lanes[0].high), b = _mm256_add_ps(lanes[1].low, lanes[1].high);
  const __m256 four = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  const __m256 two = _mm256_add_ps(four, _mm256_permute_ps(four, 0x4e));
  return _mm256_add_ps(two, _mm256_permute_ps(two, 0xb1));
}

/* Every lane the value of one row. */
KP_SPECIALIZED void broadcast_rows(__m256 rows[ROWS], __m256 packed) {
  rows[0] = _mm256_permute2f128_ps(packed, packed, 0x00);
  rows[1] = _mm256_permute2f128_ps(packed, packed, 0x11);
}

KP_SPECIALIZED __m256 add_square(__m256 lanes, __m256 d) { return _mm256_add_ps(lanes, _mm256_mul_ps(d, d)); }

/* x - mean of the first n elements, n <= 8, then zeros. */
KP_SPECIALIZED __m256 centered(const float *src, size_t n, __m256 mean) {
  const __m256 d = _mm256_sub_ps(kp_load_partial_f32_avx2(src, n), mean);
  return n == 8 ? d : _mm256_and_ps(d, _mm256_castsi256_ps(kp_lanes_avx2(n)));
}

/* `n` <= 8 columns of `rows` rows. */
KP_SPECIALIZED void finish(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                           size_t columns, size_t n, const __m256 mean[ROWS], const __m256 scale[ROWS]) {
  const __m256 g = gamma ? kp_load_partial_f32_avx2(gamma, n) : _mm256_setzero_ps();
  const __m256 b = beta ? kp_load_partial_f32_avx2(beta, n) : _mm256_setzero_ps();
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    __m256 y = _mm256_mul_ps(_mm256_sub_ps(kp_load_partial_f32_avx2(src + r * columns, n), mean[r]), scale[r]);
    if (gamma && beta) {
      y = _mm256_fmadd_ps(y, g, b);
    } else if (gamma) {
      y = _mm256_mul_ps(y, g);
    } else if (beta) {
      y = _mm256_add_ps(y, b);
    }
    kp_store_partial_f32_avx2(dst + r * columns, n, y);
  }
}

/* `rows` <= ROWS rows together, so that their chains of additions overlap. */
KP_SPECIALIZED void normalize(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                              size_t columns, float eps) {
  const size_t whole = columns & ~(size_t)15;
  const size_t low_tail = columns - whole < 8 ? columns - whole : 8;
  const size_t high_tail = columns - whole - low_tail;
  const __m256 count = _mm256_set1_ps((float)columns);
  const lanes16 zero = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  lanes16 lanes[ROWS] = {zero, zero};
  __m256 mean[ROWS], scale[ROWS];
  for (size_t c = 0; c < whole; c += 16) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const float *x = src + r * columns + c;
      lanes[r].low = _mm256_add_ps(lanes[r].low, _mm256_loadu_ps(x));
      lanes[r].high = _mm256_add_ps(lanes[r].high, _mm256_loadu_ps(x + 8));
    }
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns + whole;
    if (low_tail > 0) lanes[r].low = _mm256_add_ps(lanes[r].low, kp_load_partial_f32_avx2(x, low_tail));
    if (high_tail > 0) lanes[r].high = _mm256_add_ps(lanes[r].high, kp_load_partial_f32_avx2(x + 8, high_tail));
  }
  broadcast_rows(mean, _mm256_div_ps(reduce_rows(lanes), count));
  lanes[0] = lanes[1] = zero;
  for (size_t c = 0; c < whole; c += 16) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const float *x = src + r * columns + c;
      lanes[r].low = add_square(lanes[r].low, centered(x, 8, mean[r]));
      lanes[r].high = add_square(lanes[r].high, centered(x + 8, 8, mean[r]));
    }
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns + whole;
    if (low_tail > 0) lanes[r].low = add_square(lanes[r].low, centered(x, low_tail, mean[r]));
    if (high_tail > 0) lanes[r].high = add_square(lanes[r].high, centered(x + 8, high_tail, mean[r]));
  }
  const __m256 variance = _mm256_div_ps(reduce_rows(lanes), count);
  broadcast_rows(scale,
                 _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_sqrt_ps(_mm256_add_ps(variance, _mm256_set1_ps(eps)))));
  size_t c = 0;
  for (; c + 8 <= columns; c += 8) {
    finish(dst + c, src + c, gamma ? gamma + c : NULL, beta ? beta + c : NULL, rows, columns, 8, mean, scale);
  }
  if (c < columns) {
    finish(dst + c, src + c, gamma ? gamma + c : NULL, beta ? beta + c : NULL, rows, columns, columns - c, mean, scale);
  }
}

void kp_layer_norm_f32_avx2(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                            size_t columns, float eps) {
  size_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    normalize(dst + r * columns, src + r * columns, gamma, beta, ROWS, columns, eps);
  }
  for (; r < rows; r++) {
    normalize(dst + r * columns, src + r * columns, gamma, beta, 1, columns, eps);
  }
}

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

#define ROWS 4

/* The ends of four sums in 16 lanes at once: element 0 of each 128-bit part is a row's. */
KP_SPECIALIZED __m512 reduce_rows(const __m512 lanes[ROWS]) {
  const __m512 ab =
      _mm512_add_ps(_mm512_shuffle_f32x4(lanes[0], lanes[1], 0x44), _mm512_shuffle_f32x4(lanes[0], lanes[1], 0xee));
  const __m512 cd =
      _mm512_add_ps(_mm512_shuffle_f32x4(lanes[2], lanes[3], 0x44), _mm512_shuffle_f32x4(lanes[2], lanes[3], 0xee));
  const __m512 four = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
  const __m512 two = _mm512_add_ps(four, _mm512_permute_ps(four, 0x4e));
  return _mm512_add_ps(two, _mm512_permute_ps(two, 0xb1));
}

/* Every lane the value of one row. */
KP_SPECIALIZED void broadcast_rows(__m512 rows[ROWS], __m512 packed) {
  KP_UNROLL
  for (size_t r = 0; r < ROWS; r++) {
    rows[r] = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * (int)r), packed);
  }
}

KP_SPECIALIZED __m512 scaled(__m512 x, __m512 mean, __m512 scale) {
  return _mm512_mul_ps(_mm512_sub_ps(x, mean), scale);
}

KP_SPECIALIZED __m512 affine(__m512 y, __m512 g, __m512 b, bool with_gamma, bool with_beta) {
  if (with_gamma && with_beta) return _mm512_fmadd_ps(y, g, b);
  if (with_gamma) return _mm512_mul_ps(y, g);
  return with_beta ? _mm512_add_ps(y, b) : y;
}

/* `rows` <= ROWS rows together, so that their chains of additions overlap. */
KP_SPECIALIZED void normalize(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                              size_t columns, float eps) {
  const size_t whole = columns & ~(size_t)15;
  const __mmask16 tail = kp_lanes_avx512(columns - whole);
  const __m512 count = _mm512_set1_ps((float)columns);
  __m512 lanes[ROWS], mean[ROWS], scale[ROWS];
  KP_UNROLL
  for (size_t r = 0; r < ROWS; r++) {
    lanes[r] = _mm512_setzero_ps();
  }
  for (size_t c = 0; c < whole; c += 16) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      lanes[r] = _mm512_add_ps(lanes[r], _mm512_loadu_ps(src + r * columns + c));
    }
  }
  if (tail) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      lanes[r] = _mm512_add_ps(lanes[r], _mm512_maskz_loadu_ps(tail, src + r * columns + whole));
    }
  }
  broadcast_rows(mean, _mm512_div_ps(reduce_rows(lanes), count));
  KP_UNROLL
  for (size_t r = 0; r < ROWS; r++) {
    lanes[r] = _mm512_setzero_ps();
  }
  for (size_t c = 0; c < whole; c += 16) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(src + r * columns + c), mean[r]);
      lanes[r] = _mm512_add_ps(lanes[r], _mm512_mul_ps(d, d));
    }
  }
  if (tail) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const __m512 d = _mm512_maskz_sub_ps(tail, _mm512_maskz_loadu_ps(tail, src + r * columns + whole), mean[r]);
      lanes[r] = _mm512_add_ps(lanes[r], _mm512_mul_ps(d, d));
    }
  }
  const __m512 variance = _mm512_div_ps(reduce_rows(lanes), count);
  broadcast_rows(scale,
                 _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_add_ps(variance, _mm512_set1_ps(eps)))));
  for (size_t c = 0; c < whole; c += 16) {
    const __m512 g = gamma ? _mm512_loadu_ps(gamma + c) : _mm512_setzero_ps();
    const __m512 b = beta ? _mm512_loadu_ps(beta + c) : _mm512_setzero_ps();
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const __m512 normal = scaled(_mm512_loadu_ps(src + r * columns + c), mean[r], scale[r]);
      _mm512_storeu_ps(dst + r * columns + c, affine(normal, g, b, gamma, beta));
    }
  }
  if (tail) {
    const __m512 g = gamma ? _mm512_maskz_loadu_ps(tail, gamma + whole) : _mm512_setzero_ps();
    const __m512 b = beta ? _mm512_maskz_loadu_ps(tail, beta + whole) : _mm512_setzero_ps();
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const __m512 normal = scaled(_mm512_maskz_loadu_ps(tail, src + r * columns + whole), mean[r], scale[r]);
      kp_store_partial_f32_avx512(dst + r * columns + whole, columns - whole, affine(normal, g, b, gamma, beta));
    }
  }
}

void kp_layer_norm_f32_avx512(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                              size_t columns, float eps) {
  size_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    normalize(dst + r * columns, src + r * columns, gamma, beta, ROWS, columns, eps);
  }
  for (; r < rows; r++) {
    normalize(dst + r * columns, src + r * columns, gamma, beta, 1, columns, eps);
  }
}

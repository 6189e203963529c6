/* The int8 epilogues' functions on vectors of 16 lanes, each operation as in c/math_c.h. They take `count` vectors at
 * a time and advance them step by step: a polynomial is one long chain, and the processor's scheduler sees too few of
 * them when they come one after another. */
#ifndef KP_KERNELS_AVX512_MATH_I8_AVX512_H
#define KP_KERNELS_AVX512_MATH_I8_AVX512_H

#include "kernels/avx512/math_avx512.h"

/* Vectors that are advanced together, at most. */
#define KP_GROUP_AVX512 8

/* Nothing; but compilers reorder the steps of different chains, and no further than this. */
KP_SPECIALIZED void kp_keep_abreast_avx512(__m512 *x, size_t count) {
  if (count == 4) __asm__("" : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3]));
  if (count == 6) __asm__("" : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3]), "+v"(x[4]), "+v"(x[5]));
  if (count == 8) {
    __asm__("" : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3]), "+v"(x[4]), "+v"(x[5]), "+v"(x[6]), "+v"(x[7]));
  }
}

KP_SPECIALIZED void kp_horner_step_avx512(__m512 *u, const __m512 *a, size_t count, float coefficient) {
  KP_UNROLL
  for (size_t i = 0; i < count; i++) u[i] = _mm512_fmadd_ps(u[i], a[i], _mm512_set1_ps(coefficient));
  kp_keep_abreast_avx512(u, count);
}

/* The smaller of the magnitudes of x and limit, the latter where x is a NaN. */
KP_SPECIALIZED __m512 kp_bounded_magnitude_avx512(__m512 x, float limit) {
  return _mm512_range_ps(x, _mm512_set1_ps(limit), 0xa);
}

/* x = max(x, 0) - a * (c[0] + c[1] a + ... + c[8] a^8), a = min(|x|, limit). max returns its second operand where one
 * is a NaN. The compiler, which cannot see what `c` points to, leaves the coefficients in memory: in registers, all
 * through the loops around, they would displace accumulators. */
KP_SPECIALIZED void kp_rectified_polynomial_avx512(__m512 *x, size_t count, float limit, const float *c) {
  __m512 a[KP_GROUP_AVX512], u[KP_GROUP_AVX512];
  __asm__("" : "+r"(c));
  KP_UNROLL
  for (size_t i = 0; i < count; i++) {
    a[i] = kp_bounded_magnitude_avx512(x[i], limit);
    u[i] = _mm512_set1_ps(c[8]);
  }
  KP_UNROLL
  for (size_t j = 8; j-- > 0;) kp_horner_step_avx512(u, a, count, c[j]);
  KP_UNROLL
  for (size_t i = 0; i < count; i++) x[i] = _mm512_fnmadd_ps(u[i], a[i], _mm512_max_ps(x[i], _mm512_setzero_ps()));
}

static const float kp_silu_i8_coefficients_avx512[9] = {KP_SILU_I8_C1, KP_SILU_I8_C2, KP_SILU_I8_C3,
                                                        KP_SILU_I8_C4, KP_SILU_I8_C5, KP_SILU_I8_C6,
                                                        KP_SILU_I8_C7, KP_SILU_I8_C8, KP_SILU_I8_C9};
static const float kp_gelu_i8_coefficients_avx512[9] = {KP_GELU_I8_C1, KP_GELU_I8_C2, KP_GELU_I8_C3,
                                                        KP_GELU_I8_C4, KP_GELU_I8_C5, KP_GELU_I8_C6,
                                                        KP_GELU_I8_C7, KP_GELU_I8_C8, KP_GELU_I8_C9};

KP_SPECIALIZED void kp_silu_i8_avx512(__m512 *x, size_t count) {
  kp_rectified_polynomial_avx512(x, count, KP_SILU_I8_LIMIT, kp_silu_i8_coefficients_avx512);
}

KP_SPECIALIZED void kp_gelu_i8_avx512(__m512 *x, size_t count) {
  kp_rectified_polynomial_avx512(x, count, KP_GELU_I8_LIMIT, kp_gelu_i8_coefficients_avx512);
}

/* The quantised values, but that what is above 127 is left to a narrowing that saturates: from KP_ROUNDING_SHIFT - 128
 * on, floats and their bits have the same order. */
KP_SPECIALIZED __m512i kp_quantize_f32_avx512(__m512 y, __m512 inverse, __m512 shift) {
  const __m512 t = _mm512_max_ps(_mm512_fmadd_ps(y, inverse, shift), _mm512_set1_ps(KP_ROUNDING_SHIFT - 128.0f));
  return _mm512_sub_epi32(_mm512_castps_si512(t), _mm512_castps_si512(_mm512_set1_ps(KP_ROUNDING_SHIFT)));
}

/* Stores the first n bytes, n < 16, in pieces, as kp_store_partial_f32_avx512 does. */
KP_SPECIALIZED void kp_store_partial_i8_avx512(int8_t *dst, size_t n, __m128i x) {
  if (n & 8) {
    _mm_storel_epi64((__m128i *)dst, x);
    x = _mm_unpackhi_epi64(x, x);
    dst += 8;
  }
  uint64_t rest = (uint64_t)_mm_cvtsi128_si64(x);
  if (n & 4) {
    _mm_storeu_si32(dst, _mm_cvtsi32_si128((int)rest));
    rest >>= 32;
    dst += 4;
  }
  if (n & 2) {
    _mm_storeu_si16(dst, _mm_cvtsi32_si128((int)rest));
    rest >>= 16;
    dst += 2;
  }
  if (n & 1) *dst = (int8_t)rest;
}

#endif /* KP_KERNELS_AVX512_MATH_I8_AVX512_H */

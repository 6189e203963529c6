/* The elementary functions on 16 lanes, each operation as in c/math_c.h. Always inlined, so that a constant `unary` or
 * `act` leaves one function's code in a loop. */
#ifndef KP_KERNELS_AVX512_MATH_AVX512_H
#define KP_KERNELS_AVX512_MATH_AVX512_H

#include <immintrin.h>

#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "kernels/unroll.h"

/* A mask of the lowest n lanes, n <= 16. */
KP_SPECIALIZED __mmask16 kp_lanes_avx512(size_t n) { return (__mmask16)((1u << n) - 1u); }

/* Stores the first n lanes, n < 16, in pieces: on Zen 4 a masked store in their place made an epilogue over adjacent
 * rows of 24 columns 3.4 times slower, and of 40 columns 1.8 times. */
KP_SPECIALIZED void kp_store_partial_f32_avx512(float *dst, size_t n, __m512 x) {
  __m256 eight = _mm512_castps512_ps256(x);
  if (n & 8) {
    _mm256_storeu_ps(dst, eight);
    eight = _mm512_extractf32x8_ps(x, 1);
    dst += 8;
  }
  __m128 four = _mm256_castps256_ps128(eight);
  if (n & 4) {
    _mm_storeu_ps(dst, four);
    four = _mm256_extractf128_ps(eight, 1);
    dst += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64 *)dst, four);
    four = _mm_movehl_ps(four, four);
    dst += 2;
  }
  if (n & 1) _mm_store_ss(dst, four);
}

/* min and max keep a NaN in x: the instructions return their second operand where one is NaN. */
KP_SPECIALIZED __m512 kp_at_least_f32_avx512(__m512 x, float low) { return _mm512_max_ps(_mm512_set1_ps(low), x); }
KP_SPECIALIZED __m512 kp_at_most_f32_avx512(__m512 x, float high) { return _mm512_min_ps(_mm512_set1_ps(high), x); }

/* exp(r) - 1 for x = n * ln 2 + r; *n receives n as a float. */
KP_SPECIALIZED __m512 kp_exp_split_f32_avx512(__m512 x, __m512 *n) {
  const __m512 shift = _mm512_set1_ps(KP_ROUNDING_SHIFT);
  *n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(KP_LOG2_E), shift), shift);
  __m512 r = _mm512_fnmadd_ps(*n, _mm512_set1_ps(KP_LN2_HIGH), x);
  r = _mm512_fnmadd_ps(*n, _mm512_set1_ps(KP_LN2_LOW), r);
  __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(KP_EXP_C4), r, _mm512_set1_ps(KP_EXP_C3));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(KP_EXP_C2));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(KP_EXP_C1));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(KP_EXP_C0));
  return _mm512_fmadd_ps(q, _mm512_mul_ps(r, r), r);
}

/* exp for x <= KP_EXP_MAX. scalef rounds once, as the scalar code's two steps do. */
KP_SPECIALIZED __m512 kp_exp_bounded_f32_avx512(__m512 x) {
  __m512 n;
  const __m512 p = kp_exp_split_f32_avx512(kp_at_least_f32_avx512(x, KP_EXP_MIN), &n);
  return _mm512_scalef_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), p), n);
}

KP_SPECIALIZED __m512 kp_exp_f32_avx512(__m512 x) {
  return kp_exp_bounded_f32_avx512(kp_at_most_f32_avx512(x, KP_EXP_MAX));
}

KP_SPECIALIZED __m512 kp_sigmoid_f32_avx512(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 e = kp_exp_bounded_f32_avx512(_mm512_or_ps(x, _mm512_set1_ps(-0.0f)));
  return _mm512_div_ps(_mm512_mask_mov_ps(one, _mm512_movepi32_mask(_mm512_castps_si512(x)), e), _mm512_add_ps(one, e));
}

KP_SPECIALIZED __m512 kp_tanh_f32_avx512(__m512 x) {
  const __m512 sign = _mm512_set1_ps(-0.0f);
  __m512 n;
  const __m512 magnitude = kp_at_most_f32_avx512(_mm512_andnot_ps(sign, x), KP_TANH_MAX);
  const __m512 p = kp_exp_split_f32_avx512(_mm512_mul_ps(_mm512_set1_ps(-2.0f), magnitude), &n);
  const __m512 scale = _mm512_scalef_ps(_mm512_set1_ps(1.0f), n);
  const __m512 m = _mm512_fmadd_ps(p, scale, _mm512_sub_ps(scale, _mm512_set1_ps(1.0f)));
  const __m512 quotient = _mm512_div_ps(m, _mm512_add_ps(_mm512_set1_ps(2.0f), m));
  return _mm512_or_ps(_mm512_andnot_ps(sign, quotient), _mm512_and_ps(sign, x));
}

KP_SPECIALIZED __m512 kp_phi_f32_avx512(__m512 x) {
  x = kp_at_most_f32_avx512(kp_at_least_f32_avx512(x, -KP_PHI_MAX), KP_PHI_MAX);
  const __m512 t = _mm512_mul_ps(x, x);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(KP_PHI_P5), t, _mm512_set1_ps(KP_PHI_P4));
  __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(KP_PHI_Q5), t, _mm512_set1_ps(KP_PHI_Q4));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(KP_PHI_P3));
  q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(KP_PHI_Q3));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(KP_PHI_P2));
  q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(KP_PHI_Q2));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(KP_PHI_P1));
  q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(KP_PHI_Q1));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(KP_PHI_P0));
  q = _mm512_fmadd_ps(q, t, _mm512_set1_ps(1.0f));
  return _mm512_add_ps(_mm512_set1_ps(0.5f), _mm512_mul_ps(x, _mm512_div_ps(p, q)));
}

KP_SPECIALIZED __m512 kp_relu_f32_avx512(__m512 x) { return kp_at_least_f32_avx512(x, 0.0f); }

KP_SPECIALIZED __m512 kp_relu6_f32_avx512(__m512 x) { return kp_at_most_f32_avx512(kp_relu_f32_avx512(x), 6.0f); }

KP_SPECIALIZED __m512 kp_hardsigmoid_f32_avx512(__m512 x) {
  return _mm512_mul_ps(kp_relu6_f32_avx512(_mm512_add_ps(x, _mm512_set1_ps(3.0f))), _mm512_set1_ps(KP_ONE_SIXTH));
}

KP_SPECIALIZED __m512 kp_gelu_tanh_f32_avx512(__m512 x) {
  const __m512 slope =
      _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(KP_GELU_TANH_B), _mm512_set1_ps(KP_GELU_TANH_A));
  return _mm512_mul_ps(x, kp_sigmoid_f32_avx512(_mm512_mul_ps(x, slope)));
}

KP_SPECIALIZED __m512 kp_quick_gelu_f32_avx512(__m512 x) {
  return _mm512_mul_ps(x, kp_sigmoid_f32_avx512(_mm512_mul_ps(_mm512_set1_ps(KP_QUICK_GELU_SLOPE), x)));
}

KP_SPECIALIZED __m512 kp_apply_unary_f32_avx512(kp_unary unary, __m512 x) {
  switch (unary) {
    case KP_RELU:
      return kp_relu_f32_avx512(x);
    case KP_RELU6:
      return kp_relu6_f32_avx512(x);
    case KP_HARDSWISH:
      return _mm512_mul_ps(x, kp_hardsigmoid_f32_avx512(x));
    case KP_HARDSIGMOID:
      return kp_hardsigmoid_f32_avx512(x);
    case KP_SIGMOID:
      return kp_sigmoid_f32_avx512(x);
    case KP_SILU:
      return _mm512_mul_ps(x, kp_sigmoid_f32_avx512(x));
    case KP_GELU:
      return _mm512_mul_ps(x, kp_phi_f32_avx512(x));
    case KP_GELU_TANH:
      return kp_gelu_tanh_f32_avx512(x);
    case KP_QUICK_GELU:
      return kp_quick_gelu_f32_avx512(x);
    case KP_TANH:
      return kp_tanh_f32_avx512(x);
    case KP_EXP:
      return kp_exp_f32_avx512(x);
    case KP_SQRT:
      return _mm512_sqrt_ps(x);
    case KP_UNARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED __m512 kp_apply_act_f32_avx512(kp_act act, __m512 x) {
  return act == KP_ACT_NONE ? x : kp_apply_unary_f32_avx512((kp_unary)(act - 1), x);
}

/* "Sums in 16 lanes": the tree that ends them. */
KP_SPECIALIZED float kp_reduce_add_f32_avx512(__m512 lanes) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The largest lane. */
KP_SPECIALIZED float kp_reduce_max_f32_avx512(__m512 lanes) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif /* KP_KERNELS_AVX512_MATH_AVX512_H */

/* The elementary functions on 8 lanes, each operation as in c/math_c.h. Always inlined, so that a constant `unary` or
 * `act` leaves one function's code in a loop. */
#ifndef KP_KERNELS_AVX2_MATH_AVX2_H
#define KP_KERNELS_AVX2_MATH_AVX2_H

#include <immintrin.h>

#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "kernels/unroll.h"

/* A mask for maskload and maskstore of the lowest n lanes, n <= 8. */
KP_SPECIALIZED __m256i kp_lanes_avx2(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n elements of src, n <= 8, then zeros. */
KP_SPECIALIZED __m256 kp_load_partial_f32_avx2(const float *src, size_t n) {
  return n == 8 ? _mm256_loadu_ps(src) : _mm256_maskload_ps(src, kp_lanes_avx2(n));
}

/* The first n lanes, n <= 8. */
KP_SPECIALIZED void kp_store_partial_f32_avx2(float *dst, size_t n, __m256 x) {
  if (n == 8) {
    _mm256_storeu_ps(dst, x);
  } else {
    _mm256_maskstore_ps(dst, kp_lanes_avx2(n), x);
  }
}

/* min and max keep a NaN in x: the instructions return their second operand where one is NaN. */
KP_SPECIALIZED __m256 kp_at_least_f32_avx2(__m256 x, float low) { return _mm256_max_ps(_mm256_set1_ps(low), x); }
KP_SPECIALIZED __m256 kp_at_most_f32_avx2(__m256 x, float high) { return _mm256_min_ps(_mm256_set1_ps(high), x); }

/* 2^n, -126 <= n <= 127. */
KP_SPECIALIZED __m256 kp_power_of_two_f32_avx2(__m256i n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* exp(r) - 1 for x = n * ln 2 + r. */
KP_SPECIALIZED __m256 kp_exp_split_f32_avx2(__m256 x, __m256i *n) {
  const __m256 shift = _mm256_set1_ps(KP_ROUNDING_SHIFT);
  const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(KP_LOG2_E), shift);
  const __m256 integer = _mm256_sub_ps(shifted, shift);
  __m256 r = _mm256_fnmadd_ps(integer, _mm256_set1_ps(KP_LN2_HIGH), x);
  r = _mm256_fnmadd_ps(integer, _mm256_set1_ps(KP_LN2_LOW), r);
  __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(KP_EXP_C4), r, _mm256_set1_ps(KP_EXP_C3));
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(KP_EXP_C2));
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(KP_EXP_C1));
  q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(KP_EXP_C0));
  *n = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_castps_si256(shift));
  return _mm256_fmadd_ps(q, _mm256_mul_ps(r, r), r);
}

/* exp for x <= KP_EXP_MAX. */
KP_SPECIALIZED __m256 kp_exp_bounded_f32_avx2(__m256 x) {
  __m256i n;
  const __m256 p = kp_exp_split_f32_avx2(kp_at_least_f32_avx2(x, KP_EXP_MIN), &n);
  const __m256i half = _mm256_srai_epi32(n, 1);
  return _mm256_mul_ps(_mm256_mul_ps(_mm256_add_ps(_mm256_set1_ps(1.0f), p), kp_power_of_two_f32_avx2(half)),
                       kp_power_of_two_f32_avx2(_mm256_sub_epi32(n, half)));
}

KP_SPECIALIZED __m256 kp_exp_f32_avx2(__m256 x) { return kp_exp_bounded_f32_avx2(kp_at_most_f32_avx2(x, KP_EXP_MAX)); }

KP_SPECIALIZED __m256 kp_sigmoid_f32_avx2(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 e = kp_exp_bounded_f32_avx2(_mm256_or_ps(x, _mm256_set1_ps(-0.0f)));
  return _mm256_div_ps(_mm256_blendv_ps(one, e, x), _mm256_add_ps(one, e));
}

KP_SPECIALIZED __m256 kp_tanh_f32_avx2(__m256 x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256i n;
  const __m256 magnitude = kp_at_most_f32_avx2(_mm256_andnot_ps(sign, x), KP_TANH_MAX);
  const __m256 p = kp_exp_split_f32_avx2(_mm256_mul_ps(_mm256_set1_ps(-2.0f), magnitude), &n);
  const __m256 scale = kp_power_of_two_f32_avx2(n);
  const __m256 m = _mm256_fmadd_ps(p, scale, _mm256_sub_ps(scale, _mm256_set1_ps(1.0f)));
  const __m256 quotient = _mm256_div_ps(m, _mm256_add_ps(_mm256_set1_ps(2.0f), m));
  return _mm256_or_ps(_mm256_andnot_ps(sign, quotient), _mm256_and_ps(sign, x));
}

KP_SPECIALIZED __m256 kp_phi_f32_avx2(__m256 x) {
  x = kp_at_most_f32_avx2(kp_at_least_f32_avx2(x, -KP_PHI_MAX), KP_PHI_MAX);
  const __m256 t = _mm256_mul_ps(x, x);
  __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(KP_PHI_P5), t, _mm256_set1_ps(KP_PHI_P4));
  __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(KP_PHI_Q5), t, _mm256_set1_ps(KP_PHI_Q4));
  p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(KP_PHI_P3));
  q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(KP_PHI_Q3));
  p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(KP_PHI_P2));
  q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(KP_PHI_Q2));
  p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(KP_PHI_P1));
  q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(KP_PHI_Q1));
  p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(KP_PHI_P0));
  q = _mm256_fmadd_ps(q, t, _mm256_set1_ps(1.0f));
  return _mm256_add_ps(_mm256_set1_ps(0.5f), _mm256_mul_ps(x, _mm256_div_ps(p, q)));
}

KP_SPECIALIZED __m256 kp_relu_f32_avx2(__m256 x) { return kp_at_least_f32_avx2(x, 0.0f); }

KP_SPECIALIZED __m256 kp_relu6_f32_avx2(__m256 x) { return kp_at_most_f32_avx2(kp_relu_f32_avx2(x), 6.0f); }

KP_SPECIALIZED __m256 kp_hardsigmoid_f32_avx2(__m256 x) {
  return _mm256_mul_ps(kp_relu6_f32_avx2(_mm256_add_ps(x, _mm256_set1_ps(3.0f))), _mm256_set1_ps(KP_ONE_SIXTH));
}

KP_SPECIALIZED __m256 kp_gelu_tanh_f32_avx2(__m256 x) {
  const __m256 slope =
      _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(KP_GELU_TANH_B), _mm256_set1_ps(KP_GELU_TANH_A));
  return _mm256_mul_ps(x, kp_sigmoid_f32_avx2(_mm256_mul_ps(x, slope)));
}

KP_SPECIALIZED __m256 kp_quick_gelu_f32_avx2(__m256 x) {
  return _mm256_mul_ps(x, kp_sigmoid_f32_avx2(_mm256_mul_ps(_mm256_set1_ps(KP_QUICK_GELU_SLOPE), x)));
}

KP_SPECIALIZED __m256 kp_apply_unary_f32_avx2(kp_unary unary, __m256 x) {
  switch (unary) {
    case KP_RELU:
      return kp_relu_f32_avx2(x);
    case KP_RELU6:
      return kp_relu6_f32_avx2(x);
    case KP_HARDSWISH:
      return _mm256_mul_ps(x, kp_hardsigmoid_f32_avx2(x));
    case KP_HARDSIGMOID:
      return kp_hardsigmoid_f32_avx2(x);
    case KP_SIGMOID:
      return kp_sigmoid_f32_avx2(x);
    case KP_SILU:
      return _mm256_mul_ps(x, kp_sigmoid_f32_avx2(x));
    case KP_GELU:
      return _mm256_mul_ps(x, kp_phi_f32_avx2(x));
    case KP_GELU_TANH:
      return kp_gelu_tanh_f32_avx2(x);
    case KP_QUICK_GELU:
      return kp_quick_gelu_f32_avx2(x);
    case KP_TANH:
      return kp_tanh_f32_avx2(x);
    case KP_EXP:
      return kp_exp_f32_avx2(x);
    case KP_SQRT:
      return _mm256_sqrt_ps(x);
    case KP_UNARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED __m256 kp_apply_act_f32_avx2(kp_act act, __m256 x) {
  return act == KP_ACT_NONE ? x : kp_apply_unary_f32_avx2((kp_unary)(act - 1), x);
}

/* "Sums in 16 lanes": the tree that ends them. `low` has lanes 0 to 7, `high` 8 to 15. */
KP_SPECIALIZED float kp_reduce_add_f32_avx2(__m256 low, __m256 high) {
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The largest lane. */
KP_SPECIALIZED float kp_reduce_max_f32_avx2(__m256 low, __m256 high) {
  const __m256 eight = _mm256_max_ps(low, high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif /* KP_KERNELS_AVX2_MATH_AVX2_H */

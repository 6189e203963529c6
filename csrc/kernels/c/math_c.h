/* The elementary functions, scalar: the definition that every vector twin follows operation by operation.
 * docs/numerics.md, "Elementary functions", has the formulas and their errors. */
#ifndef KP_KERNELS_C_MATH_C_H
#define KP_KERNELS_C_MATH_C_H

#include <math.h>
#include <string.h>

#include "kernels/elementary.h"
#include "kernels/kernels.h"

static inline uint32_t kp_float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float kp_float_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* 2^n, -126 <= n <= 127. */
static inline float kp_power_of_two_f32_c(int32_t n) { return kp_float_from_bits((uint32_t)(n + 127) << 23); }

/* An argument of exp split: x = n * ln 2 + r; `p` is exp(r) - 1. */
typedef struct kp_exp_parts_c {
  int32_t n;
  float p;
} kp_exp_parts_c;

static inline kp_exp_parts_c kp_exp_split_f32_c(float x) {
  const float shifted = fmaf(x, KP_LOG2_E, KP_ROUNDING_SHIFT);
  const float n = shifted - KP_ROUNDING_SHIFT;
  float r = fmaf(n, -KP_LN2_HIGH, x);
  r = fmaf(n, -KP_LN2_LOW, r);
  float q = fmaf(KP_EXP_C4, r, KP_EXP_C3);
  q = fmaf(q, r, KP_EXP_C2);
  q = fmaf(q, r, KP_EXP_C1);
  q = fmaf(q, r, KP_EXP_C0);
  const int32_t exponent = isnan(x) ? 0 : (int32_t)(kp_float_bits(shifted) - kp_float_bits(KP_ROUNDING_SHIFT));
  return (kp_exp_parts_c){.n = exponent, .p = fmaf(q, r * r, r)};
}

/* exp for x <= KP_EXP_MAX, where the upper clamp is not needed. The power of two is applied in two steps, of which only
 * the second can round: a denormal result is rounded once. */
static inline float kp_exp_bounded_f32_c(float x) {
  const kp_exp_parts_c parts = kp_exp_split_f32_c(x < KP_EXP_MIN ? KP_EXP_MIN : x);
  const int32_t half = parts.n >> 1;
  return (1.0f + parts.p) * kp_power_of_two_f32_c(half) * kp_power_of_two_f32_c(parts.n - half);
}

static inline float kp_exp_f32_c(float x) { return kp_exp_bounded_f32_c(x > KP_EXP_MAX ? KP_EXP_MAX : x); }

/* With e = exp(-|x|): 1 / (1 + e), or e / (1 + e) where x < 0. */
static inline float kp_sigmoid_f32_c(float x) {
  const float e = kp_exp_bounded_f32_c(-fabsf(x));
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* With m = exp(-2 |x|) - 1: -m / (2 + m), with the sign of x. */
static inline float kp_tanh_f32_c(float x) {
  const float magnitude = fabsf(x);
  const kp_exp_parts_c parts = kp_exp_split_f32_c(-2.0f * (magnitude > KP_TANH_MAX ? KP_TANH_MAX : magnitude));
  const float scale = kp_power_of_two_f32_c(parts.n);
  const float m = fmaf(parts.p, scale, scale - 1.0f);
  return copysignf(m / (2.0f + m), x);
}

/* The standard normal distribution function, 0.5 + 0.5 * erf(x / sqrt 2). */
static inline float kp_phi_f32_c(float x) {
  x = x < -KP_PHI_MAX ? -KP_PHI_MAX : x;
  x = x > KP_PHI_MAX ? KP_PHI_MAX : x;
  const float t = x * x;
  float p = fmaf(KP_PHI_P5, t, KP_PHI_P4);
  float q = fmaf(KP_PHI_Q5, t, KP_PHI_Q4);
  p = fmaf(p, t, KP_PHI_P3);
  q = fmaf(q, t, KP_PHI_Q3);
  p = fmaf(p, t, KP_PHI_P2);
  q = fmaf(q, t, KP_PHI_Q2);
  p = fmaf(p, t, KP_PHI_P1);
  q = fmaf(q, t, KP_PHI_Q1);
  p = fmaf(p, t, KP_PHI_P0);
  q = fmaf(q, t, 1.0f);
  return 0.5f + x * (p / q);
}

static inline float kp_relu_f32_c(float x) { return x < 0.0f ? 0.0f : x; }

static inline float kp_relu6_f32_c(float x) {
  x = kp_relu_f32_c(x);
  return x > 6.0f ? 6.0f : x;
}

static inline float kp_hardsigmoid_f32_c(float x) { return kp_relu6_f32_c(x + 3.0f) * KP_ONE_SIXTH; }

static inline float kp_hardswish_f32_c(float x) { return x * kp_hardsigmoid_f32_c(x); }

static inline float kp_silu_f32_c(float x) { return x * kp_sigmoid_f32_c(x); }

static inline float kp_gelu_f32_c(float x) { return x * kp_phi_f32_c(x); }

static inline float kp_gelu_tanh_f32_c(float x) {
  return x * kp_sigmoid_f32_c(x * fmaf(x * x, KP_GELU_TANH_B, KP_GELU_TANH_A));
}

static inline float kp_quick_gelu_f32_c(float x) { return x * kp_sigmoid_f32_c(KP_QUICK_GELU_SLOPE * x); }

static inline float kp_apply_unary_f32_c(kp_unary unary, float x) {
  switch (unary) {
    case KP_RELU:
      return kp_relu_f32_c(x);
    case KP_RELU6:
      return kp_relu6_f32_c(x);
    case KP_HARDSWISH:
      return kp_hardswish_f32_c(x);
    case KP_HARDSIGMOID:
      return kp_hardsigmoid_f32_c(x);
    case KP_SIGMOID:
      return kp_sigmoid_f32_c(x);
    case KP_SILU:
      return kp_silu_f32_c(x);
    case KP_GELU:
      return kp_gelu_f32_c(x);
    case KP_GELU_TANH:
      return kp_gelu_tanh_f32_c(x);
    case KP_QUICK_GELU:
      return kp_quick_gelu_f32_c(x);
    case KP_TANH:
      return kp_tanh_f32_c(x);
    case KP_EXP:
      return kp_exp_f32_c(x);
    case KP_SQRT:
      return sqrtf(x);
    case KP_UNARY_COUNT:
      break;
  }
  return x;
}

static inline float kp_apply_act_f32_c(kp_act act, float x) {
  return act == KP_ACT_NONE ? x : kp_apply_unary_f32_c((kp_unary)(act - 1), x);
}

/* ---- int8 epilogues and attention ---- */

/* max(x, 0) - U(a), a = min(|x|, limit), U(a) = a * (c[0] + c[1] a + ... + c[8] a^8). */
static inline float kp_rectified_polynomial_c(float x, float limit, const float c[9]) {
  const float a = fabsf(x) < limit ? fabsf(x) : limit;
  float u = c[8];
  for (size_t i = 8; i-- > 0;) u = fmaf(u, a, c[i]);
  return fmaf(-u, a, x > 0.0f ? x : 0.0f);
}

static inline float kp_silu_i8_c(float x) {
  static const float c[9] = {KP_SILU_I8_C1, KP_SILU_I8_C2, KP_SILU_I8_C3, KP_SILU_I8_C4, KP_SILU_I8_C5,
                             KP_SILU_I8_C6, KP_SILU_I8_C7, KP_SILU_I8_C8, KP_SILU_I8_C9};
  return kp_rectified_polynomial_c(x, KP_SILU_I8_LIMIT, c);
}

static inline float kp_gelu_i8_c(float x) {
  static const float c[9] = {KP_GELU_I8_C1, KP_GELU_I8_C2, KP_GELU_I8_C3, KP_GELU_I8_C4, KP_GELU_I8_C5,
                             KP_GELU_I8_C6, KP_GELU_I8_C7, KP_GELU_I8_C8, KP_GELU_I8_C9};
  return kp_rectified_polynomial_c(x, KP_GELU_I8_LIMIT, c);
}

/* The activation of an int8 epilogue. */
static inline float kp_apply_act_i8_c(kp_act act, float x) {
  switch (act) {
    case KP_ACT(KP_SILU):
      return kp_silu_i8_c(x);
    case KP_ACT(KP_GELU):
      return kp_gelu_i8_c(x);
    default:
      return kp_apply_act_f32_c(act, x);
  }
}

static inline int8_t kp_quantize_f32_c(float y, float inverse, float shift) {
  float t = fmaf(y, inverse, shift);
  t = t > KP_ROUNDING_SHIFT - 128.0f ? t : KP_ROUNDING_SHIFT - 128.0f;
  t = t < KP_ROUNDING_SHIFT + 127.0f ? t : KP_ROUNDING_SHIFT + 127.0f;
  return (int8_t)(uint8_t)kp_float_bits(t);
}

/* round(2^z), 0 to 255. */
static inline uint8_t kp_exp2_i8_c(float z) {
  z = z > KP_EXP2_I8_MIN ? z : KP_EXP2_I8_MIN;
  z = z < KP_EXP2_I8_MAX ? z : KP_EXP2_I8_MAX;
  const float shifted = z + KP_ROUNDING_SHIFT;
  const float f = z - (shifted - KP_ROUNDING_SHIFT);
  float p = fmaf(KP_EXP2_I8_C3, f, KP_EXP2_I8_C2);
  p = fmaf(p, f, KP_EXP2_I8_C1);
  p = fmaf(p, f, KP_EXP2_I8_C0);
  const float e = kp_float_from_bits(kp_float_bits(p) + (kp_float_bits(shifted) << 23));
  return (uint8_t)kp_float_bits(e + KP_ROUNDING_SHIFT);
}

#endif /* KP_KERNELS_C_MATH_C_H */

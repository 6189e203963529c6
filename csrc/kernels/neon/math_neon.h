/* The elementary functions on 4 lanes, each operation as in c/math_c.h. Always inlined, so that a constant `unary` or
 * `act` leaves one function's code in a loop. Minima and maxima are compare-and-select: FMIN and FMAX order the
 * zeros. */
#ifndef KP_KERNELS_NEON_MATH_NEON_H
#define KP_KERNELS_NEON_MATH_NEON_H

#include <arm_neon.h>

#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "kernels/unroll.h"

/* n < 16 elements, then `padding`: the last group of a row in 16 lanes. */
KP_SPECIALIZED void kp_pad16_f32_neon(float padded[16], const float *src, size_t n, float padding) {
  for (size_t i = 0; i < 16; i++) {
    padded[i] = i < n ? src[i] : padding;
  }
}

KP_SPECIALIZED float32x4_t kp_at_least_f32_neon(float32x4_t x, float low) {
  const float32x4_t bound = vdupq_n_f32(low);
  return vbslq_f32(vcltq_f32(x, bound), bound, x);
}

KP_SPECIALIZED float32x4_t kp_at_most_f32_neon(float32x4_t x, float high) {
  const float32x4_t bound = vdupq_n_f32(high);
  return vbslq_f32(vcgtq_f32(x, bound), bound, x);
}

/* 2^n, -126 <= n <= 127. */
KP_SPECIALIZED float32x4_t kp_power_of_two_f32_neon(int32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* exp(r) - 1 for x = n * ln 2 + r. vfmaq_f32(c, a, b) is fma(a, b, c). */
KP_SPECIALIZED float32x4_t kp_exp_split_f32_neon(float32x4_t x, int32x4_t *n) {
  const float32x4_t shift = vdupq_n_f32(KP_ROUNDING_SHIFT);
  const float32x4_t shifted = vfmaq_f32(shift, x, vdupq_n_f32(KP_LOG2_E));
  const float32x4_t integer = vsubq_f32(shifted, shift);
  float32x4_t r = vfmsq_f32(x, integer, vdupq_n_f32(KP_LN2_HIGH));
  r = vfmsq_f32(r, integer, vdupq_n_f32(KP_LN2_LOW));
  float32x4_t q = vfmaq_f32(vdupq_n_f32(KP_EXP_C3), vdupq_n_f32(KP_EXP_C4), r);
  q = vfmaq_f32(vdupq_n_f32(KP_EXP_C2), q, r);
  q = vfmaq_f32(vdupq_n_f32(KP_EXP_C1), q, r);
  q = vfmaq_f32(vdupq_n_f32(KP_EXP_C0), q, r);
  *n = vsubq_s32(vreinterpretq_s32_f32(shifted), vreinterpretq_s32_f32(shift));
  return vfmaq_f32(r, q, vmulq_f32(r, r));
}

/* exp for x <= KP_EXP_MAX. */
KP_SPECIALIZED float32x4_t kp_exp_bounded_f32_neon(float32x4_t x) {
  int32x4_t n;
  const float32x4_t p = kp_exp_split_f32_neon(kp_at_least_f32_neon(x, KP_EXP_MIN), &n);
  const int32x4_t half = vshrq_n_s32(n, 1);
  return vmulq_f32(vmulq_f32(vaddq_f32(vdupq_n_f32(1.0f), p), kp_power_of_two_f32_neon(half)),
                   kp_power_of_two_f32_neon(vsubq_s32(n, half)));
}

KP_SPECIALIZED float32x4_t kp_exp_f32_neon(float32x4_t x) {
  return kp_exp_bounded_f32_neon(kp_at_most_f32_neon(x, KP_EXP_MAX));
}

KP_SPECIALIZED float32x4_t kp_sigmoid_f32_neon(float32x4_t x) {
  const float32x4_t one = vdupq_n_f32(1.0f);
  const float32x4_t e = kp_exp_bounded_f32_neon(vnegq_f32(vabsq_f32(x)));
  return vdivq_f32(vbslq_f32(vcltzq_f32(x), e, one), vaddq_f32(one, e));
}

KP_SPECIALIZED float32x4_t kp_tanh_f32_neon(float32x4_t x) {
  int32x4_t n;
  const float32x4_t magnitude = kp_at_most_f32_neon(vabsq_f32(x), KP_TANH_MAX);
  const float32x4_t p = kp_exp_split_f32_neon(vmulq_f32(vdupq_n_f32(-2.0f), magnitude), &n);
  const float32x4_t scale = kp_power_of_two_f32_neon(n);
  const float32x4_t m = vfmaq_f32(vsubq_f32(scale, vdupq_n_f32(1.0f)), p, scale);
  const float32x4_t quotient = vdivq_f32(m, vaddq_f32(vdupq_n_f32(2.0f), m));
  return vbslq_f32(vdupq_n_u32(0x80000000u), x, quotient);
}

KP_SPECIALIZED float32x4_t kp_phi_f32_neon(float32x4_t x) {
  x = kp_at_most_f32_neon(kp_at_least_f32_neon(x, -KP_PHI_MAX), KP_PHI_MAX);
  const float32x4_t t = vmulq_f32(x, x);
  float32x4_t p = vfmaq_f32(vdupq_n_f32(KP_PHI_P4), vdupq_n_f32(KP_PHI_P5), t);
  float32x4_t q = vfmaq_f32(vdupq_n_f32(KP_PHI_Q4), vdupq_n_f32(KP_PHI_Q5), t);
  p = vfmaq_f32(vdupq_n_f32(KP_PHI_P3), p, t);
  q = vfmaq_f32(vdupq_n_f32(KP_PHI_Q3), q, t);
  p = vfmaq_f32(vdupq_n_f32(KP_PHI_P2), p, t);
  q = vfmaq_f32(vdupq_n_f32(KP_PHI_Q2), q, t);
  p = vfmaq_f32(vdupq_n_f32(KP_PHI_P1), p, t);
  q = vfmaq_f32(vdupq_n_f32(KP_PHI_Q1), q, t);
  p = vfmaq_f32(vdupq_n_f32(KP_PHI_P0), p, t);
  q = vfmaq_f32(vdupq_n_f32(1.0f), q, t);
  return vaddq_f32(vdupq_n_f32(0.5f), vmulq_f32(x, vdivq_f32(p, q)));
}

KP_SPECIALIZED float32x4_t kp_relu_f32_neon(float32x4_t x) { return kp_at_least_f32_neon(x, 0.0f); }

KP_SPECIALIZED float32x4_t kp_relu6_f32_neon(float32x4_t x) { return kp_at_most_f32_neon(kp_relu_f32_neon(x), 6.0f); }

KP_SPECIALIZED float32x4_t kp_hardsigmoid_f32_neon(float32x4_t x) {
  return vmulq_f32(kp_relu6_f32_neon(vaddq_f32(x, vdupq_n_f32(3.0f))), vdupq_n_f32(KP_ONE_SIXTH));
}

KP_SPECIALIZED float32x4_t kp_gelu_tanh_f32_neon(float32x4_t x) {
  const float32x4_t slope = vfmaq_f32(vdupq_n_f32(KP_GELU_TANH_A), vmulq_f32(x, x), vdupq_n_f32(KP_GELU_TANH_B));
  return vmulq_f32(x, kp_sigmoid_f32_neon(vmulq_f32(x, slope)));
}

KP_SPECIALIZED float32x4_t kp_quick_gelu_f32_neon(float32x4_t x) {
  return vmulq_f32(x, kp_sigmoid_f32_neon(vmulq_f32(vdupq_n_f32(KP_QUICK_GELU_SLOPE), x)));
}

KP_SPECIALIZED float32x4_t kp_apply_unary_f32_neon(kp_unary unary, float32x4_t x) {
  switch (unary) {
    case KP_RELU:
      return kp_relu_f32_neon(x);
    case KP_RELU6:
      return kp_relu6_f32_neon(x);
    case KP_HARDSWISH:
      return vmulq_f32(x, kp_hardsigmoid_f32_neon(x));
    case KP_HARDSIGMOID:
      return kp_hardsigmoid_f32_neon(x);
    case KP_SIGMOID:
      return kp_sigmoid_f32_neon(x);
    case KP_SILU:
      return vmulq_f32(x, kp_sigmoid_f32_neon(x));
    case KP_GELU:
      return vmulq_f32(x, kp_phi_f32_neon(x));
    case KP_GELU_TANH:
      return kp_gelu_tanh_f32_neon(x);
    case KP_QUICK_GELU:
      return kp_quick_gelu_f32_neon(x);
    case KP_TANH:
      return kp_tanh_f32_neon(x);
    case KP_EXP:
      return kp_exp_f32_neon(x);
    case KP_SQRT:
      return vsqrtq_f32(x);
    case KP_UNARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED float32x4_t kp_apply_act_f32_neon(kp_act act, float32x4_t x) {
  return act == KP_ACT_NONE ? x : kp_apply_unary_f32_neon((kp_unary)(act - 1), x);
}

/* "Sums in 16 lanes": the tree that ends them. lanes[i] has lanes 4 i to 4 i + 3. */
KP_SPECIALIZED float kp_reduce_add_f32_neon(const float32x4_t lanes[4]) {
  const float32x4_t four = vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/* The largest lane. */
KP_SPECIALIZED float kp_reduce_max_f32_neon(const float32x4_t lanes[4]) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(lanes[0], lanes[2]), vmaxq_f32(lanes[1], lanes[3])));
}

#endif /* KP_KERNELS_NEON_MATH_NEON_H */

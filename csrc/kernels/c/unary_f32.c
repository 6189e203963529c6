#include <string.h>

#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"
#include "kernels/unroll.h"

KP_SPECIALIZED void map(float *dst, const float *src, size_t n, kp_unary unary) {
  for (size_t i = 0; i < n; i++) {
    dst[i] = kp_apply_unary_f32_c(unary, src[i]);
  }
}

void kp_unary_relu_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_RELU); }

void kp_unary_relu6_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_RELU6); }

void kp_unary_hardswish_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_HARDSWISH); }

void kp_unary_hardsigmoid_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_HARDSIGMOID); }

void kp_unary_sigmoid_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_SIGMOID); }

void kp_unary_silu_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_SILU); }

void kp_unary_gelu_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_GELU); }

void kp_unary_gelu_tanh_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_GELU_TANH); }

void kp_unary_quick_gelu_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_QUICK_GELU); }

void kp_unary_tanh_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_TANH); }

void kp_unary_exp_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_EXP); }

void kp_unary_sqrt_f32_c(float *dst, const float *src, size_t n) { map(dst, src, n, KP_SQRT); }

void kp_act_f32_c(float *dst, const float *src, size_t n, kp_act act) {
  switch (act) {
    case KP_ACT(KP_RELU):
      kp_unary_relu_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_RELU6):
      kp_unary_relu6_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_HARDSWISH):
      kp_unary_hardswish_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_HARDSIGMOID):
      kp_unary_hardsigmoid_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_SIGMOID):
      kp_unary_sigmoid_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_SILU):
      kp_unary_silu_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_GELU):
      kp_unary_gelu_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_GELU_TANH):
      kp_unary_gelu_tanh_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_QUICK_GELU):
      kp_unary_quick_gelu_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_TANH):
      kp_unary_tanh_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_EXP):
      kp_unary_exp_f32_c(dst, src, n);
      break;
    case KP_ACT(KP_SQRT):
      kp_unary_sqrt_f32_c(dst, src, n);
      break;
    default:
      if (dst != src && n > 0) memcpy(dst, src, n * sizeof *dst);
      break;
  }
}

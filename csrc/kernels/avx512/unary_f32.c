#include <string.h>

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

KP_SPECIALIZED void map(float *dst, const float *src, size_t n, kp_unary unary) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(dst + i, kp_apply_unary_f32_avx512(unary, _mm512_loadu_ps(src + i)));
  }
  if (i < n) {
    const __m512 x = _mm512_maskz_loadu_ps(kp_lanes_avx512(n - i), src + i);
    kp_store_partial_f32_avx512(dst + i, n - i, kp_apply_unary_f32_avx512(unary, x));
  }
}

void kp_unary_relu_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_RELU); }

void kp_unary_relu6_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_RELU6); }

void kp_unary_hardswish_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_HARDSWISH); }

void kp_unary_hardsigmoid_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_HARDSIGMOID); }

void kp_unary_sigmoid_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_SIGMOID); }

void kp_unary_silu_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_SILU); }

void kp_unary_gelu_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_GELU); }

void kp_unary_gelu_tanh_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_GELU_TANH); }

void kp_unary_quick_gelu_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_QUICK_GELU); }

void kp_unary_tanh_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_TANH); }

void kp_unary_exp_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_EXP); }

void kp_unary_sqrt_f32_avx512(float *dst, const float *src, size_t n) { map(dst, src, n, KP_SQRT); }

void kp_act_f32_avx512(float *dst, const float *src, size_t n, kp_act act) {
  switch (act) {
    case KP_ACT(KP_RELU):
      kp_unary_relu_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_RELU6):
      kp_unary_relu6_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_HARDSWISH):
      kp_unary_hardswish_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_HARDSIGMOID):
      kp_unary_hardsigmoid_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_SIGMOID):
      kp_unary_sigmoid_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_SILU):
      kp_unary_silu_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_GELU):
      kp_unary_gelu_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_GELU_TANH):
      kp_unary_gelu_tanh_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_QUICK_GELU):
      kp_unary_quick_gelu_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_TANH):
      kp_unary_tanh_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_EXP):
      kp_unary_exp_f32_avx512(dst, src, n);
      break;
    case KP_ACT(KP_SQRT):
      kp_unary_sqrt_f32_avx512(dst, src, n);
      break;
    default:
      if (dst != src && n > 0) memcpy(dst, src, n * sizeof *dst);
      break;
  }
}

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

KP_SPECIALIZED float32x4_t apply(kp_binary binary, float32x4_t x, float32x4_t y) {
  switch (binary) {
    case KP_ADD:
      return vaddq_f32(x, y);
    case KP_SUB:
      return vsubq_f32(x, y);
    case KP_MUL:
      return vmulq_f32(x, y);
    case KP_DIV:
      return vdivq_f32(x, y);
    case KP_MIN:
      return vbslq_f32(vcltq_f32(x, y), x, y);
    case KP_MAX:
      return vbslq_f32(vcgtq_f32(x, y), x, y);
    case KP_BINARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED void map(kp_binary binary, float *dst, const float *a, size_t a_step, const float *b, size_t b_step,
                        size_t n) {
  if (n == 0) return;
  const float32x4_t a0 = vdupq_n_f32(a[0]), b0 = vdupq_n_f32(b[0]);
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const float32x4_t x = a_step ? vld1q_f32(a + i) : a0;
    const float32x4_t y = b_step ? vld1q_f32(b + i) : b0;
    vst1q_f32(dst + i, apply(binary, x, y));
  }
  for (; i < n; i++) {
    dst[i] = vgetq_lane_f32(apply(binary, vdupq_n_f32(a[i * a_step]), vdupq_n_f32(b[i * b_step])), 0);
  }
}

void kp_binary_add_f32_neon(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_ADD, dst, a, a_step, b, b_step, n);
}

void kp_binary_sub_f32_neon(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_SUB, dst, a, a_step, b, b_step, n);
}

void kp_binary_mul_f32_neon(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MUL, dst, a, a_step, b, b_step, n);
}

void kp_binary_div_f32_neon(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_DIV, dst, a, a_step, b, b_step, n);
}

void kp_binary_min_f32_neon(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MIN, dst, a, a_step, b, b_step, n);
}

void kp_binary_max_f32_neon(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MAX, dst, a, a_step, b, b_step, n);
}

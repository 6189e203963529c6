#include "kernels/c/kernels_c.h"
#include "kernels/unroll.h"

KP_SPECIALIZED float apply(kp_binary binary, float x, float y) {
  switch (binary) {
    case KP_ADD:
      return x + y;
    case KP_SUB:
      return x - y;
    case KP_MUL:
      return x * y;
    case KP_DIV:
      return x / y;
    case KP_MIN:
      return x < y ? x : y;
    case KP_MAX:
      return x > y ? x : y;
    case KP_BINARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED void map(kp_binary binary, float *dst, const float *a, size_t a_step, const float *b, size_t b_step,
                        size_t n) {
  for (size_t i = 0; i < n; i++) {
    dst[i] = apply(binary, a[i * a_step], b[i * b_step]);
  }
}

void kp_binary_add_f32_c(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_ADD, dst, a, a_step, b, b_step, n);
}

void kp_binary_sub_f32_c(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_SUB, dst, a, a_step, b, b_step, n);
}

void kp_binary_mul_f32_c(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MUL, dst, a, a_step, b, b_step, n);
}

void kp_binary_div_f32_c(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_DIV, dst, a, a_step, b, b_step, n);
}

void kp_binary_min_f32_c(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MIN, dst, a, a_step, b, b_step, n);
}

void kp_binary_max_f32_c(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MAX, dst, a, a_step, b, b_step, n);
}

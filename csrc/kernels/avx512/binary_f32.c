#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

KP_SPECIALIZED __m512 apply(kp_binary binary, __m512 x, __m512 y) {
  switch (binary) {
    case KP_ADD:
      return _mm512_add_ps(x, y);
    case KP_SUB:
      return _mm512_sub_ps(x, y);
    case KP_MUL:
      return _mm512_mul_ps(x, y);
    case KP_DIV:
      return _mm512_div_ps(x, y);
    case KP_MIN:
      return _mm512_min_ps(x, y);
    case KP_MAX:
      return _mm512_max_ps(x, y);
    case KP_BINARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED void map(kp_binary binary, float *dst, const float *a, size_t a_step, const float *b, size_t b_step,
                        size_t n) {
  if (n == 0) return;
  const __m512 a0 = _mm512_set1_ps(a[0]), b0 = _mm512_set1_ps(b[0]);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 x = a_step ? _mm512_loadu_ps(a + i) : a0;
    const __m512 y = b_step ? _mm512_loadu_ps(b + i) : b0;
    _mm512_storeu_ps(dst + i, apply(binary, x, y));
  }
  if (i < n) {
    const __mmask16 mask = kp_lanes_avx512(n - i);
    const __m512 x = a_step ? _mm512_maskz_loadu_ps(mask, a + i) : a0;
    const __m512 y = b_step ? _mm512_maskz_loadu_ps(mask, b + i) : b0;
    kp_store_partial_f32_avx512(dst + i, n - i, apply(binary, x, y));
  }
}

void kp_binary_add_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_ADD, dst, a, a_step, b, b_step, n);
}

void kp_binary_sub_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_SUB, dst, a, a_step, b, b_step, n);
}

void kp_binary_mul_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MUL, dst, a, a_step, b, b_step, n);
}

void kp_binary_div_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_DIV, dst, a, a_step, b, b_step, n);
}

void kp_binary_min_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MIN, dst, a, a_step, b, b_step, n);
}

void kp_binary_max_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MAX, dst, a, a_step, b, b_step, n);
}

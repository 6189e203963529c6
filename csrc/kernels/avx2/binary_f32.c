#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

KP_SPECIALIZED __m256 apply(kp_binary binary, __m256 x, __m256 y) {
  switch (binary) {
    case KP_ADD:
      return _mm256_add_ps(x, y);
    case KP_SUB:
      return _mm256_sub_ps(x, y);
    case KP_MUL:
      return _mm256_mul_ps(x, y);
    case KP_DIV:
      return _mm256_div_ps(x, y);
    case KP_MIN:
      return _mm256_min_ps(x, y);
    case KP_MAX:
      return _mm256_max_ps(x, y);
    case KP_BINARY_COUNT:
      break;
  }
  return x;
}

KP_SPECIALIZED void map(kp_binary binary, float *dst, const float *a, size_t a_step, const float *b, size_t b_step,
                        size_t n) {
  if (n == 0) return;
  const __m256 a0 = _mm256_set1_ps(a[0]), b0 = _mm256_set1_ps(b[0]);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = a_step ? _mm256_loadu_ps(a + i) : a0;
    const __m256 y = b_step ? _mm256_loadu_ps(b + i) : b0;
    _mm256_storeu_ps(dst + i, apply(binary, x, y));
  }
  if (i < n) {
    const __m256i mask = kp_lanes_avx2(n - i);
    const __m256 x = a_step ? _mm256_maskload_ps(a + i, mask) : a0;
    const __m256 y = b_step ? _mm256_maskload_ps(b + i, mask) : b0;
    _mm256_maskstore_ps(dst + i, mask, apply(binary, x, y));
  }
}

void kp_binary_add_f32_avx2(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_ADD, dst, a, a_step, b, b_step, n);
}

void kp_binary_sub_f32_avx2(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_SUB, dst, a, a_step, b, b_step, n);
}

void kp_binary_mul_f32_avx2(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MUL, dst, a, a_step, b, b_step, n);
}

void kp_binary_div_f32_avx2(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_DIV, dst, a, a_step, b, b_step, n);
}

void kp_binary_min_f32_avx2(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MIN, dst, a, a_step, b, b_step, n);
}

void kp_binary_max_f32_avx2(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n) {
  map(KP_MAX, dst, a, a_step, b, b_step, n);
}

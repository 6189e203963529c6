/* What the int8 kernels share: bytes in and out of registers, quantisation, and the activations of int8 epilogues, each
 * operation as in c/math_c.h. */
#ifndef KP_KERNELS_AVX2_MATH_I8_AVX2_H
#define KP_KERNELS_AVX2_MATH_I8_AVX2_H

#include <string.h>

#include "kernels/avx2/math_avx2.h"

/* ---- Bytes ---- */

/* The first n bytes at src, n <= 8, then zeros. */
KP_SPECIALIZED uint64_t kp_load_bytes_avx2(const void *src, size_t n) {
  const uint8_t *bytes = src;
  uint64_t x = 0;
  if (n == 8) {
    memcpy(&x, bytes, 8);
  } else if (n >= 4) {
    uint32_t low, high;
    memcpy(&low, bytes, 4);
    memcpy(&high, bytes + n - 4, 4);
    x = low | (uint64_t)high << (8 * (n - 4));
  } else if (n > 0) {
    x = bytes[0] | (uint64_t)bytes[n / 2] << (8 * (n / 2)) | (uint64_t)bytes[n - 1] << (8 * (n - 1));
  }
  return x;
}

/* The lowest n bytes of x, n <= 8. */
KP_SPECIALIZED void kp_store_bytes_avx2(void *dst, size_t n, uint64_t x) {
  uint8_t *bytes = dst;
  if (n == 8) {
    memcpy(bytes, &x, 8);
  } else if (n >= 4) {
    const uint32_t low = (uint32_t)x, high = (uint32_t)(x >> (8 * (n - 4)));
    memcpy(bytes, &low, 4);
    memcpy(bytes + n - 4, &high, 4);
  } else if (n > 0) {
    bytes[0] = (uint8_t)x;
    bytes[n / 2] = (uint8_t)(x >> (8 * (n / 2)));
    bytes[n - 1] = (uint8_t)(x >> (8 * (n - 1)));
  }
}

/* The first n elements of src, n <= 16, then zeros. */
KP_SPECIALIZED __m128i kp_load_partial_i8_avx2(const int8_t *src, size_t n) {
  if (n == 16) return _mm_loadu_si128((const void *)src);
  if (n <= 8) return _mm_cvtsi64_si128((long long)kp_load_bytes_avx2(src, n));
  return _mm_set_epi64x((long long)kp_load_bytes_avx2(src + 8, n - 8), (long long)kp_load_bytes_avx2(src, 8));
}

/* The first n lanes, n <= 16. */
KP_SPECIALIZED void kp_store_partial_i8_avx2(int8_t *dst, size_t n, __m128i x) {
  if (n == 16) {
    _mm_storeu_si128((void *)dst, x);
  } else {
    kp_store_bytes_avx2(dst, n < 8 ? n : 8, (uint64_t)_mm_cvtsi128_si64(x));
    if (n > 8) kp_store_bytes_avx2(dst + 8, n - 8, (uint64_t)_mm_extract_epi64(x, 1));
  }
}

/* ---- Quantisation ---- */

/* quantize() of kernels.h but for the upper clamp, which is left to a conversion that saturates. */
KP_SPECIALIZED __m256i kp_quantize_f32_avx2(__m256 y, __m256 inverse, __m256 shift) {
  __m256 t = _mm256_fmadd_ps(y, inverse, shift);
  t = _mm256_max_ps(t, _mm256_set1_ps(KP_ROUNDING_SHIFT - 128.0f));
  return _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_castps_si256(_mm256_set1_ps(KP_ROUNDING_SHIFT)));
}

/* 32 lanes to int8, saturating: a, b, c, d, each in order. */
KP_SPECIALIZED __m256i kp_pack_i8_avx2(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* ---- Activations ---- */

/* The functions take n vectors, so that the steps of one run while those of another wait for their results. */

/* x[i] = max(x[i], 0) - U(min(|x[i]|, limit)), U by Horner's rule; coefficients c[0] to c[8] in descending order. */
KP_SPECIALIZED void kp_rectify_i8_avx2(__m256 *x, size_t n, float limit, const float *c) {
  __m256 a[8], u[8];
  KP_UNROLL
  for (size_t i = 0; i < n; i++) {
    const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x[i]);
    a[i] = _mm256_min_ps(magnitude, _mm256_set1_ps(limit));
    x[i] = _mm256_max_ps(x[i], _mm256_setzero_ps());
    u[i] = _mm256_set1_ps(c[0]);
  }
  KP_UNROLL
  for (size_t k = 1; k < 9; k++) {
    KP_UNROLL
    for (size_t i = 0; i < n; i++) u[i] = _mm256_fmadd_ps(u[i], a[i], _mm256_set1_ps(c[k]));
  }
  KP_UNROLL
  for (size_t i = 0; i < n; i++) x[i] = _mm256_fnmadd_ps(u[i], a[i], x[i]);
}

KP_SPECIALIZED void kp_silu_i8_avx2(__m256 *x, size_t n) {
  static const float c[] = {KP_SILU_I8_C9, KP_SILU_I8_C8, KP_SILU_I8_C7, KP_SILU_I8_C6, KP_SILU_I8_C5,
                            KP_SILU_I8_C4, KP_SILU_I8_C3, KP_SILU_I8_C2, KP_SILU_I8_C1};
  kp_rectify_i8_avx2(x, n, KP_SILU_I8_LIMIT, c);
}

KP_SPECIALIZED void kp_gelu_i8_avx2(__m256 *x, size_t n) {
  static const float c[] = {KP_GELU_I8_C9, KP_GELU_I8_C8, KP_GELU_I8_C7, KP_GELU_I8_C6, KP_GELU_I8_C5,
                            KP_GELU_I8_C4, KP_GELU_I8_C3, KP_GELU_I8_C2, KP_GELU_I8_C1};
  kp_rectify_i8_avx2(x, n, KP_GELU_I8_LIMIT, c);
}

KP_SPECIALIZED void kp_apply_act_i8_avx2(kp_act act, __m256 *x, size_t n) {
  switch (act) {
    case KP_ACT(KP_SILU):
      kp_silu_i8_avx2(x, n);
      break;
    case KP_ACT(KP_GELU):
      kp_gelu_i8_avx2(x, n);
      break;
    default:
      KP_UNROLL
      for (size_t i = 0; i < n; i++) x[i] = kp_apply_act_f32_avx2(act, x[i]);
      break;
  }
}

#endif /* KP_KERNELS_AVX2_MATH_I8_AVX2_H */

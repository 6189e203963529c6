#include <immintrin.h>

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/clip8.h"
#include "kernels/unroll.h"

#define VECTORS 4

/* 16 * VECTORS bytes from j on, the last vector's under `mask`. */
KP_SPECIALIZED void block(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count, size_t j,
                          size_t vectors, __mmask16 mask) {
  __m512i acc[VECTORS];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) acc[v] = _mm512_set1_epi32(KP_CLIP8_HALF);
  for (size_t i = 0; i < count; i++) {
    const __m512i weight = _mm512_set1_epi32(weights[i]);
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      const __m512i x = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, rows[i] + j + 16 * v));
      acc[v] = _mm512_add_epi32(acc[v], _mm512_mullo_epi32(x, weight));
    }
  }
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const __m512i value = _mm512_max_epi32(_mm512_srai_epi32(acc[v], KP_CLIP8_BITS), _mm512_setzero_si512());
    _mm512_mask_cvtusepi32_storeu_epi8(dst + j + 16 * v, mask, value);
  }
}

void kp_resize_column_u8_avx512(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count,
                                size_t n) {
  size_t j = 0;
  for (; j + 16 * VECTORS <= n; j += 16 * VECTORS) block(dst, rows, weights, count, j, VECTORS, 0xFFFF);
  for (; j + 16 <= n; j += 16) block(dst, rows, weights, count, j, 1, 0xFFFF);
  if (j < n) block(dst, rows, weights, count, j, 1, (__mmask16)((1u << (n - j)) - 1u));
}

#include <immintrin.h>

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/clip8.h"
#include "kernels/unroll.h"

#define VECTORS 4

/* 8 * VECTORS bytes. */
static void block(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count, size_t j) {
  __m256i acc[VECTORS];
  KP_UNROLL
  for (size_t v = 0; v < VECTORS; v++) acc[v] = _mm256_set1_epi32(KP_CLIP8_HALF);
  for (size_t i = 0; i < count; i++) {
    const __m256i weight = _mm256_set1_epi32(weights[i]);
    KP_UNROLL
    for (size_t v = 0; v < VECTORS; v++) {
      const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(rows[i] + j + 8 * v)));
      acc[v] = _mm256_add_epi32(acc[v], _mm256_mullo_epi32(x, weight));
    }
  }
  KP_UNROLL
  for (size_t v = 0; v < VECTORS; v++) acc[v] = _mm256_srai_epi32(acc[v], KP_CLIP8_BITS);
  /* The packs work on each 128-bit half: the permutation puts the groups of four bytes back in order. */
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(acc[0], acc[1]), _mm256_packs_epi32(acc[2], acc[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256((__m256i *)(void *)(dst + j), _mm256_permutevar8x32_epi32(bytes, order));
}

void kp_resize_column_u8_avx2(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count,
                              size_t n) {
  size_t j = 0;
  for (; j + 8 * VECTORS <= n; j += 8 * VECTORS) block(dst, rows, weights, count, j);
  for (; j < n; j++) {
    int32_t sum = KP_CLIP8_HALF;
    for (size_t i = 0; i < count; i++) sum += rows[i][j] * weights[i];
    dst[j] = kp_clip8(sum);
  }
}

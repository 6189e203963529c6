#include <immintrin.h>

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/c/kernels_c.h"
#include "kernels/clip8.h"

/* Two pixels at a time: one in each 128-bit half, a channel in each lane. */
static inline void resize(uint8_t *dst, const uint8_t *src, size_t width, const int32_t *starts, const int32_t *counts,
                          const int32_t *weights, size_t weight_stride, size_t channels) {
  const __m128i rgb = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  for (size_t x = 0; x < width; x++) {
    const uint8_t *first = src + (size_t)starts[x] * channels;
    const int32_t *weight = weights + x * weight_stride;
    const size_t count = (size_t)counts[x], bytes = count * channels;
    __m256i acc = _mm256_setzero_si256();
    size_t i = 0;
    for (; i * channels + 8 <= bytes; i += 2) {
      __m128i pixels = _mm_loadl_epi64((const __m128i *)(const void *)(first + i * channels));
      if (channels == 3) pixels = _mm_shuffle_epi8(pixels, rgb);
      const __m256i w = _mm256_set_m128i(_mm_set1_epi32(weight[i + 1]), _mm_set1_epi32(weight[i]));
      acc = _mm256_add_epi32(acc, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(pixels), w));
    }
    int32_t sums[4];
    const __m128i both = _mm_add_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
    _mm_storeu_si128((__m128i *)(void *)sums, both);
    for (size_t c = 0; c < channels; c++) {
      int32_t sum = KP_CLIP8_HALF + sums[c];
      for (size_t rest = i; rest < count; rest++) sum += first[rest * channels + c] * weight[rest];
      dst[x * channels + c] = kp_clip8(sum);
    }
  }
}

void kp_resize_row_u8_avx2(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                           const int32_t *counts, const int32_t *weights, size_t weight_stride) {
  if (channels == 1) {
    kp_resize_row_u8_c(dst, src, width, 1, starts, counts, weights, weight_stride);
  } else if (channels == 3) {
    resize(dst, src, width, starts, counts, weights, weight_stride, 3);
  } else {
    resize(dst, src, width, starts, counts, weights, weight_stride, 4);
  }
}

#include <immintrin.h>

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/clip8.h"
#include "kernels/unroll.h"

/* The sums of each channel's lanes, in the first `channels` lanes: lane l holds channel l % channels. */
KP_SPECIALIZED __m512i fold(__m512i acc, size_t channels) {
  const __m512i zero = _mm512_setzero_si512();
  if (channels == 3) { /* 15 lanes: five pixels */
    const __m512i second = _mm512_alignr_epi32(zero, acc, 6), third = _mm512_alignr_epi32(zero, acc, 12);
    const __m512i two = _mm512_add_epi32(_mm512_add_epi32(acc, second), third);
    return _mm512_add_epi32(two, _mm512_alignr_epi32(zero, two, 3));
  }
  acc = _mm512_add_epi32(acc, _mm512_alignr_epi32(zero, acc, 8));
  acc = _mm512_add_epi32(acc, _mm512_alignr_epi32(zero, acc, 4));
  if (channels == 4) return acc;
  acc = _mm512_add_epi32(acc, _mm512_alignr_epi32(zero, acc, 2));
  return _mm512_add_epi32(acc, _mm512_alignr_epi32(zero, acc, 1));
}

/* As many pixels at a time as fit 16 lanes. */
KP_SPECIALIZED void resize(uint8_t *dst, const uint8_t *src, size_t width, const int32_t *starts, const int32_t *counts,
                           const int32_t *weights, size_t weight_stride, size_t channels) {
  const size_t pixels = 16 / channels;
  const __m512i ramp = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i thirds = _mm512_setr_epi32(0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5);
  const __m512i pixel_of_lane = channels == 1 ? ramp : channels == 3 ? thirds : _mm512_srli_epi32(ramp, 2);
  const __mmask16 stored = (__mmask16)((1u << channels) - 1u);
  for (size_t x = 0; x < width; x++) {
    const uint8_t *first = src + (size_t)starts[x] * channels;
    const int32_t *weight = weights + x * weight_stride;
    const size_t count = (size_t)counts[x];
    __m512i acc = _mm512_setzero_si512();
    for (size_t i = 0; i < count; i += pixels) {
      const size_t n = count - i < pixels ? count - i : pixels;
      const __mmask16 weight_mask = (__mmask16)((1u << n) - 1u), pixel_mask = (__mmask16)((1u << n * channels) - 1u);
      const __m512i w = _mm512_maskz_loadu_epi32(weight_mask, weight + i);
      const __m512i p = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(pixel_mask, first + i * channels));
      acc = _mm512_add_epi32(acc, _mm512_mullo_epi32(p, _mm512_permutexvar_epi32(pixel_of_lane, w)));
    }
    const __m512i sum = _mm512_add_epi32(fold(acc, channels), _mm512_set1_epi32(KP_CLIP8_HALF));
    const __m512i value = _mm512_max_epi32(_mm512_srai_epi32(sum, KP_CLIP8_BITS), _mm512_setzero_si512());
    _mm512_mask_cvtusepi32_storeu_epi8(dst + x * channels, stored, value);
  }
}

void kp_resize_row_u8_avx512(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                             const int32_t *counts, const int32_t *weights, size_t weight_stride) {
  if (channels == 1) {
    resize(dst, src, width, starts, counts, weights, weight_stride, 1);
  } else if (channels == 3) {
    resize(dst, src, width, starts, counts, weights, weight_stride, 3);
  } else {
    resize(dst, src, width, starts, counts, weights, weight_stride, 4);
  }
}

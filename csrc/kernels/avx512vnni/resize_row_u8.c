#include <immintrin.h>

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"
#include "kernels/avx512vnni/kernels_avx512vnni.h"
#include "kernels/clip8.h"

#define OUTPUTS 4          /* finished together: a vector has four lanes for each */
#define TAPS KP_RESIZE_PAD /* of a vector */
#define DIGITS 3           /* of a weight */
#define BYTES 64           /* of a vector */

/* Up to 16 pixels as vpdpbusd takes them, four of a channel to a lane: in each 128 bits, dword c has byte c of four
 * pixels; the fourth of three channels is 0. What follows the n pixels meets weights of 0; it is read, but not beyond
 * `end`: a masked load takes longer. */
KP_SPECIALIZED __m512i load_pixels(const uint8_t *src, const uint8_t *end, size_t n, size_t channels) {
  const __m128i of_three = _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1);
  const __m128i of_four = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i twelve_bytes = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
  const __m512i x =
      end - src >= BYTES ? _mm512_loadu_si512(src) : _mm512_maskz_loadu_epi8(~0ull >> (BYTES - n * channels), src);
  if (channels == 4) return _mm512_shuffle_epi8(x, _mm512_broadcast_i32x4(of_four));
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(twelve_bytes, x), _mm512_broadcast_i32x4(of_three));
}

/* The sums of an output pixel: in each 128 bits, a dword for each channel, to be added up. A weight is three signed
 * digits to the base of 256: the bytes of w + 0x8080, of which the two lower ones have their sign bit flipped. */
KP_SPECIALIZED __m512i sum_taps(const uint8_t *src, const uint8_t *end, const int32_t *weights, size_t count,
                                size_t channels) {
  const __m512i bias = _mm512_set1_epi32(0x8080);
  __m512i acc[DIGITS] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
  for (size_t i = 0; i < count; i += TAPS) {
    const size_t n = count - i < TAPS ? count - i : TAPS;
    const __m512i x = load_pixels(src + i * channels, end, n, channels);
    const __m512i digits = _mm512_xor_si512(_mm512_add_epi32(_mm512_loadu_si512(weights + i), bias), bias);
    KP_UNROLL
    for (size_t d = 0; d < DIGITS; d++) {
      const __m512i places = _mm512_set1_epi32((int)(0x0c080400u + 0x01010101u * (unsigned)d));
      acc[d] = _mm512_dpbusd_epi32(acc[d], x, _mm512_shuffle_epi8(digits, places));
    }
  }
  const __m512i low = _mm512_add_epi32(acc[0], _mm512_slli_epi32(acc[1], 8));
  return _mm512_add_epi32(low, _mm512_slli_epi32(acc[2], 16));
}

/* The sums of a's 128 bits in pairs, then b's. */
KP_SPECIALIZED __m512i add_pairs(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

KP_SPECIALIZED void resize(uint8_t *dst, const uint8_t *src, size_t width, const int32_t *starts, const int32_t *counts,
                           const int32_t *weights, size_t weight_stride, size_t channels) {
  const __m128i without_fourth = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
  const uint8_t *end = width > 0 ? src + (size_t)(starts[width - 1] + counts[width - 1]) * channels : src;
  for (size_t x = 0; x < width; x += OUTPUTS) {
    __m512i sums[OUTPUTS];
    KP_UNROLL
    for (size_t i = 0; i < OUTPUTS; i++) {
      const size_t at = x + i < width ? x + i : width - 1;
      sums[i] = sum_taps(src + (size_t)starts[at] * channels, end, weights + at * weight_stride, (size_t)counts[at],
                         channels);
    }
    __m512i sum = add_pairs(add_pairs(sums[0], sums[1]), add_pairs(sums[2], sums[3]));
    sum = _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(KP_CLIP8_HALF)), KP_CLIP8_BITS);
    __m128i pixels = _mm512_cvtusepi32_epi8(_mm512_max_epi32(sum, _mm512_setzero_si512()));
    if (channels == 3) pixels = _mm_shuffle_epi8(pixels, without_fourth);
    const size_t left = width - x < OUTPUTS ? width - x : OUTPUTS;
    _mm_mask_storeu_epi8(dst + x * channels, kp_lanes_avx512(left * channels), pixels);
  }
}

void kp_resize_row_u8_avx512vnni(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                                 const int32_t *counts, const int32_t *weights, size_t weight_stride) {
  if (channels == 3) {
    resize(dst, src, width, starts, counts, weights, weight_stride, 3);
  } else if (channels == 4) {
    resize(dst, src, width, starts, counts, weights, weight_stride, 4);
  } else {
    kp_resize_row_u8_avx512(dst, src, width, channels, starts, counts, weights, weight_stride);
  }
}

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_i8_avx512.h"

/* n <= 16 channels of a tap. */
KP_SPECIALIZED __m128i load_channels(const int8_t *src, size_t n) {
  return n == 16 ? _mm_loadu_si128((const __m128i *)src) : _mm_maskz_loadu_epi8(kp_lanes_avx512(n), src);
}

KP_SPECIALIZED void store_channels(int8_t *dst, size_t n, __m128i x) {
  if (n == 16) {
    _mm_storeu_si128((__m128i *)dst, x);
  } else {
    kp_store_partial_i8_avx512(dst, n, x);
  }
}

void kp_sum_taps_i8_avx512(int32_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count, dst += channels) {
    size_t c = 0;
    for (; c + 64 <= channels; c += 64) {
      __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
      for (size_t t = 0; t < tap_count; t++) {
        KP_UNROLL
        for (size_t j = 0; j < 4; j++) {
          const __m128i x = _mm_loadu_si128((const __m128i *)(taps[t] + c + 16 * j));
          sum[j] = _mm512_add_epi32(sum[j], _mm512_cvtepi8_epi32(x));
        }
      }
      KP_UNROLL
      for (size_t j = 0; j < 4; j++) _mm512_storeu_si512(dst + c + 16 * j, sum[j]);
    }
    for (; c < channels; c += 16) {
      const size_t n = channels - c < 16 ? channels - c : 16;
      __m512i sum = _mm512_setzero_si512();
      for (size_t t = 0; t < tap_count; t++) {
        sum = _mm512_add_epi32(sum, _mm512_cvtepi8_epi32(load_channels(taps[t] + c, n)));
      }
      _mm512_mask_storeu_epi32(dst + c, kp_lanes_avx512(n), sum);
    }
  }
}

void kp_max_taps_i8_avx512(int8_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count, dst += channels) {
    size_t c = 0;
    for (; c + 64 <= channels; c += 64) {
      __m512i largest = _mm512_loadu_si512(taps[0] + c);
      for (size_t t = 1; t < tap_count; t++) largest = _mm512_max_epi8(largest, _mm512_loadu_si512(taps[t] + c));
      _mm512_storeu_si512(dst + c, largest);
    }
    for (; c < channels; c += 16) {
      const size_t n = channels - c < 16 ? channels - c : 16;
      __m128i largest = load_channels(taps[0] + c, n);
      for (size_t t = 1; t < tap_count; t++) largest = _mm_max_epi8(largest, load_channels(taps[t] + c, n));
      store_channels(dst + c, n, largest);
    }
  }
}

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_i8_avx2.h"

#define WIDE_TAPS 256 /* as many bytes' sum fits in int16 */

/* n <= 16 channels from c on, of one pixel. */
KP_SPECIALIZED void sum_channels(int32_t *dst, const int8_t *const *taps, size_t tap_count, size_t c, size_t n) {
  __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
  for (size_t t = 0; t < tap_count;) {
    const size_t end = tap_count - t < WIDE_TAPS ? tap_count : t + WIDE_TAPS;
    __m256i sum = _mm256_setzero_si256();
    for (; t < end; t++) sum = _mm256_add_epi16(sum, _mm256_cvtepi8_epi16(kp_load_partial_i8_avx2(taps[t] + c, n)));
    low = _mm256_add_epi32(low, _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum)));
    high = _mm256_add_epi32(high, _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum, 1)));
  }
  if (n == 16) {
    _mm256_storeu_si256((void *)(dst + c), low);
    _mm256_storeu_si256((void *)(dst + c + 8), high);
  } else {
    _mm256_maskstore_epi32(dst + c, kp_lanes_avx2(n < 8 ? n : 8), low);
    if (n > 8) _mm256_maskstore_epi32(dst + c + 8, kp_lanes_avx2(n - 8), high);
  }
}

void kp_sum_taps_i8_avx2(int32_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count, dst += channels) {
    size_t c = 0;
    for (; c + 16 <= channels; c += 16) sum_channels(dst, taps, tap_count, c, 16);
    if (c < channels) sum_channels(dst, taps, tap_count, c, channels - c);
  }
}

/* Of one pixel, 32 channels, then 16 or fewer, from c on. */
static void max_32_channels(int8_t *dst, const int8_t *const *taps, size_t tap_count, size_t c) {
  __m256i largest = _mm256_loadu_si256((const void *)(taps[0] + c));
  for (size_t t = 1; t < tap_count; t++) {
    largest = _mm256_max_epi8(largest, _mm256_loadu_si256((const void *)(taps[t] + c)));
  }
  _mm256_storeu_si256((void *)(dst + c), largest);
}

KP_SPECIALIZED void max_channels(int8_t *dst, const int8_t *const *taps, size_t tap_count, size_t c, size_t n) {
  __m128i largest = kp_load_partial_i8_avx2(taps[0] + c, n);
  for (size_t t = 1; t < tap_count; t++) largest = _mm_max_epi8(largest, kp_load_partial_i8_avx2(taps[t] + c, n));
  kp_store_partial_i8_avx2(dst + c, n, largest);
}

void kp_max_taps_i8_avx2(int8_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count, dst += channels) {
    size_t c = 0;
    for (; c + 32 <= channels; c += 32) max_32_channels(dst, taps, tap_count, c);
    if (c + 16 <= channels) {
      max_channels(dst, taps, tap_count, c, 16);
      c += 16;
    }
    if (c < channels) max_channels(dst, taps, tap_count, c, channels - c);
  }
}

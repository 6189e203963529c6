#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

#define PIXELS 6

/* `pixels` <= PIXELS pixels of `vectors` <= 2 vectors of channels from c on, the last of `last` <= 8 channels. */
KP_SPECIALIZED void block(float *dst, const float *const *taps, const float *weights, const float *bias,
                          size_t tap_count, size_t channels, size_t c, size_t pixels, size_t vectors, size_t last) {
  __m256 acc[PIXELS][2];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const size_t n = v + 1 < vectors ? 8 : last;
    const __m256 start = bias ? kp_load_partial_f32_avx2(bias + c + 8 * v, n) : _mm256_setzero_ps();
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) acc[p][v] = start;
  }
  for (size_t t = 0; t < tap_count; t++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      const size_t n = v + 1 < vectors ? 8 : last;
      const __m256 w = kp_load_partial_f32_avx2(weights + t * channels + c + 8 * v, n);
      KP_UNROLL
      for (size_t p = 0; p < pixels; p++) {
        const __m256 x = kp_load_partial_f32_avx2(taps[p * tap_count + t] + c + 8 * v, n);
        acc[p][v] = _mm256_fmadd_ps(x, w, acc[p][v]);
      }
    }
  }
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const size_t n = v + 1 < vectors ? 8 : last;
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) kp_store_partial_f32_avx2(dst + p * channels + c + 8 * v, n, acc[p][v]);
  }
}

KP_SPECIALIZED void all_channels(float *dst, const float *const *taps, const float *weights, const float *bias,
                                 size_t tap_count, size_t channels, size_t pixels) {
  size_t c = 0;
  for (; c + 16 <= channels; c += 16) block(dst, taps, weights, bias, tap_count, channels, c, pixels, 2, 8);
  if (c + 8 <= channels) {
    block(dst, taps, weights, bias, tap_count, channels, c, pixels, 1, 8);
    c += 8;
  }
  if (c < channels) block(dst, taps, weights, bias, tap_count, channels, c, pixels, 1, channels - c);
}

void kp_depthwise_f32_avx2(float *dst, const float *const *taps, const float *weights, const float *bias, size_t pixels,
                           size_t tap_count, size_t channels, kp_act act) {
  size_t p = 0;
  for (; p + PIXELS <= pixels; p += PIXELS) {
    float *block_dst = dst + p * channels;
    all_channels(block_dst, taps + p * tap_count, weights, bias, tap_count, channels, PIXELS);
    kp_act_f32_avx2(block_dst, block_dst, PIXELS * channels, act);
  }
  float *rest = dst + p * channels;
  const size_t rest_size = (pixels - p) * channels;
  for (; p < pixels; p++) {
    all_channels(dst + p * channels, taps + p * tap_count, weights, bias, tap_count, channels, 1);
  }
  kp_act_f32_avx2(rest, rest, rest_size, act);
}

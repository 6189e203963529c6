#include "kernels/avx512/kernels_avx512.h"
#include "kernels/unroll.h"

#include <immintrin.h>

#define PIXELS 8

/* `pixels` <= PIXELS pixels of `vectors` <= 2 vectors of channels from c on; `tail` masks the last of them. */
KP_SPECIALIZED void block(float *dst, const float *const *taps, const float *weights, const float *bias,
                          size_t tap_count, size_t channels, size_t c, size_t pixels, size_t vectors, __mmask16 tail) {
  __mmask16 mask[2] = {vectors == 1 ? tail : 0xffff, tail};
  __m512 acc[PIXELS][2];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    __m512 start = bias ? _mm512_maskz_loadu_ps(mask[v], bias + c + 16 * v) : _mm512_setzero_ps();
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) {
      acc[p][v] = start;
    }
  }
  for (size_t t = 0; t < tap_count; t++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      __m512 w = _mm512_maskz_loadu_ps(mask[v], weights + t * channels + c + 16 * v);
      KP_UNROLL
      for (size_t p = 0; p < pixels; p++) {
        __m512 x = _mm512_maskz_loadu_ps(mask[v], taps[p * tap_count + t] + c + 16 * v);
        acc[p][v] = _mm512_fmadd_ps(x, w, acc[p][v]);
      }
    }
  }
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) {
      _mm512_mask_storeu_ps(dst + p * channels + c + 16 * v, mask[v], acc[p][v]);
    }
  }
}

KP_SPECIALIZED void all_channels(float *dst, const float *const *taps, const float *weights, const float *bias,
                                 size_t tap_count, size_t channels, size_t pixels) {
  size_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    block(dst, taps, weights, bias, tap_count, channels, c, pixels, 2, 0xffff);
  }
  if (c + 16 <= channels) {
    block(dst, taps, weights, bias, tap_count, channels, c, pixels, 1, 0xffff);
    c += 16;
  }
  if (c < channels) {
    __mmask16 tail = (__mmask16)((1u << (channels - c)) - 1);
    block(dst, taps, weights, bias, tap_count, channels, c, pixels, 1, tail);
  }
}

void kp_depthwise_f32_avx512(float *dst, const float *const *taps, const float *weights, const float *bias,
                             size_t pixels, size_t tap_count, size_t channels, kp_act act) {
  size_t p = 0;
  for (; p + PIXELS <= pixels; p += PIXELS) {
    float *block_dst = dst + p * channels;
    all_channels(block_dst, taps + p * tap_count, weights, bias, tap_count, channels, PIXELS);
    kp_act_f32_avx512(block_dst, block_dst, PIXELS * channels, act);
  }
  float *rest = dst + p * channels;
  size_t rest_size = (pixels - p) * channels;
  for (; p < pixels; p++) {
    all_channels(dst + p * channels, taps + p * tap_count, weights, bias, tap_count, channels, 1);
  }
  kp_act_f32_avx512(rest, rest, rest_size, act);
}

#include <math.h>

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

#define PIXELS 4

/* `pixels` <= PIXELS pixels of `vectors` <= 4 whole vectors of channels from c on. */
KP_SPECIALIZED void block(float *dst, const float *const *taps, const float *weights, const float *bias,
                          size_t tap_count, size_t channels, size_t c, size_t pixels, size_t vectors) {
  float32x4_t acc[PIXELS][4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const float32x4_t start = bias ? vld1q_f32(bias + c + 4 * v) : vdupq_n_f32(0.0f);
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) acc[p][v] = start;
  }
  for (size_t t = 0; t < tap_count; t++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      const float32x4_t w = vld1q_f32(weights + t * channels + c + 4 * v);
      KP_UNROLL
      for (size_t p = 0; p < pixels; p++) {
        acc[p][v] = vfmaq_f32(acc[p][v], vld1q_f32(taps[p * tap_count + t] + c + 4 * v), w);
      }
    }
  }
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) vst1q_f32(dst + p * channels + c + 4 * v, acc[p][v]);
  }
}

KP_SPECIALIZED void all_channels(float *dst, const float *const *taps, const float *weights, const float *bias,
                                 size_t tap_count, size_t channels, size_t pixels) {
  size_t c = 0;
  for (; c + 16 <= channels; c += 16) block(dst, taps, weights, bias, tap_count, channels, c, pixels, 4);
  for (; c + 4 <= channels; c += 4) block(dst, taps, weights, bias, tap_count, channels, c, pixels, 1);
  for (; c < channels; c++) {
    for (size_t p = 0; p < pixels; p++) {
      float acc = bias ? bias[c] : 0.0f;
      for (size_t t = 0; t < tap_count; t++) acc = fmaf(taps[p * tap_count + t][c], weights[t * channels + c], acc);
      dst[p * channels + c] = acc;
    }
  }
}

void kp_depthwise_f32_neon(float *dst, const float *const *taps, const float *weights, const float *bias, size_t pixels,
                           size_t tap_count, size_t channels, kp_act act) {
  size_t p = 0;
  for (; p + PIXELS <= pixels; p += PIXELS) {
    float *block_dst = dst + p * channels;
    all_channels(block_dst, taps + p * tap_count, weights, bias, tap_count, channels, PIXELS);
    kp_act_f32_neon(block_dst, block_dst, PIXELS * channels, act);
  }
  float *rest = dst + p * channels;
  const size_t rest_size = (pixels - p) * channels;
  for (; p < pixels; p++) {
    all_channels(dst + p * channels, taps + p * tap_count, weights, bias, tap_count, channels, 1);
  }
  kp_act_f32_neon(rest, rest, rest_size, act);
}

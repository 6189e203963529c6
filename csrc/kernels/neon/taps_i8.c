#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_i8_neon.h"

/* Bytes whose sum fits 16 bits, whatever they are. */
#define TAPS_PER_SUM16 256

KP_SPECIALIZED void sum16(int32_t *dst, const int8_t *const *taps, size_t tap_count, size_t c) {
  int32x4_t sum[4];
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) sum[v] = vdupq_n_s32(0);
  for (size_t first = 0; first < tap_count; first += TAPS_PER_SUM16) {
    const size_t end = tap_count - first < TAPS_PER_SUM16 ? tap_count : first + TAPS_PER_SUM16;
    int16x8_t low = vdupq_n_s16(0), high = vdupq_n_s16(0);
    for (size_t t = first; t < end; t++) {
      const int8x16_t x = vld1q_s8(taps[t] + c);
      low = vaddw_s8(low, vget_low_s8(x));
      high = vaddw_high_s8(high, x);
    }
    sum[0] = vaddw_s16(sum[0], vget_low_s16(low));
    sum[1] = vaddw_high_s16(sum[1], low);
    sum[2] = vaddw_s16(sum[2], vget_low_s16(high));
    sum[3] = vaddw_high_s16(sum[3], high);
  }
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) vst1q_s32(dst + c + 4 * v, sum[v]);
}

void kp_sum_taps_i8_neon(int32_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count, dst += channels) {
    size_t c = 0;
    for (; c + 16 <= channels; c += 16) sum16(dst, taps, tap_count, c);
    for (; c < channels; c++) {
      int32_t sum = 0;
      for (size_t t = 0; t < tap_count; t++) sum += taps[t][c];
      dst[c] = sum;
    }
  }
}

void kp_max_taps_i8_neon(int8_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count, dst += channels) {
    size_t c = 0;
    for (; c + 16 <= channels; c += 16) {
      int8x16_t largest = vld1q_s8(taps[0] + c);
      for (size_t t = 1; t < tap_count; t++) largest = vmaxq_s8(largest, vld1q_s8(taps[t] + c));
      vst1q_s8(dst + c, largest);
    }
    for (; c + 8 <= channels; c += 8) {
      int8x8_t largest = vld1_s8(taps[0] + c);
      for (size_t t = 1; t < tap_count; t++) largest = vmax_s8(largest, vld1_s8(taps[t] + c));
      vst1_s8(dst + c, largest);
    }
    for (; c < channels; c++) {
      int8_t largest = taps[0][c];
      for (size_t t = 1; t < tap_count; t++) largest = taps[t][c] > largest ? taps[t][c] : largest;
      dst[c] = largest;
    }
  }
}

#include "kernels/depthwise_i8_pixels.h"
#include "kernels/neon/epilogue_i8_neon.h"
#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_i8_neon.h"

/* Pixels finished by one call of the epilogue. */
#define PIXELS 32

/* `count` channels: 16, or fewer. */
KP_SPECIALIZED int8x16_t load(const int8_t *src, size_t count) {
  return count == KP_TILE_COLUMNS ? vld1q_s8(src) : kp_load_part_s8_neon(src, count);
}

KP_SPECIALIZED void add(int32x4_t acc[4], int16x8_t low, int16x8_t high) {
  acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
  acc[1] = vaddw_high_s16(acc[1], low);
  acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
  acc[3] = vaddw_high_s16(acc[3], high);
}

/* out[p][..] = the accumulators of `count` channels from c on, of `pixels` <= 2 pixels, given their taps. The sum of
 * two products fits 16 bits, since weights are at least -127: 2 * 128 * 127 < 2^15. */
KP_SPECIALIZED void accumulate(const kp_depthwise_i8_args *args, const int8_t *const *const *taps, size_t c,
                               size_t count, size_t pixels, int32_t *out) {
  const size_t tap_count = args->tap_count;
  const int8_t *weights = args->weights + c;
  int32x4_t acc[2][4];
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) acc[0][v] = acc[1][v] = vld1q_s32(args->epilogue.offset + c + 4 * v);
  size_t t = 0;
  for (; t + 2 <= tap_count; t += 2, weights += 2 * args->weight_stride) {
    const int8x16_t w0 = vld1q_s8(weights), w1 = vld1q_s8(weights + args->weight_stride);
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) {
      const int8x16_t x0 = load(taps[p][t] + c, count);
      const int8x16_t x1 = load(taps[p][t + 1] + c, count);
      const int16x8_t low = vmull_s8(vget_low_s8(x0), vget_low_s8(w0));
      const int16x8_t high = vmull_high_s8(x0, w0);
      add(acc[p], vmlal_s8(low, vget_low_s8(x1), vget_low_s8(w1)), vmlal_high_s8(high, x1, w1));
    }
  }
  if (t < tap_count) {
    const int8x16_t w = vld1q_s8(weights);
    KP_UNROLL
    for (size_t p = 0; p < pixels; p++) {
      const int8x16_t x = load(taps[p][t] + c, count);
      add(acc[p], vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w));
    }
  }
  KP_UNROLL
  for (size_t p = 0; p < pixels; p++) {
    KP_UNROLL
    for (size_t v = 0; v < 4; v++) vst1q_s32(out + p * KP_TILE_COLUMNS + 4 * v, acc[p][v]);
  }
}

KP_SPECIALIZED void block(const kp_depthwise_i8_args *args, const int8_t *const *const *taps, size_t pixel,
                          size_t pixels, size_t c, size_t count) {
  _Alignas(16) int32_t acc[PIXELS * KP_TILE_COLUMNS];
  size_t p = 0;
  for (; p + 2 <= pixels; p += 2) accumulate(args, taps + p, c, count, 2, acc + p * KP_TILE_COLUMNS);
  if (p < pixels) accumulate(args, taps + p, c, count, 1, acc + p * KP_TILE_COLUMNS);
  kp_epilogue_i8_neon(&args->epilogue, acc, pixel, c, pixels, count);
}

void kp_depthwise_i8_neon(const kp_depthwise_i8_args *args) {
  const size_t all = args->rows * args->width;
  for (size_t pixel = 0; pixel < all; pixel += PIXELS) {
    const size_t pixels = all - pixel < PIXELS ? all - pixel : PIXELS;
    const int8_t *const *taps[PIXELS];
    kp_depthwise_pixels(args, pixel, pixels, taps);
    size_t c = 0;
    for (; c + KP_TILE_COLUMNS <= args->channels; c += KP_TILE_COLUMNS) {
      block(args, taps, pixel, pixels, c, KP_TILE_COLUMNS);
    }
    if (c < args->channels) block(args, taps, pixel, pixels, c, args->channels - c);
  }
}

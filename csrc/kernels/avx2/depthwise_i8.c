#include "kernels/avx2/epilogue_i8_avx2.h"
#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_i8_avx2.h"
#include "kernels/c/kernels_c.h"
#include "kernels/depthwise_i8_pixels.h"

#define PIXELS 3    /* whose sums fit in registers */
#define TILE 24     /* pixels that share widened weights, and whose inputs stay in the first-level cache */
#define CHANNELS 16 /* in two vectors */
#define TAPS 64     /* whose weights are kept widened */

/* For the two halves of 16 channels, in the order 0 to 3, 8 to 11, and 4 to 7, 12 to 15. */
typedef struct halves {
  __m256i low, high;
} halves;

typedef struct depthwise {
  const kp_depthwise_i8_args *args;
  kp_epilogue_i8_rows epilogue;
  halves offset;
  halves weights[TAPS / 2];          /* by pairs of taps */
  const int8_t *const *pixels[TILE]; /* their taps */
} depthwise;

/* The inputs or weights of two taps side by side as int16. */
KP_SPECIALIZED halves pair(__m128i a, __m128i b) {
  const __m256i x = _mm256_cvtepi8_epi16(a), y = _mm256_cvtepi8_epi16(b);
  return (halves){_mm256_unpacklo_epi16(x, y), _mm256_unpackhi_epi16(x, y)};
}

/* From halves to two vectors of 8 channels in order, and back. */
KP_SPECIALIZED halves exchange(__m256i a, __m256i b) {
  return (halves){_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)};
}

/* Of CHANNELS channels from c on, a multiple of CHANNELS. An odd tap makes a pair with itself, the second weight 0. */
static void prepare(depthwise *d, size_t c) {
  const size_t stride = d->args->weight_stride, tap_count = d->args->tap_count;
  const int32_t *offset = d->args->epilogue.offset + c;
  d->offset = exchange(_mm256_loadu_si256((const void *)offset), _mm256_loadu_si256((const void *)(offset + 8)));
  for (size_t t = 0; t < tap_count; t += 2) {
    const int8_t *weights = d->args->weights + t * stride + c;
    const __m128i next = t + 1 < tap_count ? _mm_loadu_si128((const void *)(weights + stride)) : _mm_setzero_si128();
    d->weights[t / 2] = pair(_mm_loadu_si128((const void *)weights), next);
  }
}

/* The sums of n <= CHANNELS channels from c on for `pixels` <= PIXELS rows of the block, `row` on, and their taps. */
KP_SPECIALIZED void multiply(const depthwise *d, const int8_t *const *const *taps, size_t c, size_t n,
                             kp_block_i8 *block, size_t row, size_t pixels) {
  const size_t tap_count = d->args->tap_count;
  halves acc[PIXELS];
  KP_UNROLL
  for (size_t i = 0; i < pixels; i++) acc[i] = d->offset;
  for (size_t t = 0; t < tap_count; t += 2) {
    const size_t next = t + 1 < tap_count ? t + 1 : t;
    const halves w = d->weights[t / 2];
    KP_UNROLL
    for (size_t i = 0; i < pixels; i++) {
      const halves x = pair(kp_load_partial_i8_avx2(taps[i][t] + c, n), kp_load_partial_i8_avx2(taps[i][next] + c, n));
      acc[i].low = _mm256_add_epi32(acc[i].low, _mm256_madd_epi16(x.low, w.low));
      acc[i].high = _mm256_add_epi32(acc[i].high, _mm256_madd_epi16(x.high, w.high));
    }
  }
  KP_UNROLL
  for (size_t i = 0; i < pixels; i++) {
    const halves in_order = exchange(acc[i].low, acc[i].high);
    block->acc[0][row + i] = in_order.low;
    block->acc[1][row + i] = in_order.high;
  }
}

/* n <= CHANNELS channels of the tile, whose pixels are `first` and so on. */
KP_SPECIALIZED void run_tile(depthwise *d, size_t first, size_t pixels, size_t c, size_t n) {
  prepare(d, c);
  for (size_t p = 0; p < pixels; p += KP_BLOCK_I8_ROWS) {
    const size_t rows = pixels - p < KP_BLOCK_I8_ROWS ? pixels - p : KP_BLOCK_I8_ROWS;
    kp_block_i8 block;
    size_t row = 0;
    for (; row + PIXELS <= rows; row += PIXELS) multiply(d, d->pixels + p + row, c, n, &block, row, PIXELS);
    for (; row < rows; row++) multiply(d, d->pixels + p + row, c, n, &block, row, 1);
    kp_epilogue_i8_avx2(d->epilogue, &d->args->epilogue, first + p, c, rows, n, &block);
  }
}

void kp_depthwise_i8_avx2(const kp_depthwise_i8_args *args) {
  if (args->tap_count > TAPS) {
    kp_depthwise_i8_c(args);
    return;
  }
  depthwise d;
  d.args = args;
  d.epilogue = kp_epilogue_i8_for_act_avx2(args->epilogue.act);
  const size_t all = args->rows * args->width;
  for (size_t p = 0; p < all; p += TILE) {
    const size_t pixels = all - p < TILE ? all - p : TILE;
    kp_depthwise_pixels(args, p, pixels, d.pixels);
    size_t c = 0;
    for (; c + CHANNELS <= args->channels; c += CHANNELS) run_tile(&d, p, pixels, c, CHANNELS);
    if (c < args->channels) run_tile(&d, p, pixels, c, args->channels - c);
  }
}

#include <immintrin.h>

#include "kernels/avx512/epilogue_i8_avx512.h"
#include "kernels/avx512/math_i8_avx512.h"
#include "kernels/avx512vnni/kernels_avx512vnni.h"
#include "kernels/c/kernels_c.h"

/* A vector of bytes is 4 pieces of 16 channels: 64 channels of a pixel, 32 of two or 16 of four. Interleaved with 3
 * others, tap by tap, it becomes 4 vectors for vpdpbusd, 4 bytes a lane: the j-th has channels 4 j to 4 j + 3 of piece i
 * in its i-th 128 bits. Packing their results into bytes puts the channels in order again, so that up to there
 * everything stays in the interleaved order. */
#define PIECES 4
#define PIECE 16
#define TAPS 4 /* that a vector interleaves */
#define MAX_GROUPS 16
#define VECTORS 2 /* of bytes that advance together */

/* `count` <= 64 channels from `first` on, their weights and vectors in the interleaved order. */
typedef struct channel_block {
  size_t first, count;
  __m512i weights[MAX_GROUPS][4];
  __m512i offset[4];
  __m512 scale[4], bias[4], inverse[4], shift[4];
} channel_block;

KP_SPECIALIZED void interleave(__m512i *lanes, __m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
  lanes[0] = _mm512_unpacklo_epi16(ab_low, cd_low);
  lanes[1] = _mm512_unpackhi_epi16(ab_low, cd_low);
  lanes[2] = _mm512_unpacklo_epi16(ab_high, cd_high);
  lanes[3] = _mm512_unpackhi_epi16(ab_high, cd_high);
}

/* 4 x 4 times 128 bits: between 4 vectors of 16 channels and the interleaved order, either way. */
KP_SPECIALIZED void transpose_128(__m512i *x) {
  const __m512i a = _mm512_shuffle_i32x4(x[0], x[1], 0x88), b = _mm512_shuffle_i32x4(x[0], x[1], 0xdd);
  const __m512i c = _mm512_shuffle_i32x4(x[2], x[3], 0x88), d = _mm512_shuffle_i32x4(x[2], x[3], 0xdd);
  x[0] = _mm512_shuffle_i32x4(a, c, 0x88);
  x[1] = _mm512_shuffle_i32x4(b, d, 0x88);
  x[2] = _mm512_shuffle_i32x4(a, c, 0xdd);
  x[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* An array by column in the interleaved order, repeated for each pixel of a vector. */
static void load_columns(__m512i *x, const void *src, size_t pieces) {
  for (size_t i = 0; i < PIECES; i++) x[i] = _mm512_loadu_si512((const int32_t *)src + i % pieces * PIECE);
  transpose_128(x);
}

static void load_columns_f32(__m512 *x, const float *src, size_t pieces) {
  __m512i bits[4];
  load_columns(bits, src, pieces);
  for (size_t j = 0; j < 4; j++) x[j] = _mm512_castsi512_ps(bits[j]);
}

static __m512i load_weights(const int8_t *src, size_t pieces) {
  switch (pieces) {
    case 1:
      return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)src));
    case 2:
      return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)src));
    default:
      return _mm512_loadu_si512(src);
  }
}

/* vpdpbusd multiplies unsigned by signed: the inputs become x + 128, which the offsets make up for. */
static void prepare(channel_block *block, const kp_depthwise_i8_args *args, size_t first, size_t count, size_t pieces) {
  const kp_epilogue_i8 *epilogue = &args->epilogue;
  block->first = first;
  block->count = count;
  load_columns(block->offset, epilogue->offset + first, pieces);
  for (size_t t = 0; t < args->tap_count; t += TAPS) {
    __m512i w[TAPS], *lanes = block->weights[t / TAPS];
    for (size_t i = 0; i < TAPS; i++) {
      w[i] = t + i < args->tap_count ? load_weights(args->weights + (t + i) * args->weight_stride + first, pieces)
                                     : _mm512_setzero_si512();
    }
    interleave(lanes, w[0], w[1], w[2], w[3]);
    for (size_t j = 0; j < 4; j++) {
      const __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(-128), lanes[j]);
      block->offset[j] = _mm512_sub_epi32(block->offset[j], sum);
    }
  }
  load_columns_f32(block->scale, epilogue->scale + first, pieces);
  load_columns_f32(block->bias, epilogue->bias + first, pieces);
  if (epilogue->dst_i8) {
    load_columns_f32(block->inverse, epilogue->quantizer.inverse + first, pieces);
    load_columns_f32(block->shift, epilogue->quantizer.shift + first, pieces);
  }
}

/* The taps of a vector's pixels. */
typedef struct vector_taps {
  const int8_t *const *pixel[PIECES];
} vector_taps;

KP_SPECIALIZED __m128i load_piece(const int8_t *src, __mmask16 mask) {
  return mask == 0xffff ? _mm_loadu_si128((const __m128i *)src) : _mm_maskz_loadu_epi8(mask, src);
}

KP_SPECIALIZED __m512i load_tap(const vector_taps *taps, size_t t, size_t first, size_t pieces, __mmask16 mask) {
  __m512i x;
  if (pieces == 4) {
    x = _mm512_loadu_si512(taps->pixel[0][t] + first);
  } else if (pieces == 2) {
    x = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(taps->pixel[0][t] + first)));
    x = _mm512_inserti64x4(x, _mm256_loadu_si256((const __m256i *)(taps->pixel[1][t] + first)), 1);
  } else {
    x = _mm512_castsi128_si512(load_piece(taps->pixel[0][t] + first, mask));
    x = _mm512_inserti32x4(x, load_piece(taps->pixel[1][t] + first, mask), 1);
    x = _mm512_inserti32x4(x, load_piece(taps->pixel[2][t] + first, mask), 2);
    x = _mm512_inserti32x4(x, load_piece(taps->pixel[3][t] + first, mask), 3);
  }
  return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}

/* Adds taps t to t + 3. Missing ones repeat the last: their weights are 0. */
KP_SPECIALIZED void add_taps(__m512i acc[VECTORS][4], const channel_block *block, const vector_taps *taps, size_t t,
                             size_t tap_count, size_t pieces, __mmask16 mask) {
  const __m512i *weights = block->weights[t / TAPS];
  const size_t last = tap_count - 1;
  const size_t t1 = t + 1 < last ? t + 1 : last, t2 = t + 2 < last ? t + 2 : last, t3 = t + 3 < last ? t + 3 : last;
  KP_UNROLL
  for (size_t v = 0; v < VECTORS; v++) {
    __m512i lanes[4];
    interleave(lanes, load_tap(&taps[v], t, block->first, pieces, mask),
               load_tap(&taps[v], t1, block->first, pieces, mask), load_tap(&taps[v], t2, block->first, pieces, mask),
               load_tap(&taps[v], t3, block->first, pieces, mask));
    KP_UNROLL
    for (size_t j = 0; j < 4; j++) acc[v][j] = _mm512_dpbusd_epi32(acc[v][j], lanes[j], weights[j]);
  }
}

/* The sums of VECTORS vectors' pixels, offsets added. */
KP_SPECIALIZED void sum_taps(__m512i acc[VECTORS][4], const channel_block *block, const vector_taps *taps,
                             size_t tap_count, size_t pieces, __mmask16 mask) {
  KP_UNROLL
  for (size_t v = 0; v < VECTORS; v++) {
    KP_UNROLL
    for (size_t j = 0; j < 4; j++) acc[v][j] = block->offset[j];
  }
  if (tap_count == 9) { /* without a loop, the accumulators stay in registers */
    add_taps(acc, block, taps, 0, 9, pieces, mask);
    add_taps(acc, block, taps, 4, 9, pieces, mask);
    add_taps(acc, block, taps, 8, 9, pieces, mask);
  } else {
    for (size_t t = 0; t < tap_count; t += TAPS) add_taps(acc, block, taps, t, tap_count, pieces, mask);
  }
}

KP_SPECIALIZED void store_piece(int8_t *dst, __m128i q, size_t count) {
  if (count >= PIECE) {
    _mm_storeu_si128((__m128i *)dst, q);
  } else {
    kp_store_partial_i8_avx512(dst, count, q);
  }
}

/* The bytes of a vector's first `pixels` pixels. */
KP_SPECIALIZED void store_vector(const kp_epilogue_i8 *epilogue, const channel_block *block, size_t p, size_t pixels,
                                 __m512i q, size_t pieces) {
  const size_t stride = epilogue->dst_stride;
  int8_t *dst = epilogue->dst_i8 + p * stride + block->first;
  if (pieces == 4) {
    _mm512_storeu_si512(dst, q);
  } else if (pieces == 2) {
    _mm256_storeu_si256((__m256i *)dst, _mm512_castsi512_si256(q));
    if (pixels > 1) _mm256_storeu_si256((__m256i *)(dst + stride), _mm512_extracti64x4_epi64(q, 1));
  } else {
    store_piece(dst, _mm512_castsi512_si128(q), block->count);
    if (pixels > 1) store_piece(dst + stride, _mm512_extracti32x4_epi32(q, 1), block->count);
    if (pixels > 2) store_piece(dst + 2 * stride, _mm512_extracti32x4_epi32(q, 2), block->count);
    if (pixels > 3) store_piece(dst + 3 * stride, _mm512_extracti32x4_epi32(q, 3), block->count);
  }
}

/* The vectors in the interleaved order to quantised bytes, channels in order. */
KP_SPECIALIZED void quantize(__m512i q[VECTORS], __m512i acc[VECTORS][4], const channel_block *block, kp_act act,
                             kp_act any) {
  __m512 x[4 * VECTORS];
  KP_UNROLL
  for (size_t i = 0; i < 4 * VECTORS; i++) {
    const size_t j = i / VECTORS;
    x[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i % VECTORS][j]), block->scale[j], block->bias[j]);
  }
  kp_apply_act_i8_avx512(act, any, x, 4 * VECTORS);
  KP_UNROLL
  for (size_t i = 0; i < 4 * VECTORS; i++) {
    const size_t j = i / VECTORS;
    acc[i % VECTORS][j] = kp_quantize_f32_avx512(x[i], block->inverse[j], block->shift[j]);
  }
  KP_UNROLL
  for (size_t v = 0; v < VECTORS; v++) {
    q[v] = _mm512_packs_epi16(_mm512_packs_epi32(acc[v][0], acc[v][1]), _mm512_packs_epi32(acc[v][2], acc[v][3]));
  }
}

/* The taps of the vectors from pixel p on; missing pixels repeat the last one. */
KP_SPECIALIZED void find_taps(vector_taps *taps, const kp_depthwise_i8_args *args, size_t vectors, size_t p,
                              size_t tap_count, size_t pieces) {
  const size_t each = PIECES / pieces;
  KP_UNROLL
  for (size_t i = 0; i < vectors * each; i++) {
    const size_t pixel = p + i < args->pixels ? p + i : args->pixels - 1;
    taps[i / each].pixel[i % each] = args->taps + pixel * tap_count;
  }
}

/* To int8 without a residual. */
KP_SPECIALIZED void run_quantized(const kp_depthwise_i8_args *args, const channel_block *block, kp_act act,
                                  size_t tap_count, size_t pieces, __mmask16 mask) {
  const size_t each = PIECES / pieces;
  for (size_t p = 0; p < args->pixels; p += VECTORS * each) {
    vector_taps taps[VECTORS];
    __m512i acc[VECTORS][4], q[VECTORS];
    find_taps(taps, args, VECTORS, p, tap_count, pieces);
    sum_taps(acc, block, taps, tap_count, pieces, mask);
    quantize(q, acc, block, act, args->epilogue.act);
    KP_UNROLL
    for (size_t v = 0; v < VECTORS; v++) {
      const size_t first = p + v * each;
      if (first < args->pixels) store_vector(&args->epilogue, block, first, args->pixels - first, q[v], pieces);
    }
  }
}

/* One of the SUM_STEPS steps of the sum of a vector's 9 taps. `bytes` is what a step leaves to the next. */
#define SUM_STEPS 6
KP_SPECIALIZED void sum_step(size_t step, __m512i *acc, __m512i *bytes, const channel_block *block,
                             const vector_taps *taps, size_t pieces, __mmask16 mask) {
  const size_t t = step / 2 * TAPS, first = block->first;
  if (step % 2 == 0) {
    const __m512i a = load_tap(taps, t, first, pieces, mask);
    const __m512i b = step == 4 ? a : load_tap(taps, t + 1, first, pieces, mask);
    const __m512i c = step == 4 ? a : load_tap(taps, t + 2, first, pieces, mask);
    const __m512i d = step == 4 ? a : load_tap(taps, t + 3, first, pieces, mask);
    bytes[0] = _mm512_unpacklo_epi8(a, b);
    bytes[1] = _mm512_unpackhi_epi8(a, b);
    bytes[2] = _mm512_unpacklo_epi8(c, d);
    bytes[3] = _mm512_unpackhi_epi8(c, d);
  } else {
    const __m512i *weights = block->weights[t / TAPS], *from = step == 1 ? block->offset : acc;
    acc[0] = _mm512_dpbusd_epi32(from[0], _mm512_unpacklo_epi16(bytes[0], bytes[2]), weights[0]);
    acc[1] = _mm512_dpbusd_epi32(from[1], _mm512_unpackhi_epi16(bytes[0], bytes[2]), weights[1]);
    acc[2] = _mm512_dpbusd_epi32(from[2], _mm512_unpacklo_epi16(bytes[1], bytes[3]), weights[2]);
    acc[3] = _mm512_dpbusd_epi32(from[3], _mm512_unpackhi_epi16(bytes[1], bytes[3]), weights[3]);
  }
}

/* To int8 by SiLU without a residual, 9 taps. */
KP_SPECIALIZED void run_silu_9(const kp_depthwise_i8_args *args, const channel_block *block, size_t pieces,
                               __mmask16 mask) {
  const float *c = kp_silu_i8_coefficients_avx512;
  const size_t each = PIECES / pieces;
  vector_taps taps;
  __m512 x[4], a[4], u[4];
  __m512i acc[4], bytes[4];
  find_taps(&taps, args, 1, 0, 9, pieces);
  KP_UNROLL
  for (size_t step = 0; step < SUM_STEPS; step++) sum_step(step, acc, bytes, block, &taps, pieces, mask);
  for (size_t p = 0; p < args->pixels; p += each) {
    find_taps(&taps, args, 1, p + each, 9, pieces);
    KP_UNROLL
    for (size_t j = 0; j < 4; j++) {
      x[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[j]), block->scale[j], block->bias[j]);
      a[j] = kp_bounded_magnitude_avx512(x[j], KP_SILU_I8_LIMIT);
      x[j] = _mm512_max_ps(x[j], _mm512_setzero_ps());
      u[j] = _mm512_set1_ps(c[8]);
    }
    KP_UNROLL
    for (size_t step = 0; step < 8; step++) {
      kp_horner_step_avx512(u, a, 4, c[7 - step]);
      if (step < SUM_STEPS) {
        sum_step(step, acc, bytes, block, &taps, pieces, mask);
        if (step % 2 == 0) {
          __asm__("" : "+v"(u[0]), "+v"(u[1]), "+v"(u[2]), "+v"(u[3]), "+v"(bytes[0]), "+v"(bytes[1]), "+v"(bytes[2]), "+v"(bytes[3]));
        } else {
          __asm__("" : "+v"(u[0]), "+v"(u[1]), "+v"(u[2]), "+v"(u[3]), "+v"(acc[0]), "+v"(acc[1]), "+v"(acc[2]), "+v"(acc[3]));
        }
      }
    }
    __m512i q[4];
    KP_UNROLL
    for (size_t j = 0; j < 4; j++) {
      q[j] = kp_quantize_f32_avx512(_mm512_fnmadd_ps(u[j], a[j], x[j]), block->inverse[j], block->shift[j]);
    }
    store_vector(&args->epilogue, block, p, args->pixels - p, _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])), pieces);
  }
}

KP_SPECIALIZED void run_general(const kp_depthwise_i8_args *args, const channel_block *block, size_t pieces,
                                __mmask16 mask) {
  _Alignas(64) int32_t sums[VECTORS * PIECES * PIECE];
  const size_t each = PIECES / pieces;
  for (size_t p = 0; p < args->pixels; p += VECTORS * each) {
    vector_taps taps[VECTORS];
    __m512i acc[VECTORS][4];
    find_taps(taps, args, VECTORS, p, args->tap_count, pieces);
    sum_taps(acc, block, taps, args->tap_count, pieces, mask);
    for (size_t v = 0; v < VECTORS; v++) {
      transpose_128(acc[v]);
      for (size_t i = 0; i < PIECES; i++) _mm512_store_si512(sums + (v * PIECES + i) * PIECE, acc[v][i]);
    }
    const size_t pixels = args->pixels - p < VECTORS * each ? args->pixels - p : VECTORS * each;
    kp_epilogue_i8_avx512(&args->epilogue, sums, p, pixels, block->first, block->count);
  }
}

KP_SPECIALIZED void run(const kp_depthwise_i8_args *args, size_t first, size_t count, size_t pieces, __mmask16 mask) {
  const kp_epilogue_i8 *epilogue = &args->epilogue;
  channel_block block;
  prepare(&block, args, first, count, pieces);
  if (epilogue->dst_f32 || epilogue->residual_f32 || epilogue->residual_i8) {
    run_general(args, &block, pieces, mask);
  } else if (args->tap_count == 9 && epilogue->act == KP_ACT(KP_SILU)) {
    run_silu_9(args, &block, pieces, mask);
  } else if (epilogue->act == KP_ACT(KP_SILU)) {
    run_quantized(args, &block, KP_ACT(KP_SILU), args->tap_count, pieces, mask);
  } else if (args->tap_count == 9 && epilogue->act == KP_ACT_NONE) {
    run_quantized(args, &block, KP_ACT_NONE, 9, pieces, mask);
  } else if (args->tap_count == 9) {
    run_quantized(args, &block, KP_ACT_ANY, 9, pieces, mask);
  } else {
    run_quantized(args, &block, KP_ACT_ANY, args->tap_count, pieces, mask);
  }
}

void kp_depthwise_i8_avx512vnni(const kp_depthwise_i8_args *args) {
  if (args->tap_count > MAX_GROUPS * TAPS) {
    kp_depthwise_i8_c(args);
    return;
  }
  if (args->pixels == 0) return;
  size_t c = 0;
  for (; c + 64 <= args->channels; c += 64) run(args, c, 64, 4, 0xffff);
  if (c + 32 <= args->channels) {
    run(args, c, 32, 2, 0xffff);
    c += 32;
  }
  for (; c < args->channels; c += PIECE) {
    const size_t count = args->channels - c < PIECE ? args->channels - c : PIECE;
    run(args, c, count, 1, kp_lanes_avx512(count));
  }
}

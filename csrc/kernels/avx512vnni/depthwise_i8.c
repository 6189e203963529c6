#include "kernels/avx512/epilogue_i8_avx512.h"
#include "kernels/avx512/interleave_avx512.h"
#include "kernels/avx512vnni/kernels_avx512vnni.h"
#include "kernels/c/kernels_c.h"

/* A vector of bytes is 4 pieces of 16 channels: 64 channels of a pixel, 32 of two or 16 of four. Interleaved with those
 * of 3 other taps it becomes 4 vectors for vpdpbusd, 4 bytes a lane: the j-th has channels 4 j to 4 j + 3 of piece i in
 * its i-th 128 bits. Packing their results into bytes puts the channels in order again, so that up to there everything
 * stays in this interleaved order. `pieces` is how many of the 4 are one pixel's. */
#define PIECES 4
#define PIECE 16
#define TAPS 4 /* of a group: what is interleaved */
#define MAX_GROUPS 16
#define GENERAL_VECTORS 4 /* that the general epilogue takes at a time */

/* `count` <= 64 channels from `first` on, their weights and vectors in the interleaved order. */
typedef struct channel_block {
  size_t first, count;
  __m512i weights[MAX_GROUPS][4];
  __m512i offset[4];
  __m512 scale[4], bias[4], inverse[4], shift[4];
} channel_block;

/* The taps of a vector's pixels. */
typedef struct vector_taps {
  const int8_t *const *pixel[PIECES];
} vector_taps;

/* An array by column in the interleaved order, repeated for each pixel of a vector. */
static void load_columns(__m512i *x, const void *src, size_t pieces) {
  for (size_t i = 0; i < PIECES; i++) x[i] = _mm512_loadu_si512((const int32_t *)src + i % pieces * PIECE);
  kp_transpose_128_avx512(x);
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
    kp_interleave_bytes_avx512(w, w[0], w[1], w[2], w[3]);
    kp_interleave_pairs_avx512(lanes, w);
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

/* The taps of a vector from pixel p on; missing pixels repeat the last one. */
KP_SPECIALIZED vector_taps find_taps(const kp_depthwise_i8_args *args, size_t p, size_t tap_count, size_t pieces) {
  vector_taps taps;
  KP_UNROLL
  for (size_t i = 0; i * pieces < PIECES; i++) {
    taps.pixel[i] = args->taps + (p + i < args->pixels ? p + i : args->pixels - 1) * tap_count;
  }
  return taps;
}

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

/* Taps t to t + 3. Missing ones repeat the last: their weights are 0. */
KP_SPECIALIZED void load_pairs(__m512i *pairs, const channel_block *block, const vector_taps *taps, size_t t,
                               size_t tap_count, size_t pieces, __mmask16 mask) {
  __m512i x[TAPS];
  KP_UNROLL
  for (size_t i = 0; i < TAPS; i++) {
    x[i] = load_tap(taps, t + i < tap_count ? t + i : tap_count - 1, block->first, pieces, mask);
  }
  kp_interleave_bytes_avx512(pairs, x[0], x[1], x[2], x[3]);
}

KP_SPECIALIZED void add_pairs(__m512i *acc, const __m512i *pairs, const __m512i *weights) {
  __m512i lanes[4];
  kp_interleave_pairs_avx512(lanes, pairs);
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) acc[j] = _mm512_dpbusd_epi32(acc[j], lanes[j], weights[j]);
}

KP_SPECIALIZED void load_offsets(__m512i *acc, const channel_block *block) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) acc[j] = block->offset[j];
}

KP_SPECIALIZED void add_taps(__m512i *acc, const channel_block *block, const vector_taps *taps, size_t t,
                             size_t tap_count, size_t pieces, __mmask16 mask) {
  __m512i pairs[4];
  load_pairs(pairs, block, taps, t, tap_count, pieces, mask);
  add_pairs(acc, pairs, block->weights[t / TAPS]);
}

/* A vector's sums, offsets added. */
KP_SPECIALIZED void sum_taps(__m512i *acc, const channel_block *block, const vector_taps *taps, size_t tap_count,
                             size_t pieces, __mmask16 mask) {
  load_offsets(acc, block);
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

/* Quantises and stores a vector from pixel p on. */
KP_SPECIALIZED void store_vector(const kp_depthwise_i8_args *args, const channel_block *block, size_t p,
                                 const __m512 *x, size_t pieces) {
  const size_t stride = args->epilogue.dst_stride, pixels = args->pixels - p;
  int8_t *dst = args->epilogue.dst_i8 + p * stride + block->first;
  __m512i lanes[4];
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) lanes[j] = kp_quantize_f32_avx512(x[j], block->inverse[j], block->shift[j]);
  const __m512i q = _mm512_packs_epi16(_mm512_packs_epi32(lanes[0], lanes[1]), _mm512_packs_epi32(lanes[2], lanes[3]));
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

KP_SPECIALIZED void scale(__m512 *x, const __m512i *acc, const channel_block *block) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) x[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[j]), block->scale[j], block->bias[j]);
}

/* To int8 without a residual; `act` as in kp_apply_act_i8_avx512. */
KP_SPECIALIZED void run_quantized(const kp_depthwise_i8_args *args, const channel_block *block, kp_act act,
                                  size_t tap_count, size_t pieces, __mmask16 mask) {
  for (size_t p = 0; p < args->pixels; p += PIECES / pieces) {
    const vector_taps taps = find_taps(args, p, tap_count, pieces);
    __m512i acc[4];
    __m512 x[4];
    sum_taps(acc, block, &taps, tap_count, pieces, mask);
    scale(x, acc, block);
    kp_apply_act_i8_avx512(act, args->epilogue.act, x, 4);
    store_vector(args, block, p, x, pieces);
  }
}

/* Nothing; but a compiler takes the steps of the two computations no further apart than this. */
KP_SPECIALIZED void keep_abreast(__m512 *x, __m512i *y) {
  __asm__("" : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3]), "+v"(y[0]), "+v"(y[1]), "+v"(y[2]), "+v"(y[3]));
}

/* 9 taps to int8 by SiLU, as in kp_rectified_polynomial_avx512, without a residual. The next vector's taps are summed
 * between the steps of the polynomial: one keeps the multipliers busy, the other the shuffles. */
KP_SPECIALIZED void run_silu_9(const kp_depthwise_i8_args *args, const channel_block *block, size_t pieces,
                               __mmask16 mask) {
  const float *c = kp_silu_i8_coefficients_avx512;
  vector_taps taps = find_taps(args, 0, 9, pieces);
  __m512i acc[4], pairs[4];
  sum_taps(acc, block, &taps, 9, pieces, mask);
  for (size_t p = 0; p < args->pixels; p += PIECES / pieces) {
    __m512 x[4], a[4], u[4];
    scale(x, acc, block);
    KP_UNROLL
    for (size_t j = 0; j < 4; j++) {
      a[j] = kp_bounded_magnitude_avx512(x[j], KP_SILU_I8_LIMIT);
      u[j] = _mm512_set1_ps(c[8]);
      x[j] = _mm512_max_ps(x[j], _mm512_setzero_ps());
    }
    taps = find_taps(args, p + PIECES / pieces, 9, pieces);
    load_offsets(acc, block);
    KP_UNROLL
    for (size_t i = 0; i < 3; i++) {
      kp_horner_step_avx512(u, a, 4, c[7 - 2 * i]);
      load_pairs(pairs, block, &taps, i * TAPS, 9, pieces, mask);
      keep_abreast(u, pairs);
      kp_horner_step_avx512(u, a, 4, c[6 - 2 * i]);
      add_pairs(acc, pairs, block->weights[i]);
      keep_abreast(u, acc);
    }
    kp_horner_step_avx512(u, a, 4, c[1]);
    kp_horner_step_avx512(u, a, 4, c[0]);
    KP_UNROLL
    for (size_t j = 0; j < 4; j++) x[j] = _mm512_fnmadd_ps(u[j], a[j], x[j]);
    store_vector(args, block, p, x, pieces);
  }
}

KP_SPECIALIZED void run_general(const kp_depthwise_i8_args *args, const channel_block *block, size_t pieces,
                                __mmask16 mask) {
  _Alignas(64) int32_t sums[GENERAL_VECTORS][PIECES * PIECE];
  const size_t each = PIECES / pieces;
  for (size_t p = 0; p < args->pixels; p += GENERAL_VECTORS * each) {
    const size_t left = args->pixels - p, pixels = left < GENERAL_VECTORS * each ? left : GENERAL_VECTORS * each;
    for (size_t v = 0; v * each < pixels; v++) {
      const vector_taps taps = find_taps(args, p + v * each, args->tap_count, pieces);
      __m512i acc[4];
      sum_taps(acc, block, &taps, args->tap_count, pieces, mask);
      kp_transpose_128_avx512(acc);
      for (size_t i = 0; i < PIECES; i++) _mm512_store_si512(sums[v] + i * PIECE, acc[i]);
    }
    kp_epilogue_i8_avx512(&args->epilogue, sums[0], p, pixels, block->first, block->count);
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
  } else if (args->tap_count == 9 && epilogue->act == KP_ACT_NONE) {
    run_quantized(args, &block, KP_ACT_NONE, 9, pieces, mask);
  } else if (epilogue->act == KP_ACT(KP_SILU)) {
    run_quantized(args, &block, KP_ACT(KP_SILU), args->tap_count, pieces, mask);
  } else if (epilogue->act == KP_ACT(KP_HARDSWISH)) {
    run_quantized(args, &block, KP_ACT(KP_HARDSWISH), args->tap_count, pieces, mask);
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

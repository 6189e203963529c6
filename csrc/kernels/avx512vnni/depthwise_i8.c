#include "kernels/avx512vnni/depthwise_i8_avx512vnni.h"
#include "kernels/c/kernels_c.h"

#define TAPS 4            /* of a group: what is interleaved */
#define GENERAL_VECTORS 4 /* that the general epilogue takes at a time */

/* An array by column in the interleaved order, repeated for each pixel of a vector. */
static void load_columns(__m512i *x, const void *src, size_t pieces) {
  for (size_t i = 0; i < KP_PIECES; i++) x[i] = _mm512_loadu_si512((const int32_t *)src + i % pieces * KP_PIECE);
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

/* Channels `first` and so on, with `group` <= 4 taps to a vector of weights. vpdpbusd multiplies unsigned by signed:
 * the inputs become x + 128, which the offsets make up for. */
static void prepare(kp_channel_block *block, const kp_depthwise_i8_args *args, size_t first, size_t count,
                    size_t pieces, size_t group) {
  const kp_epilogue_i8 *epilogue = &args->epilogue;
  block->first = first;
  block->count = count;
  block->mask = count < KP_PIECE ? kp_lanes_avx512(count) : 0xffff;
  load_columns(block->offset, epilogue->offset + first, pieces);
  for (size_t t = 0; t < args->tap_count; t += group) {
    __m512i w[TAPS], *lanes = block->weights[t / group];
    for (size_t i = 0; i < TAPS; i++) {
      w[i] = i < group && t + i < args->tap_count
                 ? load_weights(args->weights + (t + i) * args->weight_stride + first, pieces)
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

/* The taps of a vector from pixel x of a row on, whose taps begin at `row`; missing pixels repeat the last one. */
KP_SPECIALIZED void find_taps(kp_vector_pixels *at, const kp_depthwise_i8_args *args, const int8_t *const *row,
                              size_t x, size_t pieces) {
  KP_UNROLL
  for (size_t i = 0; i * pieces < KP_PIECES; i++) {
    at->taps[i] = row + (x + i < args->width ? x + i : args->width - 1) * args->pixel_step;
  }
}

/* Taps t to t + 3. Missing ones repeat the last: their weights are 0. */
KP_SPECIALIZED void load_pairs(__m512i *pairs, const kp_channel_block *block, const kp_vector_pixels *at, size_t t,
                               size_t tap_count, size_t pieces) {
  __m512i x[TAPS];
  KP_UNROLL
  for (size_t i = 0; i < TAPS; i++) {
    x[i] = kp_load_tap(at, t + i < tap_count ? t + i : tap_count - 1, block, pieces);
  }
  kp_interleave_bytes_avx512(pairs, x[0], x[1], x[2], x[3]);
}

KP_SPECIALIZED void add_pairs(__m512i *acc, const __m512i *pairs, const __m512i *weights) {
  __m512i lanes[4];
  kp_interleave_pairs_avx512(lanes, pairs);
  kp_add_products(acc, lanes, weights);
}

KP_SPECIALIZED void add_taps(__m512i *acc, const kp_channel_block *block, const kp_vector_pixels *at, size_t t,
                             size_t tap_count, size_t pieces) {
  __m512i pairs[4];
  load_pairs(pairs, block, at, t, tap_count, pieces);
  add_pairs(acc, pairs, block->weights[t / TAPS]);
}

/* A vector's sums, offsets added. */
KP_SPECIALIZED void sum_taps(__m512i *acc, const kp_channel_block *block, const kp_vector_pixels *at, size_t tap_count,
                             size_t pieces) {
  kp_load_offsets(acc, block);
  if (tap_count == 9) { /* without a loop, the accumulators stay in registers */
    add_taps(acc, block, at, 0, 9, pieces);
    add_taps(acc, block, at, 4, 9, pieces);
    add_taps(acc, block, at, 8, 9, pieces);
  } else {
    for (size_t t = 0; t < tap_count; t += TAPS) add_taps(acc, block, at, t, tap_count, pieces);
  }
}

/* A vector's pixels from pixel x of a row on. */
KP_SPECIALIZED void find_pixels(kp_vector_pixels *at, const kp_depthwise_i8_args *args, size_t row, size_t x,
                                size_t pieces) {
  find_taps(at, args, args->taps + row * args->row_step, x, pieces);
  KP_UNROLL
  for (size_t i = 0; i * pieces < KP_PIECES; i++) {
    at->dst[i] = args->epilogue.dst_i8 + (row * args->width + x + i) * args->epilogue.dst_stride;
  }
}

/* To int8 without a residual; `act` as in kp_apply_act_i8_avx512. */
KP_SPECIALIZED void run_as(const kp_depthwise_i8_args *args, const kp_channel_block *block, kp_act act,
                           size_t tap_count, size_t pieces) {
  for (size_t row = 0; row < args->rows; row++) {
    for (size_t x = 0; x < args->width; x += KP_PIECES / pieces) {
      kp_vector_pixels at;
      __m512i acc[4];
      __m512 y[4];
      find_pixels(&at, args, row, x, pieces);
      sum_taps(acc, block, &at, tap_count, pieces);
      kp_scale_sums(y, acc, block);
      kp_apply_act_i8_avx512(act, args->epilogue.act, y, 4);
      kp_store_vector(&at, block, y, pieces, args->width - x);
    }
  }
}

/* 9 taps to int8 by SiLU without a residual: the next vector's taps are summed between the steps of the polynomial. */
KP_SPECIALIZED void run_silu_9(const kp_depthwise_i8_args *args, const kp_channel_block *block, size_t pieces) {
  for (size_t row = 0; row < args->rows; row++) {
    kp_vector_pixels at, next;
    __m512i acc[4], pairs[4];
    find_pixels(&at, args, row, 0, pieces);
    sum_taps(acc, block, &at, 9, pieces);
    for (size_t x = 0; x < args->width; x += KP_PIECES / pieces) {
      __m512 y[4];
      kp_silu_avx512vnni silu;
      kp_scale_sums(y, acc, block);
      kp_silu_begin(&silu, y);
      find_pixels(&next, args, row, x + KP_PIECES / pieces, pieces);
      kp_load_offsets(acc, block);
      KP_UNROLL
      for (size_t i = 0; i < 3; i++) {
        kp_silu_step(&silu, 7 - 2 * i);
        load_pairs(pairs, block, &next, i * TAPS, 9, pieces);
        kp_keep_beside(silu.u, pairs);
        kp_silu_step(&silu, 6 - 2 * i);
        add_pairs(acc, pairs, block->weights[i]);
        kp_keep_beside(silu.u, acc);
      }
      kp_silu_step(&silu, 1);
      kp_silu_step(&silu, 0);
      kp_silu_end(y, &silu);
      kp_store_vector(&at, block, y, pieces, args->width - x);
      at = next;
    }
  }
}

KP_SPECIALIZED void run_general(const kp_depthwise_i8_args *args, const kp_channel_block *block, size_t pieces) {
  _Alignas(64) int32_t sums[GENERAL_VECTORS][KP_PIECES * KP_PIECE];
  const size_t each = KP_PIECES / pieces, width = args->width;
  for (size_t row = 0; row < args->rows; row++) {
    for (size_t x = 0; x < width; x += GENERAL_VECTORS * each) {
      const size_t left = width - x, pixels = left < GENERAL_VECTORS * each ? left : GENERAL_VECTORS * each;
      for (size_t v = 0; v * each < pixels; v++) {
        kp_vector_pixels at;
        find_taps(&at, args, args->taps + row * args->row_step, x + v * each, pieces);
        __m512i acc[4];
        sum_taps(acc, block, &at, args->tap_count, pieces);
        kp_transpose_128_avx512(acc);
        for (size_t i = 0; i < KP_PIECES; i++) _mm512_store_si512(sums[v] + i * KP_PIECE, acc[i]);
      }
      kp_epilogue_i8_avx512(&args->epilogue, sums[0], row * width + x, pixels, block->first, block->count);
    }
  }
}

static bool is_simple(const kp_epilogue_i8 *epilogue) {
  return epilogue->dst_i8 && !epilogue->residual_f32 && !epilogue->residual_i8;
}

KP_SPECIALIZED void run(const kp_depthwise_i8_args *args, size_t first, size_t count, size_t pieces) {
  const kp_epilogue_i8 *epilogue = &args->epilogue;
  kp_channel_block block;
  if (is_simple(epilogue) && args->tap_count == 9 && args->pixel_step == 3 && args->width > 1) {
    prepare(&block, args, first, count, pieces, 3);
    kp_depthwise_sliding(args, &block, pieces);
    return;
  }
  prepare(&block, args, first, count, pieces, TAPS);
  if (!is_simple(epilogue)) {
    run_general(args, &block, pieces);
  } else if (args->tap_count == 9 && epilogue->act == KP_ACT(KP_SILU)) {
    run_silu_9(args, &block, pieces);
  } else if (epilogue->act == KP_ACT_NONE) {
    run_as(args, &block, KP_ACT_NONE, args->tap_count, pieces);
  } else if (epilogue->act == KP_ACT(KP_SILU)) {
    run_as(args, &block, KP_ACT(KP_SILU), args->tap_count, pieces);
  } else if (epilogue->act == KP_ACT(KP_HARDSWISH)) {
    run_as(args, &block, KP_ACT(KP_HARDSWISH), args->tap_count, pieces);
  } else if (epilogue->act == KP_ACT(KP_RELU)) {
    run_as(args, &block, KP_ACT(KP_RELU), args->tap_count, pieces);
  } else {
    run_as(args, &block, KP_ACT_ANY, args->tap_count, pieces);
  }
}

void kp_depthwise_i8_avx512vnni(const kp_depthwise_i8_args *args) {
  if (args->tap_count > KP_DEPTHWISE_GROUPS * TAPS) {
    kp_depthwise_i8_c(args);
    return;
  }
  if (args->rows * args->width == 0) return;
  /* The last channels are taken together with some before them, rather than fewer at a time: but for a residual, which
   * may be the output, what is computed twice is the same twice. */
  const bool twice = is_simple(&args->epilogue);
  const size_t channels = args->channels;
  for (size_t c = 0; c < channels;) {
    const size_t left = channels - c;
    const bool back = twice && c > 0; /* there are as many before */
    size_t step = left < KP_PIECE && !back ? left : KP_PIECE;
    if (left >= 32 || (back && left > 16)) step = 32;
    if (left >= 64 || (back && left > 32)) step = 64;
    const size_t first = step > left ? channels - step : c;
    if (step == 64) {
      run(args, first, 64, 4);
    } else if (step == 32) {
      run(args, first, 32, 2);
    } else {
      run(args, first, step, 1);
    }
    c += step;
  }
}

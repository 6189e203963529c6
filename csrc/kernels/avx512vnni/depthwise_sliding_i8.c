/* 3 by 3 taps of pixels side by side: a column of three taps, once interleaved, serves three pixels. */
#include "kernels/avx512vnni/depthwise_i8_avx512vnni.h"

#define SIDE 3

/* A column of taps in the interleaved order; the fourth byte of a lane is 0. */
KP_SPECIALIZED void load_column(__m512i *lanes, const kp_channel_block *block, const kp_vector_pixels *at, size_t t,
                                size_t pieces) {
  __m512i pairs[4];
  const __m512i a = kp_load_tap(at, t, block, pieces), b = kp_load_tap(at, t + 1, block, pieces);
  kp_interleave_bytes_avx512(pairs, a, b, kp_load_tap(at, t + 2, block, pieces), _mm512_setzero_si512());
  kp_interleave_pairs_avx512(lanes, pairs);
}

/* Finishes x by SiLU and sums a pixel's taps into acc. */
KP_SPECIALIZED void silu_beside(__m512 *x, __m512i *acc, __m512i columns[SIDE][4], size_t oldest,
                                const kp_channel_block *block, const kp_vector_pixels *at, size_t pieces) {
  kp_silu_avx512vnni silu;
  kp_silu_begin(&silu, x);
  kp_load_offsets(acc, block);
  kp_silu_step(&silu, 7);
  kp_add_products(acc, columns[(oldest + 1) % SIDE], block->weights[0]);
  kp_keep_beside(silu.u, acc);
  kp_silu_step(&silu, 6);
  kp_silu_step(&silu, 5);
  load_column(columns[oldest], block, at, 2 * SIDE, pieces);
  kp_keep_beside(silu.u, columns[oldest]);
  kp_silu_step(&silu, 4);
  kp_add_products(acc, columns[(oldest + 2) % SIDE], block->weights[1]);
  kp_keep_beside(silu.u, acc);
  kp_silu_step(&silu, 3);
  kp_silu_step(&silu, 2);
  kp_add_products(acc, columns[oldest], block->weights[2]);
  kp_keep_beside(silu.u, acc);
  kp_silu_step(&silu, 1);
  kp_silu_step(&silu, 0);
  kp_silu_end(x, &silu);
}

/* The next vector's pixels. */
KP_SPECIALIZED void step(kp_vector_pixels *at, size_t dst_step, size_t tap_step, size_t pieces) {
  KP_UNROLL
  for (size_t i = 0; i * pieces < KP_PIECES; i++) {
    at->taps[i] += tap_step;
    at->dst[i] += dst_step;
  }
}

/* Each of a vector's pixels goes along a part of the row, `length` long; the last part may overlap the one before it,
 * whose outputs are then computed twice. */
KP_SPECIALIZED kp_vector_pixels find_pixels(const kp_depthwise_i8_args *args, size_t row, size_t length,
                                            size_t pieces) {
  kp_vector_pixels at;
  const size_t stride = args->epilogue.dst_stride;
  KP_UNROLL
  for (size_t i = 0; i * pieces < KP_PIECES; i++) {
    const size_t x = (i + 1) * length <= args->width ? i * length : args->width - length;
    at.taps[i] = args->taps + row * args->row_step + x * args->pixel_step;
    at.dst[i] = args->epilogue.dst_i8 + (row * args->width + x) * stride;
  }
  return at;
}

KP_SPECIALIZED void run_as(const kp_depthwise_i8_args *args, const kp_channel_block *block, kp_act act, size_t pieces) {
  const size_t each = KP_PIECES / pieces, length = (args->width + each - 1) / each;
  const size_t stride = args->epilogue.dst_stride;
  for (size_t row = 0; row < args->rows; row++) {
    kp_vector_pixels at = find_pixels(args, row, length, pieces);
    __m512i columns[SIDE][4], acc[4];
    load_column(columns[0], block, &at, 0, pieces);
    load_column(columns[1], block, &at, SIDE, pieces);
    load_column(columns[2], block, &at, 2 * SIDE, pieces);
    kp_load_offsets(acc, block);
    KP_UNROLL
    for (size_t i = 0; i < SIDE; i++) kp_add_products(acc, columns[i], block->weights[i]);
    for (size_t x = 0; x < length;) {
      KP_UNROLL
      for (size_t i = 0; i < SIDE; i++) { /* columns[i] is the first of the pixel at hand */
        __m512 y[4];
        kp_vector_pixels next = at;
        kp_scale_sums(y, acc, block);
        if (x + 1 < length) step(&next, stride, SIDE, pieces);
        if (act == KP_ACT(KP_SILU)) {
          silu_beside(y, acc, columns, i, block, &next, pieces);
        } else {
          kp_load_offsets(acc, block);
          load_column(columns[i], block, &next, 2 * SIDE, pieces);
          KP_UNROLL
          for (size_t j = 0; j < SIDE; j++) kp_add_products(acc, columns[(i + 1 + j) % SIDE], block->weights[j]);
          kp_apply_act_i8_avx512(act, args->epilogue.act, y, 4);
        }
        kp_store_vector(&at, block, y, pieces, each);
        at = next;
        if (++x == length) break;
      }
    }
  }
}

KP_SPECIALIZED void run(const kp_depthwise_i8_args *args, const kp_channel_block *block, size_t pieces) {
  switch (args->epilogue.act) {
    case KP_ACT_NONE:
      run_as(args, block, KP_ACT_NONE, pieces);
      break;
    case KP_ACT(KP_SILU):
      run_as(args, block, KP_ACT(KP_SILU), pieces);
      break;
    case KP_ACT(KP_HARDSWISH):
      run_as(args, block, KP_ACT(KP_HARDSWISH), pieces);
      break;
    case KP_ACT(KP_RELU):
      run_as(args, block, KP_ACT(KP_RELU), pieces);
      break;
    default:
      run_as(args, block, KP_ACT_ANY, pieces);
      break;
  }
}

void kp_depthwise_sliding(const kp_depthwise_i8_args *args, const kp_channel_block *block, size_t pieces) {
  switch (pieces) {
    case 1:
      run(args, block, 1);
      break;
    case 2:
      run(args, block, 2);
      break;
    default:
      run(args, block, 4);
      break;
  }
}

/* gcc's first scheduler, which runs before registers are allocated, takes operands apart from their use: copies and
 * stalls follow. The source has the order that suits. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#include "kernels/i8mm/kernels_i8mm.h"
#include "kernels/neon/gemm_i8_neon.h"
#include "kernels/neon/math_i8_neon.h"

#define KR 8

/* SMMLA takes two rows and two columns of 8 elements each and adds to row 0's two sums, then row 1's. */
#define MAX_PAIRS 2

/* Adds the products of 8 elements of each row, of which a[p] has those of rows 2 p and 2 p + 1, and of 4 `vectors`
 * columns. */
KP_SPECIALIZED void add_group(int32x4_t acc[MAX_PAIRS][8], const int8x16_t *a, const int8_t *b, size_t pairs,
                              size_t vectors) {
  KP_UNROLL
  for (size_t v = 0; v < 2 * vectors; v++) {
    const int8x16_t columns = vld1q_s8(b + 2 * KR * v);
    KP_UNROLL
    for (size_t p = 0; p < pairs; p++) acc[p][v] = vmmlaq_s32(acc[p][v], a[p], columns);
  }
}

/* A row without a partner is its own. */
KP_SPECIALIZED void tile(const kp_gemm_i8_args *args, size_t row, const int8_t *b, const int32_t *offset, int32_t *out,
                         size_t rows, size_t vectors) {
  const size_t pairs = (rows + 1) / 2, other = rows > 1 ? 1 : 0;
  int32x4_t acc[MAX_PAIRS][8];
  KP_UNROLL
  for (size_t v = 0; v < 2 * vectors; v++) {
    const int32x2_t start = vld1_s32(offset + 2 * v);
    acc[0][v] = vcombine_s32(start, start);
    KP_UNROLL
    for (size_t p = 1; p < pairs; p++) acc[p][v] = acc[0][v];
  }
  for (size_t t = 0; t < args->tap_count; t++) {
    const int8_t *pieces[2 * MAX_PAIRS];
    kp_row_pieces_neon(pieces, args, row, t, rows);
    int8x16_t a[MAX_PAIRS];
    size_t k = 0;
    for (; k + 16 <= args->depth; k += 16, b += 16 * KP_TILE_COLUMNS) {
      int8x16_t next[MAX_PAIRS];
      KP_UNROLL
      for (size_t p = 0; p < pairs; p++) {
        const int64x2_t upper = vreinterpretq_s64_s8(vld1q_s8(pieces[2 * p] + k));
        const int64x2_t lower = vreinterpretq_s64_s8(vld1q_s8(pieces[2 * p + other] + k));
        a[p] = vreinterpretq_s8_s64(vzip1q_s64(upper, lower));
        next[p] = vreinterpretq_s8_s64(vzip2q_s64(upper, lower));
      }
      add_group(acc, a, b, pairs, vectors);
      add_group(acc, next, b + KR * KP_TILE_COLUMNS, pairs, vectors);
    }
    if (k + 8 <= args->depth) {
      KP_UNROLL
      for (size_t p = 0; p < pairs; p++) {
        a[p] = vcombine_s8(vld1_s8(pieces[2 * p] + k), vld1_s8(pieces[2 * p + other] + k));
      }
      add_group(acc, a, b, pairs, vectors);
      k += 8;
      b += KR * KP_TILE_COLUMNS;
    }
    if (k < args->depth) {
      const size_t left = args->depth - k;
      KP_UNROLL
      for (size_t p = 0; p < pairs; p++) {
        a[p] = vcombine_s8(vget_low_s8(kp_load_part_s8_neon(pieces[2 * p] + k, left)),
                           vget_low_s8(kp_load_part_s8_neon(pieces[2 * p + other] + k, left)));
      }
      add_group(acc, a, b, pairs, vectors);
      b += KR * KP_TILE_COLUMNS;
    }
  }
  KP_UNROLL
  for (size_t p = 0; p < pairs; p++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      const int64x2_t left = vreinterpretq_s64_s32(acc[p][2 * v]), right = vreinterpretq_s64_s32(acc[p][2 * v + 1]);
      vst1q_s32(out + 2 * p * KP_TILE_COLUMNS + 4 * v, vreinterpretq_s32_s64(vzip1q_s64(left, right)));
      if (rows == 1) continue;
      vst1q_s32(out + (2 * p + 1) * KP_TILE_COLUMNS + 4 * v, vreinterpretq_s32_s64(vzip2q_s64(left, right)));
    }
  }
}

KP_TILE_I8_NEON(tile_4x16, 4, 4)
KP_TILE_I8_NEON(tile_4x8, 4, 2)
KP_TILE_I8_NEON(tile_2x16, 2, 4)
KP_TILE_I8_NEON(tile_2x8, 2, 2)
KP_TILE_I8_NEON(tile_1x16, 1, 4)
KP_TILE_I8_NEON(tile_1x8, 1, 2)

void kp_gemm_i8_i8mm(const kp_gemm_i8_args *args) {
  static const kp_tiles_i8_neon tiles[] = {
      {4, tile_4x16, tile_4x8}, {2, tile_2x16, tile_2x8}, {1, tile_1x16, tile_1x8}};
  kp_gemm_i8_by_tiles_neon(args, KR, tiles);
}

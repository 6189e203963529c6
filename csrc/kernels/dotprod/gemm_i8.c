/* gcc's first scheduler, which runs before registers are allocated, takes operands apart from their use: copies and
 * stalls follow. The source has the order that suits. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#include "kernels/dotprod/kernels_dotprod.h"
#include "kernels/neon/gemm_i8_neon.h"
#include "kernels/neon/math_i8_neon.h"

#define KR 4
#define MAX_ROWS 8

/* Adds the products of group `lane` of each a[r] and of 4 `vectors` columns. `dot` takes a lane of 16 or of 8 bytes. */
#define ADD_GROUP(dot, lane)                                                             \
  do {                                                                                   \
    KP_UNROLL                                                                            \
    for (size_t v = 0; v < vectors; v++) {                                               \
      const int8x16_t columns = vld1q_s8(b + KR * (KP_TILE_COLUMNS * lane + 4 * v));     \
      KP_UNROLL                                                                          \
      for (size_t r = 0; r < rows; r++) acc[r][v] = dot(acc[r][v], columns, a[r], lane); \
    }                                                                                    \
  } while (0)

KP_SPECIALIZED void tile(const kp_gemm_i8_args *args, size_t row, const int8_t *b, const int32_t *offset, int32_t *out,
                         size_t rows, size_t vectors) {
  int32x4_t acc[MAX_ROWS][4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) acc[r][v] = vld1q_s32(offset + 4 * v);
  }
  for (size_t t = 0; t < args->tap_count; t++) {
    const int8_t *pieces[MAX_ROWS];
    kp_row_pieces_neon(pieces, args, row, t, rows);
    size_t k = 0;
    for (; k + 16 <= args->depth; k += 16, b += 16 * KP_TILE_COLUMNS) {
      int8x16_t a[MAX_ROWS];
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) a[r] = vld1q_s8(pieces[r] + k);
      ADD_GROUP(vdotq_laneq_s32, 0);
      ADD_GROUP(vdotq_laneq_s32, 1);
      ADD_GROUP(vdotq_laneq_s32, 2);
      ADD_GROUP(vdotq_laneq_s32, 3);
    }
    int8x8_t a[MAX_ROWS];
    if (k + 8 <= args->depth) {
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) a[r] = vld1_s8(pieces[r] + k);
      ADD_GROUP(vdotq_lane_s32, 0);
      ADD_GROUP(vdotq_lane_s32, 1);
      k += 8;
      b += 8 * KP_TILE_COLUMNS;
    }
    if (k < args->depth) {
      const size_t left = args->depth - k;
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) a[r] = vget_low_s8(kp_load_part_s8_neon(pieces[r] + k, left));
      ADD_GROUP(vdotq_lane_s32, 0);
      if (left > KR) ADD_GROUP(vdotq_lane_s32, 1);
      b += (left > KR ? 2 : 1) * KR * KP_TILE_COLUMNS;
    }
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) vst1q_s32(out + r * KP_TILE_COLUMNS + 4 * v, acc[r][v]);
  }
}

KP_TILE_I8_NEON(tile_8x8, 8, 2)
KP_TILE_I8_NEON(tile_4x16, 4, 4)
KP_TILE_I8_NEON(tile_4x8, 4, 2)
KP_TILE_I8_NEON(tile_2x16, 2, 4)
KP_TILE_I8_NEON(tile_2x8, 2, 2)
KP_TILE_I8_NEON(tile_1x16, 1, 4)
KP_TILE_I8_NEON(tile_1x8, 1, 2)

/* 8 x 16 accumulators do not fit the registers. */
static void tile_8x16(const kp_gemm_i8_args *args, size_t row, const int8_t *b, const int32_t *offset, int32_t *acc) {
  tile_8x8(args, row, b, offset, acc);
  tile_8x8(args, row, b + KR * 8, offset + 8, acc + 8);
}

void kp_gemm_i8_dotprod(const kp_gemm_i8_args *args) {
  static const kp_tiles_i8_neon tiles[] = {
      {8, tile_8x16, tile_8x8}, {4, tile_4x16, tile_4x8}, {2, tile_2x16, tile_2x8}, {1, tile_1x16, tile_1x8}};
  kp_gemm_i8_by_tiles_neon(args, KR, tiles);
}

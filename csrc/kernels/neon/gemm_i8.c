#include "kernels/neon/gemm_i8_neon.h"

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_i8_neon.h"

#define KR 2
#define MAX_ROWS 4

/* Rows that share a panel of b and a call of the epilogue, while b and the accumulators are in the nearest cache. */
#define ROW_BLOCK 48

void kp_gemm_i8_by_tiles_neon(const kp_gemm_i8_args *args, size_t kr, const kp_tiles_i8_neon *tiles) {
  const size_t panel_bytes = args->tap_count * ((args->depth + kr - 1) / kr * kr) * KP_TILE_COLUMNS;
  _Alignas(16) int32_t acc[ROW_BLOCK * KP_TILE_COLUMNS];
  for (size_t first = 0; first < args->rows; first += ROW_BLOCK) {
    const size_t rows = args->rows - first < ROW_BLOCK ? args->rows - first : ROW_BLOCK;
    const int8_t *b = args->b;
    for (size_t column = 0; column < args->columns; column += KP_TILE_COLUMNS, b += panel_bytes) {
      const size_t left = args->columns - column;
      const size_t columns = left < KP_TILE_COLUMNS ? left : KP_TILE_COLUMNS;
      const int32_t *offset = args->epilogue.offset + column;
      const kp_tiles_i8_neon *tile = tiles;
      for (size_t row = 0; row < rows; row += tile->rows) {
        while (tile->rows > rows - row) tile++;
        kp_tile_i8_neon *run = columns > KP_TILE_COLUMNS / 2 ? tile->whole : tile->half;
        run(args, first + row, b, offset, acc + row * KP_TILE_COLUMNS);
      }
      kp_epilogue_i8_neon(&args->epilogue, acc, first, column, rows, columns);
    }
  }
}

/* Adds to a row's accumulators the products of two groups, `first` and `second` repeated, and of 4 `vectors` columns:
 * b0[i] and b1[i] have columns 8 i to 8 i + 7 of each group. The sum of two products fits 16 bits, since weights are at
 * least -127: 2 * 128 * 127 < 2^15. Neighbours' sums belong to the same column. */
KP_SPECIALIZED void add_products(int32x4_t *acc, int8x16_t first, int8x16_t second, const int8x16_t *b0,
                                 const int8x16_t *b1, size_t vectors) {
  KP_UNROLL
  for (size_t i = 0; i < vectors / 2; i++) {
    const int16x8_t low = vmull_s8(vget_low_s8(b0[i]), vget_low_s8(first));
    acc[2 * i] = vpadalq_s16(acc[2 * i], vmlal_s8(low, vget_low_s8(b1[i]), vget_low_s8(second)));
    const int16x8_t high = vmull_high_s8(b0[i], first);
    acc[2 * i + 1] = vpadalq_s16(acc[2 * i + 1], vmlal_high_s8(high, b1[i], second));
  }
}

KP_SPECIALIZED void load_group(int8x16_t *group, const int8_t *b, size_t vectors) {
  KP_UNROLL
  for (size_t i = 0; i < vectors / 2; i++) group[i] = vld1q_s8(b + 16 * i);
}

/* The empty statements make what follows wait for what came before. Without the first, gcc takes the elements of `a`
 * one by one through general registers; without the second, it interleaves the rows, whose sums do not fit the
 * registers. */
#define KEEP(x) __asm__("" : "+w"(x))
#define ORDER(x, y) __asm__("" : "+w"(x), "+w"(y))

/* Groups `lane` and `lane` + 1 of the 4 in each a[r], with b's at `first` and `second`. */
#define ADD_PAIR(lane, first, second)                                                      \
  do {                                                                                     \
    int8x16_t b0[2], b1[2];                                                                \
    load_group(b0, first, vectors);                                                        \
    load_group(b1, second, vectors);                                                       \
    KP_UNROLL                                                                              \
    for (size_t r = 0; r < rows; r++) {                                                    \
      KP_UNROLL                                                                            \
      for (size_t i = 0; i < vectors / 2; i++) {                                           \
        KP_UNROLL                                                                          \
        for (size_t v = 0; v < vectors; v++) ORDER(acc[(r + rows - 1) % rows][v], b0[i]);  \
      }                                                                                    \
      add_products(acc[r], vreinterpretq_s8_s16(vdupq_lane_s16(a[r], lane)),               \
                   vreinterpretq_s8_s16(vdupq_lane_s16(a[r], lane + 1)), b0, b1, vectors); \
    }                                                                                      \
  } while (0)

KP_SPECIALIZED void tile(const kp_gemm_i8_args *args, size_t row, const int8_t *b, const int32_t *offset, int32_t *out,
                         size_t rows, size_t vectors) {
  const size_t group = KR * KP_TILE_COLUMNS;
  int32x4_t acc[MAX_ROWS][4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) acc[r][v] = vld1q_s32(offset + 4 * v);
  }
  for (size_t t = 0; t < args->tap_count; t++) {
    const int8_t *pieces[MAX_ROWS];
    kp_row_pieces_neon(pieces, args, row, t, rows);
    int16x4_t a[MAX_ROWS];
    size_t k = 0;
    for (; k + 8 <= args->depth; k += 8, b += 4 * group) {
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) {
        a[r] = vreinterpret_s16_s8(vld1_s8(pieces[r] + k));
        KEEP(a[r]);
      }
      ADD_PAIR(0, b, b + group);
      ADD_PAIR(2, b + 2 * group, b + 3 * group);
    }
    if (k == args->depth) continue;
    /* A last group without a partner is its own, times zeros. */
    const size_t left = args->depth - k, groups = (left + KR - 1) / KR;
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      a[r] = vreinterpret_s16_s8(vget_low_s8(kp_load_part_s8_neon(pieces[r] + k, left)));
    }
    ADD_PAIR(0, b, groups > 1 ? b + group : b);
    if (groups > 2) ADD_PAIR(2, b + 2 * group, groups > 3 ? b + 3 * group : b);
    b += groups * group;
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) vst1q_s32(out + r * KP_TILE_COLUMNS + 4 * v, acc[r][v]);
  }
}

KP_TILE_I8_NEON(tile_4x16, 4, 4)
KP_TILE_I8_NEON(tile_4x8, 4, 2)
KP_TILE_I8_NEON(tile_2x16, 2, 4)
KP_TILE_I8_NEON(tile_2x8, 2, 2)
KP_TILE_I8_NEON(tile_1x16, 1, 4)
KP_TILE_I8_NEON(tile_1x8, 1, 2)

void kp_gemm_i8_neon(const kp_gemm_i8_args *args) {
  static const kp_tiles_i8_neon tiles[] = {
      {4, tile_4x16, tile_4x8}, {2, tile_2x16, tile_2x8}, {1, tile_1x16, tile_1x8}};
  kp_gemm_i8_by_tiles_neon(args, KR, tiles);
}

/* int8 matrix products by tiles of rows and KP_TILE_COLUMNS columns: what every level of this architecture shares. */
#ifndef KP_KERNELS_NEON_GEMM_I8_NEON_H
#define KP_KERNELS_NEON_GEMM_I8_NEON_H

#include "kernels/neon/epilogue_i8_neon.h"
#include "kernels/unroll.h"

/* Computes acc[r][c] = offset[c] + the product of row `row` + r and column c of the panel b; acc is aligned to 16 bytes
 * and has rows KP_TILE_COLUMNS apart. */
typedef void kp_tile_i8_neon(const kp_gemm_i8_args *args, size_t row, const int8_t *b, const int32_t *offset,
                             int32_t *acc);

/* A kp_tile_i8_neon of this name, of `tile`, the including file's function, at a constant size. */
#define KP_TILE_I8_NEON(name, rows, vectors)                                                                        \
  static void name(const kp_gemm_i8_args *args, size_t row, const int8_t *b, const int32_t *offset, int32_t *acc) { \
    tile(args, row, b, offset, acc, rows, vectors);                                                                 \
  }

/* Tiles of so many rows: of all columns, and of the first half of them. */
typedef struct kp_tiles_i8_neon {
  size_t rows;
  kp_tile_i8_neon *whole, *half;
} kp_tiles_i8_neon;

/* `tiles` in descending order of their rows, down to 1. */
void kp_gemm_i8_by_tiles_neon(const kp_gemm_i8_args *args, size_t kr, const kp_tiles_i8_neon *tiles);

/* Piece `tap` of `rows` rows from `row` on. */
KP_SPECIALIZED void kp_row_pieces_neon(const int8_t **pieces, const kp_gemm_i8_args *args, size_t row, size_t tap,
                                       size_t rows) {
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    pieces[r] = args->taps ? args->taps[(row + r) * args->tap_count + tap] : args->a + (row + r) * args->a_stride;
  }
}

#endif /* KP_KERNELS_NEON_GEMM_I8_NEON_H */

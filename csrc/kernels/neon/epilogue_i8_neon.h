/* The epilogue of int8 kernels (kernels.h, kp_epilogue_i8), shared by every level of this architecture. */
#ifndef KP_KERNELS_NEON_EPILOGUE_I8_NEON_H
#define KP_KERNELS_NEON_EPILOGUE_I8_NEON_H

#include "kernels/kernels.h"

/* Columns of a tile of accumulators. */
#define KP_TILE_COLUMNS 16

/* Finishes the `rows` by `columns` <= KP_TILE_COLUMNS outputs from (row, column) on. acc holds the accumulators, rows
 * KP_TILE_COLUMNS apart, with `offset` already added: accumulators that start from it save the addition. Few rows at a
 * time stay in the first-level cache; some ten of them make up for the call. */
void kp_epilogue_i8_neon(const kp_epilogue_i8 *epilogue, const int32_t *acc, size_t row, size_t column, size_t rows,
                         size_t columns);

#endif /* KP_KERNELS_NEON_EPILOGUE_I8_NEON_H */

/* The epilogue of int8 matrix products and depthwise convolutions (kernels.h, kp_epilogue_i8), a block at a time. */
#ifndef KP_KERNELS_AVX2_EPILOGUE_I8_AVX2_H
#define KP_KERNELS_AVX2_EPILOGUE_I8_AVX2_H

#include <immintrin.h>

#include "kernels/kernels.h"

/* As many rows' activations as fit in 16 registers side by side. */
#define KP_BLOCK_I8_ROWS 6
#define KP_BLOCK_I8_VECTORS 2 /* of 8 columns */

/* Accumulators to which the offset has been added. */
typedef struct kp_block_i8 {
  __m256i acc[KP_BLOCK_I8_VECTORS][KP_BLOCK_I8_ROWS];
} kp_block_i8;

/* The epilogue of the first `vectors` vectors of a whole block's rows. */
typedef void (*kp_epilogue_i8_rows)(const kp_epilogue_i8 *epilogue, size_t row, size_t column, size_t vectors,
                                    const kp_block_i8 *block);

/* The function for an activation. */
kp_epilogue_i8_rows kp_epilogue_i8_for_act_avx2(kp_act act);

/* The same for any number of rows and columns up to a block's; what the block has beyond them is ignored. */
void kp_epilogue_i8_avx2(kp_epilogue_i8_rows whole, const kp_epilogue_i8 *epilogue, size_t row, size_t column,
                         size_t rows, size_t columns, const kp_block_i8 *block);

#endif /* KP_KERNELS_AVX2_EPILOGUE_I8_AVX2_H */

/* What int8 convolutions and linear layers share: packed weights, constants by output channel, and products of rows. */
#ifndef KP_OPS_DENSE_I8_H
#define KP_OPS_DENSE_I8_H

#include "ops/quantized.h"

/* Elements that one output sums at most: the sum of products then fits in an int32, whatever the kernel adds to its
 * left operand, and with a zero point of the row taken off: (128 + 127) * 127 * 32768 < 2^31. */
#define KP_MAX_I8_DEPTH 32768

/* Checks weight, bias and residual of an int8 call, whose output has been given a shape, and gives it its dtype. */
kp_status kp_i8_check(const char *op, kp_op_call *call, int64_t channels, int64_t depth, int64_t out, kp_error *error);

/* Arrays by output channel, KP_COLUMN_PAD to the end, for the kernels' epilogues. */
typedef struct kp_i8_constants {
  int32_t *offset;
  float *scale, *bias;
  int32_t *column_sum;    /* of the weights; where the input is f32, else NULL */
  float *inverse, *shift; /* out = i8; else NULL */
  int32_t *residual_zero; /* an i8 residual; else NULL */
  float *residual_scale;
  int8_t *padding; /* the input's zero points, its channels long; zeros where it is f32 */
} kp_i8_constants;

size_t kp_i8_constants_bytes(const kp_op_call *call, size_t in_channels, size_t channels);
/* All but `offset` and `column_sum`, which are 0. */
kp_i8_constants *kp_i8_constants_make(const kp_op_call *call, size_t in_channels, size_t channels, void *memory);

/* The epilogue for the output from row `row` and column `column` on. */
kp_epilogue_i8 kp_i8_epilogue(const kp_op_call *call, size_t channels, kp_act act, size_t row, size_t column);

/* ---- Packed weights: (n, taps, depth) in the kernel's panels ---- */

size_t kp_packed_bytes(const kp_gemm_i8 *gemm, size_t n, size_t taps, size_t depth);
void kp_pack_i8(const kp_gemm_i8 *gemm, int8_t *packed, const int8_t *weight, size_t n, size_t taps, size_t depth);
/* Where column `column`, a multiple of nr, begins. */
size_t kp_packed_column(const kp_gemm_i8 *gemm, size_t column, size_t taps, size_t depth);
/* offset[c] -= the sum over k of (a_shift + zero_point[k]) * weight[c][k], for all taps; zero_point (depth). */
void kp_fold_zero_points(const kp_gemm_i8 *gemm, const int8_t *packed, const int8_t *zero_point, size_t n, size_t taps,
                         size_t depth, int32_t *offset);

/* ---- y (rows, n) = epilogue(x (rows, k) w^T): x is input 0, i8, or f32 and quantised by rows ---- */

typedef struct kp_dense_i8 {
  size_t rows, n, k;
  kp_act act;
} kp_dense_i8;

size_t kp_dense_i8_pack_bytes(const kp_op_call *call, const kp_dense_i8 *dense);
void kp_dense_i8_set_constants(const kp_op_call *call, const kp_dense_i8 *dense, void *constants);
size_t kp_dense_i8_scratch(const kp_op_call *call, const kp_dense_i8 *dense);
void kp_dense_i8_run(const kp_op_call *call, const kp_dense_i8 *dense);

#endif /* KP_OPS_DENSE_I8_H */

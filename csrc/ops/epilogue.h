/* What convolutions and linear layers share: activation, bias and residual, and a product of rows with a weight. */
#ifndef KP_OPS_EPILOGUE_H
#define KP_OPS_EPILOGUE_H

#include "ops/gemm.h"
#include "ops/shape.h"

/* The words of the attribute `act`, in the order of kp_act. */
extern const char *const kp_act_words[];

/* Checks inputs 2, the bias (channels), and 3, the residual, shaped as call->output, where they are present. */
kp_status kp_epilogue_check(const char *op, const kp_op_call *call, int64_t channels, kp_error *error);

/* Input `index`'s data, or NULL where it is absent. */
static inline const float *kp_optional_f32(const kp_op_call *call, size_t index) {
  return index < call->input_count && call->present[index] ? call->inputs[index].data : NULL;
}

/* y (rows, n) = act(x (rows, k) w^T + bias) + residual, all dense. */
typedef struct kp_dense {
  size_t rows, n, k;
  const float *x; /* w, input 1, is (n, k) */
  const float *bias, *residual;
  float *y;
  kp_act act;
} kp_dense;

size_t kp_dense_scratch(const kp_op_call *call, size_t rows, size_t n, size_t k); /* bytes, in call->scratch */
void kp_dense_run(const kp_op_call *call, const kp_dense *dense);

/* Rows of a block whose rows have `row_floats` floats in all, so that it stays in a core's second-level cache from the
 * matrix product to the epilogue; `rows` in all are shared out evenly to `threads`. */
size_t kp_block_rows(size_t rows, size_t row_floats, int threads);

#endif /* KP_OPS_EPILOGUE_H */

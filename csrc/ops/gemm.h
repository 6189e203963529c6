/* Float32 matrix products: on OpenBLAS, or in an int8 model on the kernel gemm_f32, whose results are the same
 * everywhere. */
#ifndef KP_OPS_GEMM_H
#define KP_OPS_GEMM_H

#include "ops/op.h"

/* c (m, n) = a (m, k) * b, where b is (n, k) if b_transposed, as a linear layer's weight, else (k, n), as it must be in
 * an int8 model. Rows of a, b and
 * c are a_stride, b_stride and c_stride floats apart. m, n, k >= 1. Always on the calling thread. */
void kp_gemm_f32(const kp_op_call *call, bool b_transposed, size_t m, size_t n, size_t k, const float *a,
                 size_t a_stride, const float *b, size_t b_stride, float *c, size_t c_stride);

/* The right operand of products with a weight w (n, k): w, or its transpose where that repays the making. */
typedef struct kp_gemm_weight {
  const float *data;
  size_t stride;
  bool transposed; /* as b_transposed: data is w */
} kp_gemm_weight;

/* Floats of scratch that kp_gemm_prepare needs for m rows in all. */
size_t kp_gemm_prepare_scratch(const kp_op_call *call, size_t m, size_t n, size_t k);
/* For input 1. */
kp_gemm_weight kp_gemm_prepare(const kp_op_call *call, size_t m, size_t n, size_t k, float *scratch);

/* kp_op's pack_bytes and pack for that weight: its transpose, in an int8 model. */
size_t kp_gemm_pack_bytes(const kp_op_call *call, size_t n, size_t k);
void kp_gemm_pack(const kp_op_call *call, size_t n, size_t k, void *packed);

/* Columns from `column` on of what kp_gemm_prepare gave. */
static inline const float *kp_gemm_weight_columns(const kp_gemm_weight *weight, size_t column) {
  return weight->data + (weight->transposed ? column * weight->stride : column);
}

#endif /* KP_OPS_GEMM_H */

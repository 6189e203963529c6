#include <string.h>

#include "ops/op.h"

extern const kp_op kp_op_alias, kp_op_argmax, kp_op_attention, kp_op_binary, kp_op_cast, kp_op_compare, kp_op_concat,
    kp_op_conv2d, kp_op_cumsum, kp_op_dequantize, kp_op_embedding, kp_op_gather, kp_op_layer_norm, kp_op_linear,
    kp_op_matmul, kp_op_pad, kp_op_pool2d, kp_op_quantize, kp_op_rearrange, kp_op_reduce, kp_op_resize2d, kp_op_select,
    kp_op_softmax, kp_op_unary;

const kp_op *const kp_ops[] = {
    &kp_op_alias,      &kp_op_argmax, &kp_op_attention, &kp_op_binary,     &kp_op_cast,      &kp_op_compare,
    &kp_op_concat,     &kp_op_conv2d, &kp_op_cumsum,    &kp_op_dequantize, &kp_op_embedding, &kp_op_gather,
    &kp_op_layer_norm, &kp_op_linear, &kp_op_matmul,    &kp_op_pad,        &kp_op_pool2d,    &kp_op_quantize,
    &kp_op_rearrange,  &kp_op_reduce, &kp_op_resize2d,  &kp_op_select,     &kp_op_softmax,   &kp_op_unary,
};
const size_t kp_op_count = sizeof kp_ops / sizeof kp_ops[0];

const kp_op *kp_find_op(const char *name) {
  for (size_t i = 0; i < kp_op_count; i++) {
    if (strcmp(kp_ops[i]->name, name) == 0) return kp_ops[i];
  }
  return NULL;
}

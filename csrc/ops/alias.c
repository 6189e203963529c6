#include "ops/quantized.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  kp_shape shape = {.rank = call->attributes[0].count};
  for (int32_t i = 0; i < shape.rank; i++) shape.dim[i] = call->attributes[0].i[i];
  KP_TRY(kp_check_elements("alias", "x", &x->shape, error));
  KP_TRY(kp_check_elements("alias", "an output", &shape, error));
  if (kp_shape_elements(&shape) != kp_shape_elements(&x->shape)) {
    return kp_fail(error, KP_ERROR_MODEL, "alias: shape %s has not as many elements as the input's, %s",
                   kp_shape_format(&shape).text, kp_shape_format(&x->shape).text);
  }
  call->output.dtype = x->dtype;
  call->output.shape = shape;
  if (x->dtype != KP_I8) return KP_OK;
  if (shape.rank < 1 || x->shape.rank < 1 || kp_last_dim(&call->output) == 0 ||
      kp_last_dim(x) % kp_last_dim(&call->output) != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "alias: expected the last dimension of i8 kept, got %s from %s",
                   kp_shape_format(&shape).text, kp_shape_format(&x->shape).text);
  }
  return kp_check_repeated_quantization("alias", x, &call->output, error);
}

const kp_op kp_op_alias = {
    .name = "alias",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 1,
    .attributes = {{.name = "shape", .kind = KP_ATTR_DIM, .max_count = KP_MAX_RANK, .required = true}},
    .infer = infer,
};

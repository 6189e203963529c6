#include "ops/epilogue.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0], *weight = &call->inputs[1];
  KP_TRY(kp_check_dtype("linear", "x", x, KP_F32, error));
  KP_TRY(kp_check_dtype("linear", "weight", weight, KP_F32, error));
  KP_TRY(kp_check_rank("linear", "weight", weight, 2, error));
  KP_TRY(kp_check_not_empty("linear", "x", &x->shape, error));
  KP_TRY(kp_check_not_empty("linear", "weight", &weight->shape, error));
  if (x->shape.rank < 1 || x->shape.dim[x->shape.rank - 1] != weight->shape.dim[1]) {
    return kp_fail(error, KP_ERROR_MODEL, "linear: weight takes %lld features, the input has shape %s",
                   (long long)weight->shape.dim[1], kp_shape_format(&x->shape).text);
  }
  call->output.dtype = KP_F32;
  call->output.shape = x->shape;
  call->output.shape.dim[x->shape.rank - 1] = weight->shape.dim[0];
  KP_TRY(kp_check_elements("linear", "an output", &call->output.shape, error));
  return kp_epilogue_check("linear", call, weight->shape.dim[0], error);
}

static kp_dense dense_of(const kp_op_call *call) {
  const kp_view *x = &call->inputs[0], *weight = &call->inputs[1];
  kp_dense dense = {.n = (size_t)weight->shape.dim[0],
                    .k = (size_t)weight->shape.dim[1],
                    .x = x->data,
                    .w = weight->data,
                    .bias = kp_optional_f32(call, 2),
                    .residual = kp_optional_f32(call, 3),
                    .y = call->output.data,
                    .act = (kp_act)call->attributes[0].i[0]};
  dense.rows = (size_t)kp_shape_elements(&x->shape) / dense.k;
  return dense;
}

static size_t scratch(const kp_op_call *call) {
  kp_dense dense = dense_of(call);
  return kp_dense_scratch(dense.rows, dense.n, dense.k);
}

static uint64_t macs(const kp_op_call *call) {
  kp_dense dense = dense_of(call);
  return (uint64_t)dense.rows * dense.n * dense.k;
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_dense dense = dense_of(call);
  kp_dense_run(call, &dense);
  return KP_OK;
}

const kp_op kp_op_linear = {
    .name = "linear",
    .min_inputs = 2,
    .max_inputs = 4,
    .attribute_count = 1,
    .attributes = {{.name = "act", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_act_words}},
    .infer = infer,
    .scratch = scratch,
    .macs = macs,
    .run = run,
};

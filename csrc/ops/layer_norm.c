#include "ops/epilogue.h"

static kp_status check_parameter(const kp_op_call *call, size_t index, const char *operand, int64_t channels,
                                 kp_error *error) {
  if (call->input_count <= index || !call->present[index]) return KP_OK;
  const kp_view *parameter = &call->inputs[index];
  KP_TRY(kp_check_dtype("layer_norm", operand, parameter, KP_F32, error));
  KP_TRY(kp_check_rank("layer_norm", operand, parameter, 1, error));
  if (parameter->shape.dim[0] != channels) {
    return kp_fail(error, KP_ERROR_MODEL, "layer_norm: %s has %lld channels, the input %lld", operand,
                   (long long)parameter->shape.dim[0], (long long)channels);
  }
  return KP_OK;
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  double eps = call->attributes[0].f[0];
  KP_TRY(kp_check_dtype("layer_norm", "x", x, KP_F32, error));
  KP_TRY(kp_check_not_empty("layer_norm", "x", &x->shape, error));
  if (x->shape.rank < 1)
    return kp_fail(error, KP_ERROR_MODEL, "layer_norm: expected x of rank 1 or more, got a scalar");
  if (!(eps >= 0 && eps <= 1e6))
    return kp_fail(error, KP_ERROR_MODEL, "layer_norm: expected eps from 0 to 1e6, got %g", eps);
  KP_TRY(check_parameter(call, 1, "gamma", x->shape.dim[x->shape.rank - 1], error));
  KP_TRY(check_parameter(call, 2, "beta", x->shape.dim[x->shape.rank - 1], error));
  call->output.dtype = KP_F32;
  call->output.shape = x->shape;
  return KP_OK;
}

static size_t columns_of(const kp_op_call *call) { return (size_t)call->output.shape.dim[call->output.shape.rank - 1]; }

static size_t row_step_of(const kp_op_call *call) { return kp_max_size(1, KP_TASK_ELEMENTS / columns_of(call)); }

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  size_t columns = columns_of(call);
  size_t rows = (size_t)kp_shape_elements(&call->output.shape) / columns;
  kp_range range = kp_task_range(rows, row_step_of(call), index);
  float *out = call->output.data;
  const float *x = call->inputs[0].data;
  call->kernels->layer_norm_f32(out + range.begin * columns, x + range.begin * columns, kp_optional_f32(call, 1),
                                kp_optional_f32(call, 2), range.end - range.begin, columns,
                                (float)call->attributes[0].f[0]);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_op_call local = *call;
  size_t rows = (size_t)kp_shape_elements(&call->output.shape) / columns_of(call);
  kp_pool_run(call->pool, kp_divide_up(rows, row_step_of(call)), task, &local);
  return KP_OK;
}

const kp_op kp_op_layer_norm = {
    .name = "layer_norm",
    .min_inputs = 1,
    .max_inputs = 3,
    .attribute_count = 1,
    .attributes = {{.name = "eps", .kind = KP_ATTR_FLOAT, .min_count = 1, .max_count = 1, .required = true}},
    .infer = infer,
    .run = run,
    .in_place = 1 << 0,
};

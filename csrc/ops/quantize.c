#include "ops/quantized.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  KP_TRY(kp_check_dtype("quantize", "x", x, KP_F32, error));
  KP_TRY(kp_check_not_empty("quantize", "x", &x->shape, error));
  if (x->shape.rank < 1) {
    return kp_fail(error, KP_ERROR_MODEL, "quantize: expected x of rank 1 or more, got a scalar");
  }
  call->output.dtype = KP_I8;
  call->output.shape = x->shape;
  return KP_OK;
}

static size_t constants_bytes(const kp_op_call *call) {
  return kp_channels_bytes((const kp_view *const[]){&call->output}, 1);
}

static void set_constants(const kp_op_call *call, void *constants) {
  kp_channels_make((const kp_view *const[]){&call->output}, 1, constants);
}

static size_t row_step_of(const kp_op_call *call) {
  return kp_max_size(1, KP_TASK_ELEMENTS / kp_last_dim(&call->output));
}

static size_t rows_of(const kp_op_call *call) {
  return (size_t)kp_shape_elements(&call->output.shape) / kp_last_dim(&call->output);
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  size_t columns = kp_last_dim(&call->output);
  kp_range rows = kp_task_range(rows_of(call), row_step_of(call), index);
  const kp_quantizer quantizer = kp_channels_quantizer(call->constants);
  call->kernels->quantize_i8((int8_t *)call->output.data + rows.begin * columns,
                             (const float *)call->inputs[0].data + rows.begin * columns, rows.end - rows.begin, columns,
                             &quantizer);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_op_call local = *call;
  kp_pool_run(call->pool, kp_divide_up(rows_of(call), row_step_of(call)), task, &local);
  return KP_OK;
}

const kp_op kp_op_quantize = {
    .name = "quantize",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = infer,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .run = run,
};

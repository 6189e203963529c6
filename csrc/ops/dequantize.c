#include "ops/quantized.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  KP_TRY(kp_check_quantized("dequantize", "x", x, error));
  KP_TRY(kp_check_not_empty("dequantize", "x", &x->shape, error));
  call->output.dtype = KP_F32;
  call->output.shape = x->shape;
  return kp_check_elements("dequantize", "an output", &x->shape, error);
}

static size_t constants_bytes(const kp_op_call *call) {
  return kp_channels_bytes((const kp_view *const[]){&call->inputs[0]}, 1);
}

static void set_constants(const kp_op_call *call, void *constants) {
  kp_channels_make((const kp_view *const[]){&call->inputs[0]}, 1, constants);
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
  const kp_channels *channels = call->constants;
  size_t columns = kp_last_dim(&call->output);
  kp_range rows = kp_task_range(rows_of(call), row_step_of(call), index);
  call->kernels->dequantize_i8((float *)call->output.data + rows.begin * columns,
                               (const int8_t *)call->inputs[0].data + rows.begin * columns, rows.end - rows.begin,
                               columns, channels->scale, channels->zero_point);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_op_call local = *call;
  kp_pool_run(call->pool, kp_divide_up(rows_of(call), row_step_of(call)), task, &local);
  return KP_OK;
}

const kp_op kp_op_dequantize = {
    .name = "dequantize",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = infer,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .run = run,
};

#include "ops/quantized.h"

/* `quantize` and `dequantize`: between f32 and i8, by channel. */

/* Rows of few channels are taken so many at a time, as one long row: a picture's three would not fill a vector. */
#define JOINED_ROWS 16
#define FEW_CHANNELS 64

static size_t joined_rows(const kp_op_call *call) {
  return kp_last_dim(&call->output) < FEW_CHANNELS ? JOINED_ROWS : 1;
}

static kp_status infer_quantize(kp_op_call *call, kp_error *error) {
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

static kp_status infer_dequantize(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  KP_TRY(kp_check_quantized("dequantize", "x", x, error));
  KP_TRY(kp_check_not_empty("dequantize", "x", &x->shape, error));
  call->output.dtype = KP_F32;
  call->output.shape = x->shape;
  return KP_OK;
}

/* The one of input and output that is i8. */
static const kp_view *quantized_of(const kp_op_call *call) {
  return call->output.dtype == KP_I8 ? &call->output : &call->inputs[0];
}

static size_t constants_bytes(const kp_op_call *call) {
  return kp_channels_bytes((const kp_view *const[]){quantized_of(call)}, 1, joined_rows(call));
}

static void set_constants(const kp_op_call *call, void *constants) {
  kp_channels_make((const kp_view *const[]){quantized_of(call)}, 1, joined_rows(call), constants);
}

static size_t row_step_of(const kp_op_call *call) {
  return kp_round_up(kp_max_size(1, KP_TASK_ELEMENTS / kp_last_dim(&call->output)), JOINED_ROWS);
}

static size_t rows_of(const kp_op_call *call) {
  return (size_t)kp_shape_elements(&call->output.shape) / kp_last_dim(&call->output);
}

static void convert(const kp_op_call *call, size_t first, size_t rows, size_t columns) {
  const kp_channels *channels = call->constants;
  if (call->output.dtype == KP_I8) {
    const kp_quantizer quantizer = kp_channels_quantizer(channels);
    call->kernels->quantize_i8((int8_t *)call->output.data + first, (const float *)call->inputs[0].data + first, rows,
                               columns, &quantizer);
  } else {
    call->kernels->dequantize_i8((float *)call->output.data + first, (const int8_t *)call->inputs[0].data + first, rows,
                                 columns, channels->scale, channels->zero_point);
  }
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  size_t channels = kp_last_dim(&call->output), joined = joined_rows(call);
  kp_range range = kp_task_range(rows_of(call), row_step_of(call), index);
  size_t rows = range.end - range.begin, rest = rows % joined, first = range.begin * channels;
  if (rows > rest) convert(call, first, rows / joined, joined * channels);
  if (rest > 0) convert(call, first + (rows - rest) * channels, 1, rest * channels);
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
    .infer = infer_quantize,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .run = run,
};

const kp_op kp_op_dequantize = {
    .name = "dequantize",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = infer_dequantize,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .run = run,
};

#include <string.h>

#include "ops/quantized.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *first = &call->inputs[0];
  KP_TRY(kp_check_range("concat", "axis", &call->attributes[0], 0, (int64_t)first->shape.rank - 1, error));
  int64_t axis = call->attributes[0].i[0];
  kp_shape joined = first->shape;
  joined.dim[axis] = 0;
  for (size_t i = 0; i < call->input_count; i++) {
    const kp_view *x = &call->inputs[i];
    KP_TRY(kp_check_dtype("concat", "inputs", x, first->dtype, error));
    KP_TRY(kp_check_elements("concat", "inputs", &x->shape, error));
    bool fits = x->shape.rank == joined.rank;
    for (int32_t d = 0; fits && d < joined.rank; d++) fits = d == axis || x->shape.dim[d] == joined.dim[d];
    if (!fits) {
      return kp_fail(error, KP_ERROR_MODEL, "concat: shape %s does not join %s along axis %lld",
                     kp_shape_format(&x->shape).text, kp_shape_format(&first->shape).text, (long long)axis);
    }
    joined.dim[axis] += x->shape.dim[axis];
  }
  KP_TRY(kp_check_elements("concat", "an output", &joined, error));
  call->output.dtype = first->dtype;
  call->output.shape = joined;
  size_t channel = 0;
  for (size_t i = 0; i < call->input_count && first->dtype == KP_I8; i++) {
    KP_TRY(kp_check_same_quantization("concat", &call->inputs[i], &call->output, channel, error));
    if (axis == joined.rank - 1) channel += kp_last_dim(&call->inputs[i]);
  }
  return KP_OK;
}

typedef struct concat_run {
  const kp_op_call *call;
  size_t rows, row_step;
  size_t row_bytes[KP_MAX_OP_INPUTS]; /* what a row takes from each input */
  size_t out_bytes;
} concat_run;

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const concat_run *run = context;
  const kp_op_call *call = run->call;
  kp_range rows = kp_task_range(run->rows, run->row_step, index);
  char *out = (char *)call->output.data + rows.begin * run->out_bytes;
  for (size_t row = rows.begin; row < rows.end; row++) {
    for (size_t i = 0; i < call->input_count; i++) {
      size_t bytes = run->row_bytes[i];
      if (bytes > 0) memcpy(out, (const char *)call->inputs[i].data + row * bytes, bytes);
      out += bytes;
    }
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  int64_t dim = call->attributes[0].i[0];
  kp_axis axis = kp_axis_of(&call->output.shape, dim);
  concat_run run = {.call = call, .rows = axis.outer};
  size_t inner = axis.inner * kp_dtype_size(call->output.dtype);
  for (size_t i = 0; i < call->input_count; i++) run.row_bytes[i] = (size_t)call->inputs[i].shape.dim[dim] * inner;
  run.out_bytes = axis.length * inner;
  if (run.out_bytes == 0) return KP_OK;
  run.row_step = kp_max_size(1, KP_TASK_ELEMENTS * sizeof(float) / run.out_bytes);
  kp_pool_run(call->pool, kp_divide_up(run.rows, run.row_step), task, &run);
  return KP_OK;
}

const kp_op kp_op_concat = {
    .name = "concat",
    .min_inputs = 2,
    .max_inputs = KP_MAX_OP_INPUTS,
    .attribute_count = 1,
    .attributes = {{.name = "axis", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true}},
    .infer = infer,
    .run = run,
};

#include <math.h>
#include <string.h>

#include "ops/quantized.h"

enum { BEFORE = 0, AFTER, VALUE };

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  const kp_attribute *before = &call->attributes[BEFORE], *after = &call->attributes[AFTER];
  double value = call->attributes[VALUE].f[0];
  if (x->dtype != KP_I8) KP_TRY(kp_check_dtype("pad", "x", x, KP_F32, error));
  KP_TRY(kp_check_elements("pad", "x", &x->shape, error));
  KP_TRY(kp_check_range("pad", "before", before, 0, KP_MAX_ELEMENTS, error));
  KP_TRY(kp_check_range("pad", "after", after, 0, KP_MAX_ELEMENTS, error));
  if (before->count != x->shape.rank || after->count != x->shape.rank) {
    return kp_fail(error, KP_ERROR_MODEL, "pad: expected %d values of before and after, got %d and %d",
                   (int)x->shape.rank, (int)before->count, (int)after->count);
  }
  if (!isfinite((float)value)) return kp_fail(error, KP_ERROR_MODEL, "pad: expected a finite float32, got %g", value);
  call->output.dtype = x->dtype;
  call->output.shape = x->shape;
  for (int32_t i = 0; i < x->shape.rank; i++) call->output.shape.dim[i] += before->i[i] + after->i[i];
  KP_TRY(kp_check_elements("pad", "an output", &call->output.shape, error));
  if (x->dtype != KP_I8) return KP_OK;
  int last = before->count - 1;
  if (value != 0 || before->i[last] != 0 || after->i[last] != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "pad: of i8 expected zeros, and none along the channels");
  }
  return kp_check_same_quantization("pad", x, &call->output, 0, error);
}

/* Rows are the output's, over the last axis that is padded and all inside it. */
typedef struct pad_run {
  const kp_op_call *call;
  int32_t axis;
  size_t rows, row_step;
  size_t inner; /* bytes of what lies inside the axis, of one of its indices */
} pad_run;

static bool is_padded(const kp_op_call *call, int32_t axis) {
  return call->attributes[BEFORE].i[axis] > 0 || call->attributes[AFTER].i[axis] > 0;
}

static pad_run plan_pad(const kp_op_call *call) {
  const kp_shape *shape = &call->output.shape;
  pad_run run = {.call = call};
  for (int32_t i = 1; i < shape->rank; i++) {
    if (is_padded(call, i)) run.axis = i;
  }
  kp_axis axis = kp_axis_of(shape, run.axis);
  run.rows = axis.outer;
  run.inner = axis.inner * kp_dtype_size(call->output.dtype);
  size_t row_bytes = kp_max_size(1, (size_t)shape->dim[run.axis] * run.inner);
  run.row_step = kp_max_size(1, KP_TASK_ELEMENTS * sizeof(float) / row_bytes);
  return run;
}

/* Bytes of padding: the value, or every channel's zero point. Returns the end. */
static char *fill(const kp_op_call *call, char *out, size_t bytes) {
  if (call->output.dtype == KP_F32) {
    float value = (float)call->attributes[VALUE].f[0], *floats = (float *)(void *)out;
    for (size_t i = 0; i < bytes / sizeof(float); i++) floats[i] = value;
  } else {
    size_t channels = kp_last_dim(&call->output);
    for (size_t done = 0; done < bytes; done += channels) {
      memcpy(out + done, call->output.quantization.zero_point, channels);
    }
  }
  return out + bytes;
}

/* The input's row for a row of the output; -1 where it is all padding. */
static int64_t source_row(const pad_run *run, size_t row) {
  const kp_shape *x = &run->call->inputs[0].shape, *y = &run->call->output.shape;
  int64_t source = 0, stride = 1, rest = (int64_t)row;
  for (int32_t i = run->axis - 1; i >= 0; i--) {
    int64_t index = rest % y->dim[i] - run->call->attributes[BEFORE].i[i];
    if (index < 0 || index >= x->dim[i]) return -1;
    source += index * stride;
    stride *= x->dim[i];
    rest /= y->dim[i];
  }
  return source;
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const pad_run *run = context;
  const kp_op_call *call = run->call;
  kp_range rows = kp_task_range(run->rows, run->row_step, index);
  size_t row_bytes = (size_t)call->output.shape.dim[run->axis] * run->inner;
  size_t before = (size_t)call->attributes[BEFORE].i[run->axis] * run->inner;
  size_t after = (size_t)call->attributes[AFTER].i[run->axis] * run->inner, copied = row_bytes - before - after;
  char *out = (char *)call->output.data + rows.begin * row_bytes;
  for (size_t row = rows.begin; row < rows.end; row++) {
    int64_t source = source_row(run, row);
    if (source < 0 || copied == 0) {
      out = fill(call, out, row_bytes);
      continue;
    }
    out = fill(call, out, before);
    memcpy(out, (const char *)call->inputs[0].data + (size_t)source * copied, copied);
    out = fill(call, out + copied, after);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  if (kp_shape_elements(&call->output.shape) == 0) return KP_OK;
  pad_run run = plan_pad(call);
  kp_pool_run(call->pool, kp_divide_up(run.rows, run.row_step), task, &run);
  return KP_OK;
}

const kp_op kp_op_pad = {
    .name = "pad",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 3,
    .attributes = {{.name = "before", .kind = KP_ATTR_INT, .min_count = 1, .max_count = KP_MAX_RANK, .required = true},
                   {.name = "after", .kind = KP_ATTR_INT, .min_count = 1, .max_count = KP_MAX_RANK, .required = true},
                   {.name = "value", .kind = KP_ATTR_FLOAT, .min_count = 1, .max_count = 1}},
    .infer = infer,
    .run = run,
};

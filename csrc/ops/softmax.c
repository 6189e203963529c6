#include "ops/shape.h"

/* Columns of an inner axis that are brought together at a time. */
#define BLOCK_COLUMNS 16

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  KP_TRY(kp_check_dtype("softmax", "x", x, KP_F32, error));
  KP_TRY(kp_check_not_empty("softmax", "x", &x->shape, error));
  KP_TRY(kp_check_range("softmax", "axis", &call->attributes[0], 0, (int64_t)x->shape.rank - 1, error));
  call->output.dtype = KP_F32;
  call->output.shape = x->shape;
  return KP_OK;
}

/* Normalised over `length`. */
typedef struct softmax_run {
  const kp_op_call *call;
  size_t outer, length, inner;
  size_t row_step, column_tasks;
} softmax_run;

static softmax_run describe(const kp_op_call *call) {
  kp_axis axis = kp_axis_of(&call->output.shape, call->attributes[0].i[0]);
  softmax_run run = {.call = call, .outer = axis.outer, .length = axis.length, .inner = axis.inner};
  run.row_step = kp_max_size(1, KP_TASK_ELEMENTS / run.length);
  run.column_tasks = kp_divide_up(run.inner, BLOCK_COLUMNS);
  return run;
}

static void rows_task(void *context, size_t task, int thread) {
  (void)thread;
  const softmax_run *run = context;
  kp_range rows = kp_task_range(run->outer, run->row_step, task);
  float *out = run->call->output.data;
  const float *x = run->call->inputs[0].data;
  size_t first = rows.begin * run->length;
  run->call->kernels->softmax_f32(out + first, x + first, rows.end - rows.begin, run->length);
}

static size_t block_bytes(const softmax_run *run) {
  return kp_scratch_bytes(kp_min_size(run->inner, BLOCK_COLUMNS) * run->length);
}

static void columns_task(void *context, size_t task, int thread) {
  const softmax_run *run = context;
  const kp_kernels *kernels = run->call->kernels;
  kp_range columns = kp_task_range(run->inner, BLOCK_COLUMNS, task % run->column_tasks);
  size_t width = columns.end - columns.begin;
  size_t first = task / run->column_tasks * run->length * run->inner + columns.begin;
  float *block = (float *)(void *)((char *)run->call->scratch + (size_t)thread * block_bytes(run));
  const uint32_t *x = run->call->inputs[0].data;
  uint32_t *out = run->call->output.data;
  kernels->transpose_32((uint32_t *)block, run->length, x + first, run->inner, run->length, width);
  kernels->softmax_f32(block, block, width, run->length);
  kernels->transpose_32(out + first, run->inner, (const uint32_t *)block, run->length, width, run->length);
}

static size_t scratch(const kp_op_call *call) {
  softmax_run run = describe(call);
  return run.inner > 1 ? (size_t)call->threads * block_bytes(&run) : 0;
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  softmax_run run = describe(call);
  if (run.inner == 1) {
    kp_pool_run(call->pool, kp_divide_up(run.outer, run.row_step), rows_task, &run);
  } else {
    kp_pool_run(call->pool, run.outer * run.column_tasks, columns_task, &run);
  }
  return KP_OK;
}

const kp_op kp_op_softmax = {
    .name = "softmax",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 1,
    .attributes = {{.name = "axis", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true}},
    .infer = infer,
    .scratch = scratch,
    .run = run,
    .in_place = 1 << 0,
};

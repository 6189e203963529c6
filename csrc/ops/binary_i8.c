#include "ops/binary_i8.h"

#include "ops/quantized.h"

/* Floats of a block that is dequantised, combined and quantised: it stays in the first-level cache. */
#define BLOCK_FLOATS 2048

enum { A = 0, B, OUTPUT, VIEWS };

static void views_of(const kp_op_call *call, const kp_view *views[VIEWS]) {
  views[A] = &call->inputs[0];
  views[B] = &call->inputs[1];
  views[OUTPUT] = &call->output;
}

kp_status kp_binary_i8_check(kp_op_call *call, int64_t out, kp_error *error) {
  static const char *const names[] = {"a", "b"};
  for (int i = 0; i < 2; i++) {
    const kp_view *x = &call->inputs[i];
    if (x->dtype == KP_I8) {
      KP_TRY(kp_check_quantized("binary", names[i], x, error));
    } else {
      KP_TRY(kp_check_dtype("binary", names[i], x, KP_F32, error));
    }
  }
  KP_TRY(kp_check_not_empty("binary", "an output", &call->output.shape, error));
  call->output.dtype = out == KP_OUT_I8 ? KP_I8 : KP_F32;
  return KP_OK;
}

size_t kp_binary_i8_constants_bytes(const kp_op_call *call) {
  const kp_view *views[VIEWS];
  views_of(call, views);
  return kp_channels_bytes(views, VIEWS, 1);
}

void kp_binary_i8_set_constants(const kp_op_call *call, void *constants) {
  const kp_view *views[VIEWS];
  views_of(call, views);
  kp_channels_make(views, VIEWS, 1, constants);
}

/* Rows are the output's last dimension; the nest is over the others. */
typedef struct binary_run {
  const kp_op_call *call;
  kp_loop loop;
  size_t columns;
  size_t rows, row_step, row_tasks; /* of the nest's innermost dimension */
  size_t buffer_bytes;              /* one for each view */
} binary_run;

static binary_run plan_binary(const kp_op_call *call) {
  const kp_shape *output = &call->output.shape;
  binary_run run = {.call = call, .columns = kp_last_dim(&call->output)};
  run.loop.rank = output->rank - 1;
  for (int32_t i = 0; i < run.loop.rank; i++) run.loop.dim[i] = output->dim[i];
  for (int operand = 0; operand < 2; operand++) {
    const kp_shape *shape = &call->inputs[operand].shape;
    int64_t stride = shape->rank > 0 ? shape->dim[shape->rank - 1] : 1;
    for (int32_t i = 1; i <= run.loop.rank; i++) {
      int64_t dim = i < shape->rank ? shape->dim[shape->rank - 1 - i] : 1;
      run.loop.stride[operand][run.loop.rank - i] = dim == 1 ? 0 : stride;
      stride *= dim;
    }
  }
  kp_loop_collapse(&run.loop, 2);
  run.rows = (size_t)run.loop.dim[run.loop.rank - 1];
  run.row_step = kp_min_size(run.rows, kp_max_size(1, BLOCK_FLOATS / run.columns));
  run.row_tasks = kp_divide_up(run.rows, run.row_step);
  run.buffer_bytes = kp_scratch_bytes(run.row_step * run.columns);
  return run;
}

size_t kp_binary_i8_scratch(const kp_op_call *call) {
  return VIEWS * (size_t)call->threads * plan_binary(call).buffer_bytes;
}

/* An operand's rows of a block as floats. */
typedef struct operand {
  const float *data;
  size_t row_stride; /* 0: one row for all */
  size_t step;       /* 0: one element for a whole row */
} operand;

static operand fetch(const binary_run *run, int index, size_t offset, kp_range rows, float *buffer) {
  const kp_view *view = &run->call->inputs[index];
  size_t stride = (size_t)run->loop.stride[index][run->loop.rank - 1];
  size_t columns = view->shape.rank > 0 ? kp_last_dim(view) : 1;
  if (run->rows == 1) stride = 0;
  offset += rows.begin * stride;
  operand result = {.row_stride = stride > 0 ? columns : 0, .step = columns == run->columns};
  if (view->dtype == KP_F32) {
    result.data = (const float *)view->data + offset;
    return result;
  }
  const kp_channels *channels = (const kp_channels *)run->call->constants + index;
  size_t count = stride > 0 ? rows.end - rows.begin : 1;
  run->call->kernels->dequantize_i8(buffer, (const int8_t *)view->data + offset, count, columns, channels->scale,
                                    channels->zero_point);
  result.data = buffer;
  return result;
}

static void combine(const binary_run *run, float *out, size_t rows, operand a, operand b) {
  const kp_op_call *call = run->call;
  void (*function)(float *, const float *, size_t, const float *, size_t, size_t) =
      call->kernels->binary_f32[call->attributes[0].i[0]];
  size_t columns = run->columns;
  if (a.row_stride == columns && b.row_stride == columns && a.step == 1 && b.step == 1) {
    function(out, a.data, 1, b.data, 1, rows * columns);
    return;
  }
  for (size_t row = 0; row < rows; row++) {
    function(out + row * columns, a.data + row * a.row_stride, a.step, b.data + row * b.row_stride, b.step, columns);
  }
}

static void task(void *context, size_t index, int thread) {
  const binary_run *run = context;
  const kp_op_call *call = run->call;
  kp_range rows = kp_task_range(run->rows, run->row_step, index % run->row_tasks);
  size_t outer = index / run->row_tasks, count = rows.end - rows.begin;
  char *scratch = (char *)call->scratch + VIEWS * (size_t)thread * run->buffer_bytes;
  kp_cursor cursor;
  kp_cursor_start(&run->loop, 2, (int64_t)outer, &cursor);
  operand operands[2];
  for (int i = 0; i < 2; i++) {
    float *buffer = (float *)(void *)(scratch + (size_t)i * run->buffer_bytes);
    operands[i] = fetch(run, i, (size_t)cursor.offset[i], rows, buffer);
  }
  size_t first = (outer * run->rows + rows.begin) * run->columns;
  if (call->output.dtype == KP_F32) {
    combine(run, (float *)call->output.data + first, count, operands[A], operands[B]);
    return;
  }
  float *result = (float *)(void *)(scratch + OUTPUT * run->buffer_bytes);
  combine(run, result, count, operands[A], operands[B]);
  const kp_quantizer quantizer = kp_channels_quantizer((const kp_channels *)call->constants + OUTPUT);
  call->kernels->quantize_i8((int8_t *)call->output.data + first, result, count, run->columns, &quantizer);
}

void kp_binary_i8_run(const kp_op_call *call) {
  binary_run run = plan_binary(call);
  size_t outer = (size_t)kp_shape_elements(&call->output.shape) / run.columns / run.rows;
  kp_pool_run(call->pool, outer * run.row_tasks, task, &run);
}

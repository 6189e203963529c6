#include "ops/shape.h"

#include <inttypes.h>
#include <stdio.h>

kp_shape_string kp_shape_format(const kp_shape *shape) {
  kp_shape_string result;
  size_t used = 0;
  result.text[used++] = '(';
  for (int32_t i = 0; i < shape->rank; i++) {
    int written =
        snprintf(result.text + used, sizeof result.text - used, i > 0 ? ",%" PRId64 : "%" PRId64, shape->dim[i]);
    if (written > 0) used += (size_t)written;
  }
  snprintf(result.text + used, sizeof result.text - used, ")");
  return result;
}

/* ---- Checks ---- */

kp_status kp_check_dtype(const char *op, const char *operand, const kp_view *view, kp_dtype dtype, kp_error *error) {
  if (view->dtype == dtype) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected %s of dtype %s, got %s", op, operand, kp_dtype_name(dtype),
                 kp_dtype_name(view->dtype));
}

kp_status kp_check_rank(const char *op, const char *operand, const kp_view *view, int32_t rank, kp_error *error) {
  if (view->shape.rank == rank) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected %s of rank %d, got shape %s", op, operand, (int)rank,
                 kp_shape_format(&view->shape).text);
}

kp_status kp_check_range(const char *op, const char *attribute, const kp_attribute *values, int64_t low, int64_t high,
                         kp_error *error) {
  for (int i = 0; i < values->count; i++) {
    if (values->i[i] < low || values->i[i] > high) {
      return kp_fail(error, KP_ERROR_MODEL, "%s: expected %s from %" PRId64 " to %" PRId64 ", got %" PRId64, op,
                     attribute, low, high, values->i[i]);
    }
  }
  return KP_OK;
}

kp_status kp_check_elements(const char *op, const char *operand, const kp_shape *shape, kp_error *error) {
  bool ok = shape->rank >= 0 && shape->rank <= KP_MAX_RANK;
  int64_t product = 1; /* with zeros as ones, so that no partial product of kp_shape_elements can overflow either */
  for (int32_t i = 0; ok && i < shape->rank; i++) {
    int64_t dim = shape->dim[i] > 0 ? shape->dim[i] : 1;
    ok = shape->dim[i] >= 0 && dim <= KP_MAX_ELEMENTS / product;
    if (ok) product *= dim;
  }
  if (ok) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected %s of at most %d elements, got shape %s", op, operand,
                 (int)KP_MAX_ELEMENTS, kp_shape_format(shape).text);
}

kp_status kp_check_not_empty(const char *op, const char *operand, const kp_shape *shape, kp_error *error) {
  KP_TRY(kp_check_elements(op, operand, shape, error));
  if (kp_shape_elements(shape) > 0) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected %s with at least one element, got shape %s", op, operand,
                 kp_shape_format(shape).text);
}

bool kp_shape_equal(const kp_shape *a, const kp_shape *b) {
  if (a->rank != b->rank) return false;
  for (int32_t i = 0; i < a->rank; i++) {
    if (a->dim[i] != b->dim[i]) return false;
  }
  return true;
}

kp_axis kp_axis_of(const kp_shape *shape, int64_t axis) {
  kp_axis result = {.outer = 1, .length = (size_t)shape->dim[axis], .inner = 1};
  for (int32_t i = 0; i < axis; i++) result.outer *= (size_t)shape->dim[i];
  for (int32_t i = (int32_t)axis + 1; i < shape->rank; i++) result.inner *= (size_t)shape->dim[i];
  return result;
}

size_t kp_task_lanes(kp_axis axis) { return kp_max_size(1, KP_TASK_ELEMENTS / kp_max_size(1, axis.length)); }

/* ---- Broadcasting ---- */

kp_status kp_broadcast_shape(const char *op, const kp_shape *shape, kp_shape *result, kp_error *error) {
  kp_shape merged = {.rank = shape->rank > result->rank ? shape->rank : result->rank};
  for (int32_t i = 1; i <= merged.rank; i++) {
    int64_t a = i <= shape->rank ? shape->dim[shape->rank - i] : 1;
    int64_t b = i <= result->rank ? result->dim[result->rank - i] : 1;
    if (a != b && a != 1 && b != 1) {
      return kp_fail(error, KP_ERROR_MODEL, "%s: shapes %s and %s do not broadcast", op, kp_shape_format(result).text,
                     kp_shape_format(shape).text);
    }
    merged.dim[merged.rank - i] = a == 1 ? b : a;
  }
  *result = merged;
  return KP_OK;
}

static void loop_broadcast(kp_loop *loop, const kp_shape *output, int operands, const kp_view *inputs) {
  loop->rank = output->rank;
  for (int32_t i = 0; i < output->rank; i++) loop->dim[i] = output->dim[i];
  for (int operand = 0; operand < operands; operand++) {
    const kp_shape *shape = &inputs[operand].shape;
    int64_t stride = 1;
    for (int32_t i = 1; i <= output->rank; i++) {
      int64_t dim = i <= shape->rank ? shape->dim[shape->rank - i] : 1;
      loop->stride[operand][output->rank - i] = dim == 1 ? 0 : stride;
      stride *= dim;
    }
  }
  kp_loop_collapse(loop, operands);
}

void kp_loop_collapse(kp_loop *loop, int operands) {
  int32_t rank = 0;
  for (int32_t i = 0; i < loop->rank; i++) {
    if (loop->dim[i] == 1) continue;
    bool merges = rank > 0;
    for (int operand = 0; merges && operand < operands; operand++) {
      merges = loop->stride[operand][rank - 1] == loop->stride[operand][i] * loop->dim[i];
    }
    if (!merges) rank++;
    loop->dim[rank - 1] = merges ? loop->dim[rank - 1] * loop->dim[i] : loop->dim[i];
    for (int operand = 0; operand < operands; operand++) loop->stride[operand][rank - 1] = loop->stride[operand][i];
  }
  if (rank == 0) {
    rank = 1;
    loop->dim[0] = 1;
    for (int operand = 0; operand < operands; operand++) loop->stride[operand][0] = 1;
  }
  loop->rank = rank;
}

void kp_cursor_start(const kp_loop *loop, int operands, int64_t outer, kp_cursor *cursor) {
  for (int operand = 0; operand < operands; operand++) cursor->offset[operand] = 0;
  for (int32_t i = loop->rank - 2; i >= 0; i--) {
    cursor->index[i] = outer % loop->dim[i];
    outer /= loop->dim[i];
    for (int operand = 0; operand < operands; operand++) {
      cursor->offset[operand] += cursor->index[i] * loop->stride[operand][i];
    }
  }
}

void kp_cursor_next(const kp_loop *loop, int operands, kp_cursor *cursor) {
  for (int32_t i = loop->rank - 2; i >= 0; i--) {
    bool carries = cursor->index[i] + 1 == loop->dim[i];
    int64_t steps = carries ? -cursor->index[i] : 1;
    cursor->index[i] += steps;
    for (int operand = 0; operand < operands; operand++) cursor->offset[operand] += steps * loop->stride[operand][i];
    if (!carries) return;
  }
}

typedef struct broadcast_run {
  const kp_op_call *call;
  kp_span_fn span;
  kp_loop loop;
  int operands;
  size_t rows, row_step;       /* of all dimensions but the innermost */
  size_t columns, column_step; /* of the innermost */
  size_t column_tasks;
} broadcast_run;

static void broadcast_task(void *context, size_t task, int thread) {
  (void)thread;
  const broadcast_run *run = context;
  const kp_op_call *call = run->call;
  kp_range rows = kp_task_range(run->rows, run->row_step, task / run->column_tasks);
  kp_range columns = kp_task_range(run->columns, run->column_step, task % run->column_tasks);
  size_t element = kp_dtype_size(call->output.dtype);
  size_t step[KP_MAX_OPERANDS] = {0};
  for (int i = 0; i < run->operands; i++) step[i] = (size_t)run->loop.stride[i][run->loop.rank - 1];
  kp_cursor cursor;
  kp_cursor_start(&run->loop, run->operands, (int64_t)rows.begin, &cursor);
  for (size_t row = rows.begin; row < rows.end; row++) {
    const void *in[KP_MAX_OPERANDS] = {NULL};
    for (int i = 0; i < run->operands; i++) {
      size_t offset = (size_t)cursor.offset[i] + columns.begin * step[i];
      in[i] = (const char *)call->inputs[i].data + offset * kp_dtype_size(call->inputs[i].dtype);
    }
    char *out = (char *)call->output.data + (row * run->columns + columns.begin) * element;
    run->span(call, out, in, step, columns.end - columns.begin);
    kp_cursor_next(&run->loop, run->operands, &cursor);
  }
}

void kp_broadcast_run(const kp_op_call *call, int operands, kp_span_fn span) {
  size_t elements = (size_t)kp_shape_elements(&call->output.shape);
  if (elements == 0) return;
  broadcast_run run = {.call = call, .span = span, .operands = operands};
  loop_broadcast(&run.loop, &call->output.shape, operands, call->inputs);
  run.columns = (size_t)run.loop.dim[run.loop.rank - 1];
  run.rows = elements / run.columns;
  run.column_step = kp_min_size(run.columns, KP_TASK_ELEMENTS);
  run.column_tasks = kp_divide_up(run.columns, run.column_step);
  run.row_step = kp_max_size(1, KP_TASK_ELEMENTS / run.columns);
  kp_pool_run(call->pool, kp_divide_up(run.rows, run.row_step) * run.column_tasks, broadcast_task, &run);
}

/* ---- Sharing work ---- */

kp_range kp_task_range(size_t total, size_t step, size_t task) {
  size_t begin = task * step;
  return (kp_range){.begin = begin, .end = kp_min_size(begin + step, total)};
}

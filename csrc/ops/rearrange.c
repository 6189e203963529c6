#include <string.h>

#include "ops/quantized.h"

enum { DIMS = 0, STRIDES, OFFSET, SHAPE };

/* Columns of a transpose that one task moves: whole cache lines of the source. */
#define TRANSPOSE_COLUMNS 64

/* Whole channels move: every element keeps its index in the last dimension, modulo the output's. */
static kp_status check_i8(const kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  const kp_attribute *dims = &call->attributes[DIMS], *strides = &call->attributes[STRIDES];
  const kp_shape *shape = &call->output.shape;
  int64_t channels = shape->rank > 0 ? shape->dim[shape->rank - 1] : 0;
  bool whole = channels > 0 && dims->count > 0 && x->shape.rank > 0 &&
               x->shape.dim[x->shape.rank - 1] % channels == 0 && dims->i[dims->count - 1] % channels == 0 &&
               strides->i[strides->count - 1] == 1 && call->attributes[OFFSET].i[0] % channels == 0;
  for (int i = 0; whole && i + 1 < strides->count; i++) whole = strides->i[i] % channels == 0;
  if (!whole) return kp_fail(error, KP_ERROR_MODEL, "rearrange: expected the last dimension of i8 kept");
  return kp_check_repeated_quantization("rearrange", x, &call->output, error);
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  const kp_attribute *dims = &call->attributes[DIMS], *strides = &call->attributes[STRIDES];
  int64_t offset = call->attributes[OFFSET].i[0];
  KP_TRY(kp_check_elements("rearrange", "x", &x->shape, error));
  KP_TRY(kp_check_range("rearrange", "strides", strides, 0, KP_MAX_ELEMENTS, error));
  KP_TRY(kp_check_range("rearrange", "offset", &call->attributes[OFFSET], 0, KP_MAX_ELEMENTS, error));
  if (dims->count != strides->count) {
    return kp_fail(error, KP_ERROR_MODEL, "rearrange: expected as many strides as dims, %d, got %d", (int)dims->count,
                   (int)strides->count);
  }
  kp_shape nest = {.rank = dims->count}, shape = {.rank = call->attributes[SHAPE].count};
  for (int32_t i = 0; i < nest.rank; i++) nest.dim[i] = dims->i[i];
  for (int32_t i = 0; i < shape.rank; i++) shape.dim[i] = call->attributes[SHAPE].i[i];
  KP_TRY(kp_check_elements("rearrange", "dims", &nest, error));
  KP_TRY(kp_check_elements("rearrange", "an output", &shape, error));
  if (kp_shape_elements(&nest) != kp_shape_elements(&shape)) {
    return kp_fail(error, KP_ERROR_MODEL, "rearrange: shape %s has not as many elements as dims %s",
                   kp_shape_format(&shape).text, kp_shape_format(&nest).text);
  }
  if (kp_shape_elements(&nest) > 0) {
    int64_t last = offset; /* below 2^63: strides and the product of dims are at most KP_MAX_ELEMENTS */
    for (int32_t i = 0; i < nest.rank; i++) last += (nest.dim[i] - 1) * strides->i[i];
    if (last >= kp_shape_elements(&x->shape)) {
      return kp_fail(error, KP_ERROR_MODEL, "rearrange: dims %s reach element %lld of an input of shape %s",
                     kp_shape_format(&nest).text, (long long)last, kp_shape_format(&x->shape).text);
    }
  }
  call->output.dtype = x->dtype;
  call->output.shape = shape;
  return x->dtype == KP_I8 ? check_i8(call, error) : KP_OK;
}

typedef struct rearrange_run {
  const kp_op_call *call;
  kp_loop loop;
  size_t element; /* bytes */
  const char *source;
  size_t rows, row_step;       /* of all dimensions but the innermost; of a transpose, but two */
  size_t columns, column_step; /* of the innermost; of a transpose, of the dimension whose source is contiguous */
  size_t column_tasks;
  /* A transpose: dst[c * dst_stride + r] = src[r * src_stride + c] in each row. */
  size_t transpose_rows, dst_stride, src_stride;
  kp_loop places; /* of the transposes: operand 0 the source, operand 1 the output; the innermost dimension is 1 */
} rearrange_run;

static void copy_strided(size_t element, char *out, const char *in, size_t step, size_t n) {
  if (step == 1) {
    memcpy(out, in, n * element);
  } else if (element == 4) {
    uint32_t *to = (uint32_t *)(void *)out;
    const uint32_t *from = (const uint32_t *)(const void *)in;
    for (size_t i = 0; i < n; i++) to[i] = from[i * step];
  } else {
    for (size_t i = 0; i < n; i++) out[i] = in[i * step];
  }
}

static void copy_task(void *context, size_t task, int thread) {
  (void)thread;
  const rearrange_run *run = context;
  kp_range rows = kp_task_range(run->rows, run->row_step, task / run->column_tasks);
  kp_range columns = kp_task_range(run->columns, run->column_step, task % run->column_tasks);
  size_t step = (size_t)run->loop.stride[0][run->loop.rank - 1];
  kp_cursor cursor;
  kp_cursor_start(&run->loop, 1, (int64_t)rows.begin, &cursor);
  for (size_t row = rows.begin; row < rows.end; row++) {
    char *out = (char *)run->call->output.data + (row * run->columns + columns.begin) * run->element;
    const char *in = run->source + ((size_t)cursor.offset[0] + columns.begin * step) * run->element;
    copy_strided(run->element, out, in, step, columns.end - columns.begin);
    kp_cursor_next(&run->loop, 1, &cursor);
  }
}

static void transpose_task(void *context, size_t task, int thread) {
  (void)thread;
  const rearrange_run *run = context;
  kp_range columns = kp_task_range(run->columns, run->column_step, task % run->column_tasks);
  kp_cursor cursor;
  kp_cursor_start(&run->places, 2, (int64_t)(task / run->column_tasks), &cursor);
  uint32_t *out = (uint32_t *)run->call->output.data + cursor.offset[1] + columns.begin * run->dst_stride;
  const uint32_t *in = (const uint32_t *)(const void *)run->source + cursor.offset[0] + columns.begin;
  run->call->kernels->transpose_32(out, run->dst_stride, in, run->src_stride, run->transpose_rows,
                                   columns.end - columns.begin);
}

/* True where some dimension but the innermost is contiguous in the source: with the innermost, it makes a transpose. */
static bool find_transpose(rearrange_run *run) {
  const kp_loop *loop = &run->loop;
  int32_t last = loop->rank - 1, contiguous = -1;
  if (run->element != 4 || loop->stride[0][last] <= 1) return false;
  for (int32_t i = 0; i < last; i++) {
    if (loop->stride[0][i] == 1) contiguous = i;
  }
  if (contiguous < 0) return false;
  kp_loop *places = &run->places;
  int64_t out_stride = loop->dim[last];
  places->rank = last;
  for (int32_t i = last - 1, place = last - 2; i >= 0; i--) {
    if (i == contiguous) {
      run->dst_stride = (size_t)out_stride;
    } else {
      places->dim[place] = loop->dim[i];
      places->stride[0][place] = loop->stride[0][i];
      places->stride[1][place--] = out_stride;
    }
    out_stride *= loop->dim[i];
  }
  places->dim[last - 1] = 1;
  run->columns = (size_t)loop->dim[contiguous];
  run->transpose_rows = (size_t)loop->dim[last];
  run->src_stride = (size_t)loop->stride[0][last];
  run->rows /= run->columns;
  run->row_step = 1;
  run->column_step = run->columns * run->transpose_rows <= KP_TASK_ELEMENTS ? run->columns : TRANSPOSE_COLUMNS;
  return true;
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  size_t elements = (size_t)kp_shape_elements(&call->output.shape);
  if (elements == 0) return KP_OK;
  rearrange_run run = {.call = call, .element = kp_dtype_size(call->output.dtype)};
  run.source = (const char *)call->inputs[0].data + (size_t)call->attributes[OFFSET].i[0] * run.element;
  run.loop.rank = call->attributes[DIMS].count;
  for (int32_t i = 0; i < run.loop.rank; i++) {
    run.loop.dim[i] = call->attributes[DIMS].i[i];
    run.loop.stride[0][i] = call->attributes[STRIDES].i[i];
  }
  kp_loop_collapse(&run.loop, 1);
  run.columns = (size_t)run.loop.dim[run.loop.rank - 1];
  run.rows = elements / run.columns;
  run.row_step = kp_max_size(1, KP_TASK_ELEMENTS / run.columns);
  run.column_step = kp_min_size(run.columns, KP_TASK_ELEMENTS);
  kp_task_fn task = find_transpose(&run) ? transpose_task : copy_task;
  run.column_tasks = kp_divide_up(run.columns, run.column_step);
  kp_pool_run(call->pool, kp_divide_up(run.rows, run.row_step) * run.column_tasks, task, &run);
  return KP_OK;
}

const kp_op kp_op_rearrange = {
    .name = "rearrange",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 4,
    .attributes = {{.name = "dims", .kind = KP_ATTR_DIM, .max_count = KP_MAX_RANK, .required = true},
                   {.name = "strides", .kind = KP_ATTR_DIM, .max_count = KP_MAX_RANK, .required = true},
                   {.name = "offset", .kind = KP_ATTR_DIM, .min_count = 1, .max_count = 1},
                   {.name = "shape", .kind = KP_ATTR_DIM, .max_count = KP_MAX_RANK, .required = true}},
    .infer = infer,
    .run = run,
};

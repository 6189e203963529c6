#include <string.h>

#include "ops/quantized.h"

static const char *const functions[] = {"mean", "sum", "l2norm", "max", "min", NULL};
enum { MEAN = 0, SUM, L2NORM, MAX, MIN };
enum { FUNCTION = 0, AXES, KEEPDIM };

/* A mean over all axes but the first ones and the last: (outer, length, channels) to (outer, channels). */
static kp_status check_i8(const kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  const kp_attribute *axes = &call->attributes[AXES];
  KP_TRY(kp_check_quantized("reduce", "x", x, error));
  bool fits = call->attributes[FUNCTION].i[0] == MEAN;
  int64_t length = 1;
  for (int i = 0; i < axes->count; i++) {
    fits = fits && axes->i[i] == x->shape.rank - 1 - axes->count + i;
    length *= x->shape.dim[axes->i[i]];
  }
  if (fits && length <= KP_MAX_SUM_TAPS) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "reduce: of i8 expected a mean over the axes before the last");
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  const kp_attribute *axes = &call->attributes[AXES];
  int64_t function = call->attributes[FUNCTION].i[0];
  bool integers = x->dtype == KP_I32 && function != MEAN && function != L2NORM;
  if (x->dtype != KP_I8 && !integers) KP_TRY(kp_check_dtype("reduce", "x", x, KP_F32, error));
  KP_TRY(kp_check_not_empty("reduce", "x", &x->shape, error));
  KP_TRY(kp_check_range("reduce", "axes", axes, 0, (int64_t)x->shape.rank - 1, error));
  KP_TRY(kp_check_range("reduce", "keepdim", &call->attributes[KEEPDIM], 0, 1, error));
  for (int i = 1; i < axes->count; i++) {
    if (axes->i[i] <= axes->i[i - 1]) {
      return kp_fail(error, KP_ERROR_MODEL, "reduce: expected ascending axes, got %lld after %lld",
                     (long long)axes->i[i], (long long)axes->i[i - 1]);
    }
  }
  kp_shape shape = {.rank = 0};
  for (int32_t i = 0, next = 0; i < x->shape.rank; i++) {
    bool reduced = next < axes->count && axes->i[next] == i;
    if (reduced) next++;
    if (!reduced || call->attributes[KEEPDIM].i[0]) shape.dim[shape.rank++] = reduced ? 1 : x->shape.dim[i];
  }
  call->output.dtype = integers ? KP_I32 : KP_F32;
  call->output.shape = shape;
  return x->dtype == KP_I8 ? check_i8(call, error) : KP_OK;
}

/* One pass: (outer, length, inner) to (outer, inner), summed over `length` or the extremes along it. */
typedef struct reduce_pass {
  size_t outer, length, inner;
} reduce_pass;

typedef struct reduce_passes {
  int count; /* passes, the innermost axes first; each reads what the one before it wrote */
  reduce_pass passes[KP_MAX_RANK];
  size_t divisor; /* elements that make one of the output's */
} reduce_passes;

/* Adjacent axes that are reduced become one pass. */
static reduce_passes describe(const kp_op_call *call) {
  const kp_shape *shape = &call->inputs[0].shape;
  const kp_attribute *axes = &call->attributes[AXES];
  reduce_passes result = {.divisor = 1};
  size_t outer = (size_t)kp_shape_elements(shape), inner = 1;
  for (int32_t axis = shape->rank - 1, next = axes->count - 1; axis >= 0; axis--) {
    size_t length = 1;
    for (; next >= 0 && axes->i[next] == axis; next--, axis--) length *= (size_t)shape->dim[axis];
    if (length > 1) {
      outer /= length;
      result.divisor *= length;
      result.passes[result.count++] = (reduce_pass){.outer = outer / inner, .length = length, .inner = inner};
    }
    if (axis >= 0) inner *= (size_t)shape->dim[axis];
  }
  if (result.count == 0) result.passes[result.count++] = (reduce_pass){.outer = outer, .length = 1, .inner = 1};
  return result;
}

typedef struct pass_run {
  const kp_op_call *call;
  const reduce_pass *pass;
  const char *x;
  char *out;
  size_t row_step, column_step, column_tasks;
} pass_run;

/* Sums are taken modulo 2^32. */
static int32_t apply_i32(int64_t function, int32_t a, int32_t b) {
  if (function == SUM) return (int32_t)((uint32_t)a + (uint32_t)b);
  return (function == MAX) == (a > b) ? a : b;
}

static void reduce_i32(const pass_run *run, int32_t *out, const int32_t *x, size_t width) {
  int64_t function = run->call->attributes[FUNCTION].i[0];
  memcpy(out, x, width * sizeof(int32_t));
  for (size_t row = 1; row < run->pass->length; row++) {
    for (size_t c = 0; c < width; c++) out[c] = apply_i32(function, out[c], x[row * run->pass->inner + c]);
  }
}

static void extremes_f32(const pass_run *run, float *out, const float *x, size_t width) {
  kp_binary function = run->call->attributes[FUNCTION].i[0] == MAX ? KP_MAX : KP_MIN;
  memcpy(out, x, width * sizeof(float));
  for (size_t row = 1; row < run->pass->length; row++) {
    run->call->kernels->binary_f32[function](out, out, 1, x + row * run->pass->inner, 1, width);
  }
}

static void extreme_f32(const pass_run *run, float *out, const float *x) {
  bool max = run->call->attributes[FUNCTION].i[0] == MAX;
  float best = x[0];
  for (size_t i = 1; i < run->pass->length; i++) {
    if (max ? x[i] > best : x[i] < best) best = x[i];
  }
  *out = best;
}

static void reduce_f32(const pass_run *run, float *out, const float *x, size_t width) {
  const kp_kernels *kernels = run->call->kernels;
  const reduce_pass *pass = run->pass;
  int64_t function = run->call->attributes[FUNCTION].i[0];
  if (function == MAX || function == MIN) {
    if (pass->inner == 1) {
      extreme_f32(run, out, x);
    } else {
      extremes_f32(run, out, x, width);
    }
  } else if (pass->inner == 1) {
    *out = kernels->sum_f32(x, pass->length);
  } else {
    kernels->sum_rows_f32(out, x, pass->inner, pass->length, width);
  }
}

static void pass_task(void *context, size_t task, int thread) {
  (void)thread;
  const pass_run *run = context;
  const reduce_pass *pass = run->pass;
  kp_range rows = kp_task_range(pass->outer, run->row_step, task / run->column_tasks);
  kp_range columns = kp_task_range(pass->inner, run->column_step, task % run->column_tasks);
  for (size_t row = rows.begin; row < rows.end; row++) {
    const void *x = run->x + (row * pass->length * pass->inner + columns.begin) * sizeof(float);
    void *out = run->out + (row * pass->inner + columns.begin) * sizeof(float);
    if (run->call->output.dtype == KP_I32) {
      reduce_i32(run, out, x, columns.end - columns.begin);
    } else {
      reduce_f32(run, out, x, columns.end - columns.begin);
    }
  }
}

/* Elements have four bytes, of f32 and of i32. */
static void run_pass(const kp_op_call *call, const reduce_pass *pass, const void *x, void *out) {
  pass_run run = {.call = call, .pass = pass, .x = x, .out = out};
  run.row_step = kp_max_size(1, KP_TASK_ELEMENTS / (pass->length * pass->inner));
  run.column_step = kp_min_size(pass->inner, kp_round_up(kp_max_size(1, KP_TASK_ELEMENTS / pass->length), 16));
  run.column_tasks = kp_divide_up(pass->inner, run.column_step);
  kp_pool_run(call->pool, kp_divide_up(pass->outer, run.row_step) * run.column_tasks, pass_task, &run);
}

/* ---- The mean of i8 ---- */

/* Rows that are summed at a time. */
#define SUMMED_ROWS 64

static size_t scratch_i8(const kp_op_call *call) { return 2 * kp_scratch_bytes(kp_last_dim(&call->inputs[0])); }

/* sums[c] += the sum of `rows` <= SUMMED_ROWS rows of x. */
static void add_rows(const kp_op_call *call, const int8_t *x, size_t rows, size_t columns, int32_t *block,
                     int32_t *sums) {
  const int8_t *taps[SUMMED_ROWS];
  for (size_t row = 0; row < rows; row++) taps[row] = x + row * columns;
  call->kernels->sum_taps_i8(block, taps, 1, rows, columns);
  for (size_t c = 0; c < columns; c++) sums[c] += block[c];
}

/* ((float)(sum - length * zero_point) * scale) / length. */
static void run_i8(const kp_op_call *call) {
  const kp_channels *channels = call->constants;
  size_t columns = kp_last_dim(&call->inputs[0]), length = describe(call).divisor;
  size_t outer = (size_t)kp_shape_elements(&call->output.shape) / columns;
  int32_t *sums = call->scratch, *block = sums + kp_scratch_bytes(columns) / sizeof(int32_t);
  for (size_t i = 0; i < outer; i++) {
    const int8_t *x = (const int8_t *)call->inputs[0].data + i * length * columns;
    float *out = (float *)call->output.data + i * columns;
    memset(sums, 0, columns * sizeof(int32_t));
    for (size_t row = 0; row < length; row += SUMMED_ROWS) {
      add_rows(call, x + row * columns, kp_min_size(SUMMED_ROWS, length - row), columns, block, sums);
    }
    for (size_t c = 0; c < columns; c++) {
      int32_t sum = sums[c] - (int32_t)length * channels->zero_point[c];
      out[c] = (float)sum * channels->scale[c] / (float)length;
    }
  }
}

/* The squares, then what all passes but the last leave. */
static size_t scratch(const kp_op_call *call) {
  if (call->inputs[0].dtype == KP_I8) return scratch_i8(call);
  reduce_passes reduction = describe(call);
  size_t bytes = call->attributes[FUNCTION].i[0] == L2NORM
                     ? kp_scratch_bytes((size_t)kp_shape_elements(&call->inputs[0].shape))
                     : 0;
  for (int i = 0; i + 1 < reduction.count; i++)
    bytes += kp_scratch_bytes(reduction.passes[i].outer * reduction.passes[i].inner);
  return bytes;
}

static size_t constants_bytes(const kp_op_call *call) {
  return kp_channels_bytes((const kp_view *const[]){&call->inputs[0]}, 1, 1);
}

static void set_constants(const kp_op_call *call, void *constants) {
  kp_channels_make((const kp_view *const[]){&call->inputs[0]}, 1, 1, constants);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  if (call->inputs[0].dtype == KP_I8) {
    run_i8(call);
    return KP_OK;
  }
  reduce_passes reduction = describe(call);
  int64_t function = call->attributes[FUNCTION].i[0];
  size_t count = (size_t)kp_shape_elements(&call->inputs[0].shape);
  size_t results = (size_t)kp_shape_elements(&call->output.shape);
  char *free_scratch = call->scratch;
  const void *x = call->inputs[0].data;
  void *out = call->output.data;
  if (function == L2NORM) {
    float *squares = (float *)(void *)free_scratch;
    call->kernels->binary_f32[KP_MUL](squares, x, 1, x, 1, count);
    free_scratch += kp_scratch_bytes(count);
    x = squares;
  }
  for (int i = 0; i < reduction.count; i++) {
    const reduce_pass *pass = &reduction.passes[i];
    void *target = i + 1 < reduction.count ? free_scratch : out;
    run_pass(call, pass, x, target);
    free_scratch += kp_scratch_bytes(pass->outer * pass->inner);
    x = target;
  }
  float divisor = (float)reduction.divisor;
  if (function == MEAN) call->kernels->binary_f32[KP_DIV](out, out, 1, &divisor, 0, results);
  if (function == L2NORM) call->kernels->unary_f32[KP_SQRT](out, out, results);
  return KP_OK;
}

const kp_op kp_op_reduce = {
    .name = "reduce",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 3,
    .attributes =
        {{.name = "fn", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = functions, .required = true},
         {.name = "axes", .kind = KP_ATTR_INT, .min_count = 1, .max_count = KP_MAX_RANK, .required = true},
         {.name = "keepdim", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1}},
    .infer = infer,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .scratch = scratch,
    .run = run,
};

#include "ops/gemm.h"
#include "ops/shape.h"

enum { TRANSPOSE_A = 0, TRANSPOSE_B, ALPHA };

typedef struct matmul_run {
  const kp_op_call *call;
  size_t m, n, k, batch;
  bool transpose_a, transpose_b;
  float alpha;
  size_t row_step, row_tasks; /* the longer of a matrix's sides is shared out */
  size_t column_step, column_tasks;
} matmul_run;

static kp_shape leading(const kp_shape *shape) {
  kp_shape result = *shape;
  result.rank -= 2;
  return result;
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *a = &call->inputs[0], *b = &call->inputs[1];
  KP_TRY(kp_check_dtype("matmul", "a", a, KP_F32, error));
  KP_TRY(kp_check_dtype("matmul", "b", b, KP_F32, error));
  KP_TRY(kp_check_not_empty("matmul", "a", &a->shape, error));
  KP_TRY(kp_check_not_empty("matmul", "b", &b->shape, error));
  KP_TRY(kp_check_range("matmul", "transpose_a", &call->attributes[TRANSPOSE_A], 0, 1, error));
  KP_TRY(kp_check_range("matmul", "transpose_b", &call->attributes[TRANSPOSE_B], 0, 1, error));
  int32_t rank_a = a->shape.rank, rank_b = b->shape.rank;
  if (rank_a < 2 || rank_b < 2) {
    return kp_fail(error, KP_ERROR_MODEL, "matmul: expected operands of rank 2 or more, got shapes %s and %s",
                   kp_shape_format(&a->shape).text, kp_shape_format(&b->shape).text);
  }
  int64_t transpose_a = call->attributes[TRANSPOSE_A].i[0], transpose_b = call->attributes[TRANSPOSE_B].i[0];
  int64_t k_a = a->shape.dim[rank_a - (transpose_a ? 2 : 1)], k_b = b->shape.dim[rank_b - (transpose_b ? 1 : 2)];
  if (k_a != k_b) {
    return kp_fail(error, KP_ERROR_MODEL, "matmul: a contracts %lld elements, b %lld; shapes %s and %s", (long long)k_a,
                   (long long)k_b, kp_shape_format(&a->shape).text, kp_shape_format(&b->shape).text);
  }
  kp_shape result = leading(&a->shape), leading_b = leading(&b->shape);
  KP_TRY(kp_broadcast_shape("matmul", &leading_b, &result, error));
  result.dim[result.rank++] = a->shape.dim[rank_a - (transpose_a ? 1 : 2)];
  result.dim[result.rank++] = b->shape.dim[rank_b - (transpose_b ? 2 : 1)];
  KP_TRY(kp_check_elements("matmul", "an output", &result, error));
  call->output.dtype = KP_F32;
  call->output.shape = result;
  return KP_OK;
}

static matmul_run describe(const kp_op_call *call) {
  const kp_shape *a = &call->inputs[0].shape, *output = &call->output.shape;
  matmul_run run = {.call = call,
                    .transpose_a = call->attributes[TRANSPOSE_A].i[0] != 0,
                    .transpose_b = call->attributes[TRANSPOSE_B].i[0] != 0,
                    .alpha = (float)call->attributes[ALPHA].f[0]};
  run.m = (size_t)output->dim[output->rank - 2];
  run.n = (size_t)output->dim[output->rank - 1];
  run.k = (size_t)a->dim[a->rank - (run.transpose_a ? 2 : 1)];
  run.batch = (size_t)kp_shape_elements(output) / (run.m * run.n);
  size_t shares = kp_min_size((size_t)call->threads, run.m * run.n * run.k / KP_TASK_MACS + 1);
  if (run.batch >= 2 * shares) shares = 1;
  bool by_columns = run.n > run.m;
  run.row_step = by_columns ? run.m : kp_divide_up(run.m, shares);
  run.column_step = by_columns ? kp_min_size(run.n, kp_round_up(kp_divide_up(run.n, shares), 16)) : run.n;
  run.row_tasks = kp_divide_up(run.m, run.row_step);
  run.column_tasks = kp_divide_up(run.n, run.column_step);
  return run;
}

/* Matrices of a and b for matrix `batch` of the output. */
static void operands_of(const matmul_run *run, size_t batch, const float **a, const float **b) {
  const kp_shape *output = &run->call->output.shape;
  size_t index[2] = {0, 0}, stride[2] = {1, 1};
  for (int32_t i = 3; i <= output->rank; i++) {
    size_t dim = (size_t)output->dim[output->rank - i];
    size_t position = batch % dim;
    batch /= dim;
    for (int operand = 0; operand < 2; operand++) {
      const kp_shape *shape = &run->call->inputs[operand].shape;
      size_t own = i <= shape->rank ? (size_t)shape->dim[shape->rank - i] : 1;
      if (own > 1) index[operand] += position * stride[operand];
      stride[operand] *= own;
    }
  }
  *a = (const float *)run->call->inputs[0].data + index[0] * run->m * run->k;
  *b = (const float *)run->call->inputs[1].data + index[1] * run->k * run->n;
}

/* gemm_f32 takes b as (k, n). */
static bool transposes_b(const matmul_run *run) { return run->transpose_b && run->call->exact; }

static size_t left_scratch(const matmul_run *run) {
  return run->transpose_a ? kp_scratch_bytes(run->row_step * run->k) : 0;
}

static size_t thread_scratch(const matmul_run *run) {
  return left_scratch(run) + (transposes_b(run) ? kp_scratch_bytes(run->column_step * run->k) : 0);
}

static size_t scratch(const kp_op_call *call) {
  matmul_run run = describe(call);
  return (size_t)call->threads * thread_scratch(&run);
}

static uint64_t macs(const kp_op_call *call) {
  matmul_run run = describe(call);
  return (uint64_t)run.batch * run.m * run.n * run.k;
}

static void task(void *context, size_t index, int thread) {
  const matmul_run *run = context;
  const kp_op_call *call = run->call;
  size_t parts = run->row_tasks * run->column_tasks, batch = index / parts;
  kp_range rows = kp_task_range(run->m, run->row_step, index % parts / run->column_tasks);
  kp_range columns = kp_task_range(run->n, run->column_step, index % run->column_tasks);
  size_t m = rows.end - rows.begin, n = columns.end - columns.begin;
  const float *a, *b;
  operands_of(run, batch, &a, &b);
  char *scratch = (char *)call->scratch + (size_t)thread * thread_scratch(run);
  if (run->transpose_a) { /* a is (k, m) */
    uint32_t *transposed = (uint32_t *)(void *)scratch;
    call->kernels->transpose_32(transposed, run->k, (const uint32_t *)(a + rows.begin), run->m, run->k, m);
    a = (const float *)transposed;
  } else {
    a += rows.begin * run->k;
  }
  b += columns.begin * (run->transpose_b ? run->k : 1);
  size_t b_stride = run->transpose_b ? run->k : run->n;
  if (transposes_b(run)) {
    uint32_t *transposed = (uint32_t *)(void *)(scratch + left_scratch(run));
    call->kernels->transpose_32(transposed, n, (const uint32_t *)b, run->k, n, run->k);
    b = (const float *)transposed;
    b_stride = n;
  }
  float *c = (float *)call->output.data + (batch * run->m + rows.begin) * run->n + columns.begin;
  kp_gemm_f32(call, run->transpose_b && !call->exact, m, n, run->k, a, run->k, b, b_stride, c, run->n);
  if (run->alpha != 1.0f) {
    for (size_t row = 0; row < m; row++) {
      call->kernels->binary_f32[KP_MUL](c + row * run->n, c + row * run->n, 1, &run->alpha, 0, n);
    }
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  matmul_run run = describe(call);
  kp_pool_run(call->pool, run.batch * run.row_tasks * run.column_tasks, task, &run);
  return KP_OK;
}

const kp_op kp_op_matmul = {
    .name = "matmul",
    .min_inputs = 2,
    .max_inputs = 2,
    .attribute_count = 3,
    .attributes = {{.name = "transpose_a", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1},
                   {.name = "transpose_b", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1},
                   {.name = "alpha", .kind = KP_ATTR_FLOAT, .min_count = 1, .max_count = 1, .default_float = 1.0}},
    .infer = infer,
    .scratch = scratch,
    .macs = macs,
    .run = run,
};

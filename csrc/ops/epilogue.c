#include "ops/epilogue.h"

/* Half of a small second-level cache of today's cores (512 KiB). */
#define BLOCK_FLOATS ((size_t)1 << 16)

/* Columns go to tasks in whole vectors. */
#define COLUMN_STEP 16

const char *const kp_act_words[] = {"none", "relu", "relu6",     "hardswish",  "hardsigmoid", "sigmoid",
                                    "silu", "gelu", "gelu_tanh", "quick_gelu", "tanh",        NULL};

kp_status kp_epilogue_check(const char *op, const kp_op_call *call, int64_t channels, kp_error *error) {
  if (call->input_count > 2 && call->present[2]) {
    const kp_view *bias = &call->inputs[2];
    KP_TRY(kp_check_dtype(op, "bias", bias, KP_F32, error));
    KP_TRY(kp_check_rank(op, "bias", bias, 1, error));
    if (bias->shape.dim[0] != channels) {
      return kp_fail(error, KP_ERROR_MODEL, "%s: bias has %lld channels, the output %lld", op,
                     (long long)bias->shape.dim[0], (long long)channels);
    }
  }
  if (call->input_count > 3 && call->present[3]) {
    const kp_view *residual = &call->inputs[3];
    if (residual->dtype != KP_I8 || call->inputs[1].dtype != KP_I8) {
      KP_TRY(kp_check_dtype(op, "residual", residual, KP_F32, error));
    }
    if (!kp_shape_equal(&residual->shape, &call->output.shape)) {
      return kp_fail(error, KP_ERROR_MODEL, "%s: residual has shape %s, the output %s", op,
                     kp_shape_format(&residual->shape).text, kp_shape_format(&call->output.shape).text);
    }
  }
  return KP_OK;
}

size_t kp_block_rows(size_t rows, size_t row_floats, int threads) {
  size_t blocks = kp_divide_up(rows, kp_max_size(16, BLOCK_FLOATS / row_floats));
  size_t wanted = kp_round_up(blocks, (size_t)threads);
  return kp_min_size(rows, kp_round_up(kp_divide_up(rows, wanted), 8));
}

typedef struct dense_run {
  const kp_op_call *call;
  const kp_dense *dense;
  kp_gemm_weight weight;
  size_t row_step, column_step, column_tasks;
} dense_run;

static void dense_task(void *context, size_t task, int thread) {
  (void)thread;
  const dense_run *run = context;
  const kp_dense *dense = run->dense;
  kp_range rows = kp_task_range(dense->rows, run->row_step, task / run->column_tasks);
  kp_range columns = kp_task_range(dense->n, run->column_step, task % run->column_tasks);
  size_t m = rows.end - rows.begin, n = columns.end - columns.begin;
  size_t corner = rows.begin * dense->n + columns.begin;
  kp_gemm_f32(run->call, run->weight.transposed, m, n, dense->k, dense->x + rows.begin * dense->k, dense->k,
              kp_gemm_weight_columns(&run->weight, columns.begin), run->weight.stride, dense->y + corner, dense->n);
  run->call->kernels->epilogue_f32(dense->y + corner, dense->n, dense->bias ? dense->bias + columns.begin : NULL,
                                   dense->residual ? dense->residual + corner : NULL, dense->n, m, n, dense->act);
}

size_t kp_dense_scratch(const kp_op_call *call, size_t rows, size_t n, size_t k) {
  return kp_scratch_bytes(kp_gemm_prepare_scratch(call, rows, n, k));
}

void kp_dense_run(const kp_op_call *call, const kp_dense *dense) {
  dense_run run = {.call = call, .dense = dense};
  run.weight = kp_gemm_prepare(call, dense->rows, dense->n, dense->k, call->scratch);
  size_t shares = kp_min_size((size_t)call->threads, dense->rows * dense->n * dense->k / KP_TASK_MACS + 1);
  /* The longer side is shared out: the other operand is read by every task. */
  bool by_columns = dense->n > dense->rows;
  run.row_step = kp_block_rows(dense->rows, dense->k + dense->n, by_columns ? 1 : (int)shares);
  run.column_step =
      by_columns ? kp_min_size(dense->n, kp_round_up(kp_divide_up(dense->n, shares), COLUMN_STEP)) : dense->n;
  run.column_tasks = kp_divide_up(dense->n, run.column_step);
  kp_pool_run(call->pool, kp_divide_up(dense->rows, run.row_step) * run.column_tasks, dense_task, &run);
}

#include "ops/dense_i8.h"

#include <string.h>

#include "ops/epilogue.h"

/* ---- Checks ---- */

static bool has_i8_residual(const kp_op_call *call) {
  return call->input_count > 3 && call->present[3] && call->inputs[3].dtype == KP_I8;
}

kp_status kp_i8_check(const char *op, kp_op_call *call, int64_t channels, int64_t depth, int64_t out, kp_error *error) {
  const kp_view *weight = &call->inputs[1];
  KP_TRY(kp_check_dtype(op, "weight", weight, KP_I8, error));
  bool has_bias = call->input_count > 2 && call->present[2];
  if (!weight->is_weight || (has_bias && !call->inputs[2].is_weight)) {
    return kp_fail(error, KP_ERROR_MODEL, "%s: in int8 expected weight and bias from the file, got a computed %s", op,
                   weight->is_weight ? "bias" : "weight");
  }
  if (call->inputs[0].dtype == KP_I8) KP_TRY(kp_check_quantized(op, "x", &call->inputs[0], error));
  if (has_i8_residual(call)) KP_TRY(kp_check_quantized(op, "residual", &call->inputs[3], error));
  if (depth > KP_MAX_I8_DEPTH) {
    return kp_fail(error, KP_ERROR_MODEL, "%s: an output sums %lld products; in int8 at most %d", op, (long long)depth,
                   KP_MAX_I8_DEPTH);
  }
  call->output.dtype = out == KP_OUT_I8 ? KP_I8 : KP_F32;
  return kp_epilogue_check(op, call, channels, error);
}

/* ---- Constants ---- */

static size_t header_bytes(void) { return kp_round_up(sizeof(kp_i8_constants), 64); }

static size_t padded_bytes(size_t channels) { return kp_round_up(channels, KP_COLUMN_PAD) * sizeof(float); }

size_t kp_i8_constants_bytes(const kp_op_call *call, size_t in_channels, size_t channels) {
  size_t arrays = 3 + (call->output.dtype == KP_I8 ? 2 : 0) + (has_i8_residual(call) ? 2 : 0) +
                  (call->inputs[0].dtype == KP_F32 ? 1 : 0);
  /* A group's columns begin anywhere, and are readable to KP_COLUMN_PAD as well. */
  return header_bytes() + arrays * padded_bytes(channels) + KP_COLUMN_PAD * sizeof(float) +
         kp_round_up(in_channels, KP_COLUMN_PAD);
}

static void *take(char **memory, size_t bytes) {
  void *taken = *memory;
  *memory += bytes;
  return taken;
}

kp_i8_constants *kp_i8_constants_make(const kp_op_call *call, size_t in_channels, size_t channels, void *memory) {
  kp_i8_constants *constants = memory;
  char *next = (char *)memory + header_bytes();
  size_t bytes = padded_bytes(channels);
  *constants = (kp_i8_constants){.offset = take(&next, bytes), .scale = take(&next, bytes), .bias = take(&next, bytes)};
  memcpy(constants->scale, call->inputs[1].channel_scale, channels * sizeof(float));
  const float *bias = kp_optional_f32(call, 2);
  if (bias != NULL) memcpy(constants->bias, bias, channels * sizeof(float));
  if (call->inputs[0].dtype == KP_F32) constants->column_sum = take(&next, bytes);
  if (call->output.dtype == KP_I8) {
    constants->inverse = take(&next, bytes);
    constants->shift = take(&next, bytes);
    kp_set_quantizer(&call->output.quantization, channels, channels, constants->inverse, constants->shift);
  }
  if (has_i8_residual(call)) {
    const kp_quantization *residual = &call->inputs[3].quantization;
    constants->residual_zero = take(&next, bytes);
    constants->residual_scale = take(&next, bytes);
    for (size_t c = 0; c < channels; c++) {
      constants->residual_zero[c] = residual->zero_point[c];
      constants->residual_scale[c] = residual->scale[c];
    }
  }
  constants->padding = take(&next, in_channels);
  if (call->inputs[0].dtype == KP_I8) memcpy(constants->padding, call->inputs[0].quantization.zero_point, in_channels);
  return constants;
}

kp_epilogue_i8 kp_i8_epilogue(const kp_op_call *call, size_t channels, kp_act act, size_t row, size_t column) {
  const kp_i8_constants *constants = call->constants;
  size_t corner = row * channels + column;
  kp_epilogue_i8 epilogue = {.offset = constants->offset + column,
                             .scale = constants->scale + column,
                             .bias = constants->bias + column,
                             .act = act,
                             .dst_stride = channels};
  if (call->output.dtype == KP_I8) {
    epilogue.dst_i8 = (int8_t *)call->output.data + corner;
    epilogue.quantizer = (kp_quantizer){constants->inverse + column, constants->shift + column};
  } else {
    epilogue.dst_f32 = (float *)call->output.data + corner;
  }
  if (call->input_count > 3 && call->present[3]) {
    const kp_view *residual = &call->inputs[3];
    epilogue.residual_stride = channels;
    if (residual->dtype == KP_I8) {
      epilogue.residual_i8 = (const int8_t *)residual->data + corner;
      epilogue.residual_zero = constants->residual_zero + column;
      epilogue.residual_scale = constants->residual_scale + column;
    } else {
      epilogue.residual_f32 = (const float *)residual->data + corner;
    }
  }
  return epilogue;
}

/* ---- Packed weights ---- */

size_t kp_packed_column(const kp_gemm_i8 *gemm, size_t column, size_t taps, size_t depth) {
  return column * taps * kp_round_up(depth, gemm->kr);
}

size_t kp_packed_bytes(const kp_gemm_i8 *gemm, size_t n, size_t taps, size_t depth) {
  return kp_packed_column(gemm, kp_round_up(n, gemm->nr), taps, depth);
}

void kp_pack_i8(const kp_gemm_i8 *gemm, int8_t *packed, const int8_t *weight, size_t n, size_t taps, size_t depth) {
  size_t nr = gemm->nr, kr = gemm->kr, groups = kp_divide_up(depth, kr);
  for (size_t panel = 0; panel < n; panel += nr) {
    for (size_t tap = 0; tap < taps; tap++) {
      for (size_t group = 0; group < groups; group++) {
        size_t elements = kp_min_size(kr, depth - group * kr);
        for (size_t c = 0; c < nr; c++, packed += kr) {
          memset(packed, 0, kr);
          if (panel + c < n) memcpy(packed, weight + ((panel + c) * taps + tap) * depth + group * kr, elements);
        }
      }
    }
  }
}

/* sums[c] += the sum over k of (shift - zero_point[k]) * weight[c][k]. */
static void add_products(const kp_gemm_i8 *gemm, const int8_t *packed, int32_t shift, const int8_t *zero_point,
                         size_t n, size_t taps, size_t depth, int32_t *sums) {
  size_t nr = gemm->nr, kr = gemm->kr, groups = kp_divide_up(depth, kr);
  for (size_t panel = 0; panel < n; panel += nr) {
    size_t columns = kp_min_size(nr, n - panel);
    for (size_t tap = 0; tap < taps; tap++) {
      for (size_t group = 0; group < groups; group++, packed += nr * kr) {
        size_t elements = kp_min_size(kr, depth - group * kr);
        for (size_t k = 0; k < elements; k++) {
          int32_t factor = shift - zero_point[group * kr + k];
          for (size_t c = 0; c < columns; c++) sums[panel + c] += factor * packed[c * kr + k];
        }
      }
    }
  }
}

void kp_fold_zero_points(const kp_gemm_i8 *gemm, const int8_t *packed, const int8_t *zero_point, size_t n, size_t taps,
                         size_t depth, int32_t *offset) {
  add_products(gemm, packed, -(int32_t)gemm->a_shift, zero_point, n, taps, depth, offset);
}

/* ---- Products of rows ---- */

size_t kp_dense_i8_pack_bytes(const kp_op_call *call, const kp_dense_i8 *dense) {
  return kp_packed_bytes(&call->kernels->gemm_i8, dense->n, 1, dense->k);
}

void kp_dense_i8_set_constants(const kp_op_call *call, const kp_dense_i8 *dense, void *memory) {
  kp_i8_constants *constants = kp_i8_constants_make(call, dense->k, dense->n, memory);
  const kp_gemm_i8 *gemm = &call->kernels->gemm_i8;
  if (constants->column_sum == NULL) {
    kp_fold_zero_points(gemm, call->packed, constants->padding, dense->n, 1, dense->k, constants->offset);
    return;
  }
  add_products(gemm, call->packed, 1, constants->padding, dense->n, 1, dense->k, constants->column_sum);
  for (size_t c = 0; c < dense->n; c++) constants->offset[c] = -gemm->a_shift * constants->column_sum[c];
}

typedef struct dense_run {
  const kp_op_call *call;
  const kp_dense_i8 *dense;
  bool dynamic; /* rows are quantised as they come */
  size_t row_step, column_step, column_tasks;
  size_t row_bytes;    /* of a quantised row */
  size_t thread_bytes; /* of scratch */
} dense_run;

static dense_run plan_dense(const kp_op_call *call, const kp_dense_i8 *dense) {
  dense_run run = {.call = call, .dense = dense, .dynamic = call->inputs[0].dtype == KP_F32};
  size_t shares = kp_min_size((size_t)call->threads, dense->rows * dense->n * dense->k / KP_TASK_MACS + 1);
  /* The longer side is shared out: the other operand is read by every task. */
  bool by_columns = dense->n > 8 * dense->rows;
  size_t row_bytes = dense->k * kp_dtype_size(call->inputs[0].dtype) + dense->n * kp_dtype_size(call->output.dtype);
  run.row_step = kp_block_rows(dense->rows, kp_divide_up(row_bytes, sizeof(float)), by_columns ? 1 : (int)shares);
  run.column_step = dense->n;
  if (by_columns) run.column_step = kp_round_up(kp_divide_up(dense->n, shares), KP_COLUMN_PAD);
  run.column_tasks = kp_divide_up(dense->n, run.column_step);
  run.row_bytes = kp_round_up(dense->k, 64);
  if (run.dynamic) run.thread_bytes = run.row_step * run.row_bytes + 2 * kp_scratch_bytes(run.row_step);
  return run;
}

static void dense_task(void *context, size_t task, int thread) {
  const dense_run *run = context;
  const kp_op_call *call = run->call;
  const kp_dense_i8 *dense = run->dense;
  const kp_gemm_i8 *gemm = &call->kernels->gemm_i8;
  kp_range rows = kp_task_range(dense->rows, run->row_step, task / run->column_tasks);
  kp_range columns = kp_task_range(dense->n, run->column_step, task % run->column_tasks);
  kp_gemm_i8_args args = {
      .rows = rows.end - rows.begin,
      .columns = columns.end - columns.begin,
      .tap_count = 1,
      .depth = dense->k,
      .b = (const int8_t *)call->packed + kp_packed_column(gemm, columns.begin, 1, dense->k),
      .epilogue = kp_i8_epilogue(call, dense->n, dense->act, rows.begin, columns.begin),
  };
  if (run->dynamic) {
    char *scratch = (char *)call->scratch + (size_t)thread * run->thread_bytes;
    float *scales = (float *)(void *)scratch;
    int32_t *zero_points = (int32_t *)(void *)(scratch + kp_scratch_bytes(run->row_step));
    int8_t *quantized = (int8_t *)(scratch + 2 * kp_scratch_bytes(run->row_step));
    call->kernels->quantize_rows_i8(quantized, run->row_bytes, scales, zero_points,
                                    (const float *)call->inputs[0].data + rows.begin * dense->k, dense->k, args.rows,
                                    dense->k);
    args.a = quantized;
    args.a_stride = run->row_bytes;
    args.epilogue.row_scale = scales;
    args.epilogue.row_zero = zero_points;
    args.epilogue.column_sum = ((const kp_i8_constants *)call->constants)->column_sum + columns.begin;
  } else {
    args.a = (const int8_t *)call->inputs[0].data + rows.begin * dense->k;
    args.a_stride = dense->k;
  }
  gemm->run(&args);
}

size_t kp_dense_i8_scratch(const kp_op_call *call, const kp_dense_i8 *dense) {
  return (size_t)call->threads * plan_dense(call, dense).thread_bytes;
}

void kp_dense_i8_run(const kp_op_call *call, const kp_dense_i8 *dense) {
  dense_run run = plan_dense(call, dense);
  kp_pool_run(call->pool, kp_divide_up(dense->rows, run.row_step) * run.column_tasks, dense_task, &run);
}

#include <math.h>

#include "ops/shape.h"

enum {
  HEADS = 0,
  HEAD_DIM,
  SCALE,
  OFFSET_Q,
  OFFSET_K,
  OFFSET_V,
  HEAD_STRIDE_Q,
  HEAD_STRIDE_K,
  HEAD_STRIDE_V,
  CAUSAL,
  PRECISION
};

static const char *const precisions[] = {"f32", "i8", NULL};

/* Queries of a task whose mask is written out for it, (queries, keys). */
#define MASKED_QUERIES 64

static kp_status check_operand(const kp_op_call *call, int operand, kp_error *error) {
  static const char *const names[] = {"q", "k", "v"};
  const kp_view *x = &call->inputs[operand], *q = &call->inputs[0], *k = &call->inputs[1];
  KP_TRY(kp_check_dtype("attention", names[operand], x, KP_F32, error));
  KP_TRY(kp_check_rank("attention", names[operand], x, 3, error));
  KP_TRY(kp_check_not_empty("attention", names[operand], &x->shape, error));
  KP_TRY(kp_check_range("attention", "offset", &call->attributes[OFFSET_Q + operand], 0, KP_MAX_ELEMENTS, error));
  /* -1, the default, is head_dim */
  KP_TRY(kp_check_range("attention", "head_stride", &call->attributes[HEAD_STRIDE_Q + operand], -1, KP_MAX_ELEMENTS,
                        error));
  if (x->shape.dim[0] != q->shape.dim[0] || (operand == 2 && x->shape.dim[1] != k->shape.dim[1])) {
    return kp_fail(error, KP_ERROR_MODEL, "attention: %s has shape %s, %s has %s", names[operand],
                   kp_shape_format(&x->shape).text, names[operand == 2],
                   kp_shape_format(&call->inputs[operand == 2].shape).text);
  }
  int64_t heads = call->attributes[HEADS].i[0], head_dim = call->attributes[HEAD_DIM].i[0];
  int64_t offset = call->attributes[OFFSET_Q + operand].i[0], stride = call->attributes[HEAD_STRIDE_Q + operand].i[0];
  if (stride < 0) stride = head_dim;
  if (offset + (heads - 1) * stride + head_dim > x->shape.dim[2]) {
    return kp_fail(
        error, KP_ERROR_MODEL,
        "attention: %lld heads of %lld channels, %lld apart from %lld on, do not lie in the %lld channels of %s",
        (long long)heads, (long long)head_dim, (long long)stride, (long long)offset, (long long)x->shape.dim[2],
        names[operand]);
  }
  return KP_OK;
}

static bool has_mask(const kp_op_call *call) { return call->input_count > 3 && call->present[3]; }

static kp_status check_mask(const kp_op_call *call, kp_error *error) {
  const kp_view *mask = &call->inputs[3];
  if (mask->dtype != KP_BOOL) KP_TRY(kp_check_dtype("attention", "mask", mask, KP_F32, error));
  const int64_t full[4] = {call->inputs[0].shape.dim[0], call->attributes[HEADS].i[0], call->inputs[0].shape.dim[1],
                           call->inputs[1].shape.dim[1]};
  bool fits = mask->shape.rank <= 4;
  for (int32_t i = 1; fits && i <= mask->shape.rank; i++) {
    int64_t dim = mask->shape.dim[mask->shape.rank - i];
    fits = dim == 1 || dim == full[4 - i];
  }
  if (fits) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "attention: mask of shape %s does not broadcast to (%lld,%lld,%lld,%lld)",
                 kp_shape_format(&mask->shape).text, (long long)full[0], (long long)full[1], (long long)full[2],
                 (long long)full[3]);
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  KP_TRY(kp_check_range("attention", "heads", &call->attributes[HEADS], 1, KP_MAX_ELEMENTS, error));
  KP_TRY(kp_check_range("attention", "head_dim", &call->attributes[HEAD_DIM], 1, KP_MAX_ELEMENTS, error));
  KP_TRY(kp_check_range("attention", "causal", &call->attributes[CAUSAL], 0, 1, error));
  if (!isfinite((float)call->attributes[SCALE].f[0])) {
    return kp_fail(error, KP_ERROR_MODEL, "attention: expected a finite scale, got %g", call->attributes[SCALE].f[0]);
  }
  for (int operand = 0; operand < 3; operand++) KP_TRY(check_operand(call, operand, error));
  if (call->attributes[PRECISION].i[0] != 0 &&
      (call->attributes[HEAD_DIM].i[0] > KP_ATTENTION_I8_HEAD_DIM || call->inputs[1].shape.dim[1] > 65536 ||
       !(call->attributes[SCALE].f[0] >= 0))) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "attention: with precision=i8 expected head_dim up to %d, up to 65536 keys and a scale >= 0",
                   KP_ATTENTION_I8_HEAD_DIM);
  }
  if (has_mask(call)) KP_TRY(check_mask(call, error));
  call->output.dtype = KP_F32;
  call->output.shape = call->inputs[0].shape;
  call->output.shape.dim[2] = call->attributes[HEADS].i[0] * call->attributes[HEAD_DIM].i[0];
  return kp_check_elements("attention", "an output", &call->output.shape, error);
}

typedef struct attention_run {
  const kp_op_call *call;
  size_t batch, heads, queries, keys, head_dim;
  size_t channels[3], offset[3], head_stride[3];
  bool causal;
  const kp_view *mask;   /* NULL: none */
  size_t mask_stride[4]; /* over (batch, heads, queries, keys); 0 where it is broadcast */
  bool writes_mask;      /* the mask is not what the kernel takes, and is written out for each task */
  size_t query_step, query_tasks;
  bool i8;
  size_t kernel_bytes, thread_bytes; /* of a thread's scratch: the kernel's part first, then the mask */
} attention_run;

static attention_run describe(const kp_op_call *call) {
  const kp_attribute *attributes = call->attributes;
  attention_run run = {.call = call,
                       .batch = (size_t)call->inputs[0].shape.dim[0],
                       .heads = (size_t)attributes[HEADS].i[0],
                       .queries = (size_t)call->inputs[0].shape.dim[1],
                       .keys = (size_t)call->inputs[1].shape.dim[1],
                       .head_dim = (size_t)attributes[HEAD_DIM].i[0],
                       .causal = attributes[CAUSAL].i[0] != 0,
                       .i8 = attributes[PRECISION].i[0] != 0};
  for (int i = 0; i < 3; i++) {
    int64_t stride = attributes[HEAD_STRIDE_Q + i].i[0];
    run.channels[i] = (size_t)call->inputs[i].shape.dim[2];
    run.offset[i] = (size_t)attributes[OFFSET_Q + i].i[0];
    run.head_stride[i] = stride < 0 ? run.head_dim : (size_t)stride;
  }
  if (has_mask(call)) {
    run.mask = &call->inputs[3];
    size_t stride = 1;
    for (int32_t i = 1; i <= run.mask->shape.rank; i++) {
      size_t dim = (size_t)run.mask->shape.dim[run.mask->shape.rank - i];
      run.mask_stride[4 - i] = dim == 1 ? 0 : stride;
      stride *= dim;
    }
  }
  bool taken_as_it_is = run.mask != NULL && run.mask->dtype == KP_F32 && (run.mask_stride[3] == 1 || run.keys == 1);
  run.writes_mask = run.causal || (run.mask != NULL && !taken_as_it_is);
  bool row_for_each_query = run.causal || run.mask_stride[2] > 0;
  /* Heads are enough tasks for most; a query block shorter than it must be repeats the kernel's work on the keys. */
  size_t shares = kp_divide_up(2 * (size_t)call->threads, run.batch * run.heads);
  run.query_step = call->threads == 1 ? run.queries : kp_round_up(kp_divide_up(run.queries, shares), 16);
  if (run.writes_mask && row_for_each_query) run.query_step = kp_min_size(run.query_step, MASKED_QUERIES);
  run.query_step = kp_min_size(run.query_step, run.queries);
  run.query_tasks = kp_divide_up(run.queries, run.query_step);
  run.kernel_bytes = run.i8 ? kp_round_up(kp_attention_i8_scratch(run.keys, run.head_dim), 64)
                            : kp_scratch_bytes(kp_attention_f32_scratch(run.keys, run.head_dim));
  run.thread_bytes = run.kernel_bytes;
  if (run.writes_mask) run.thread_bytes += kp_scratch_bytes((row_for_each_query ? run.query_step : 1) * run.keys);
  return run;
}

static size_t scratch(const kp_op_call *call) { return (size_t)call->threads * describe(call).thread_bytes; }

static uint64_t macs(const kp_op_call *call) {
  attention_run run = describe(call);
  return 2 * (uint64_t)run.batch * run.heads * run.queries * run.keys * run.head_dim;
}

/* One row of the additive mask: what query `query` may attend to. */
static void write_mask_row(const attention_run *run, size_t first, size_t query, float *row) {
  size_t keys = run->keys, step = run->mask_stride[3];
  if (run->mask == NULL) {
    for (size_t j = 0; j < keys; j++) row[j] = 0.0f;
  } else if (run->mask->dtype == KP_BOOL) {
    const uint8_t *mask = (const uint8_t *)run->mask->data + first;
    for (size_t j = 0; j < keys; j++) row[j] = mask[j * step] ? 0.0f : -INFINITY;
  } else {
    const float *mask = (const float *)run->mask->data + first;
    for (size_t j = 0; j < keys; j++) row[j] = mask[j * step];
  }
  if (run->causal) { /* key j <= query + keys - queries */
    size_t attended = query + keys + 1 > run->queries ? query + keys + 1 - run->queries : 0;
    for (size_t j = attended; j < keys; j++) row[j] = -INFINITY;
  }
}

static void run_i8(const kp_op_call *call, const kp_attention_f32 *args) {
  const kp_attention_i8 quantized = {.q = args->q,
                                     .k = args->k,
                                     .v = args->v,
                                     .out = args->out,
                                     .q_stride = args->q_stride,
                                     .k_stride = args->k_stride,
                                     .v_stride = args->v_stride,
                                     .out_stride = args->out_stride,
                                     .queries = args->queries,
                                     .keys = args->keys,
                                     .head_dim = args->head_dim,
                                     .scale = args->scale,
                                     .mask = args->mask,
                                     .mask_stride = args->mask_stride,
                                     .scratch = args->scratch};
  call->kernels->attention_i8(&quantized);
}

static void task(void *context, size_t index, int thread) {
  const attention_run *run = context;
  const kp_op_call *call = run->call;
  size_t head = index / run->query_tasks % run->heads, batch = index / run->query_tasks / run->heads;
  kp_range queries = kp_task_range(run->queries, run->query_step, index % run->query_tasks);
  char *thread_scratch = (char *)call->scratch + (size_t)thread * run->thread_bytes;
  const float *operand[3];
  for (int i = 0; i < 3; i++) {
    size_t row = i == 0 ? batch * run->queries + queries.begin : batch * run->keys;
    operand[i] =
        (const float *)call->inputs[i].data + row * run->channels[i] + run->offset[i] + head * run->head_stride[i];
  }
  size_t out_stride = run->heads * run->head_dim;
  kp_attention_f32 args = {
      .q = operand[0],
      .k = operand[1],
      .v = operand[2],
      .out = (float *)call->output.data + (batch * run->queries + queries.begin) * out_stride + head * run->head_dim,
      .q_stride = run->channels[0],
      .k_stride = run->channels[1],
      .v_stride = run->channels[2],
      .out_stride = out_stride,
      .queries = queries.end - queries.begin,
      .keys = run->keys,
      .head_dim = run->head_dim,
      .scale = (float)call->attributes[SCALE].f[0],
      .scratch = (float *)(void *)thread_scratch,
  };
  size_t first = batch * run->mask_stride[0] + head * run->mask_stride[1] + queries.begin * run->mask_stride[2];
  if (run->writes_mask) {
    float *rows = (float *)(void *)(thread_scratch + run->kernel_bytes);
    args.mask = rows;
    args.mask_stride = run->causal || run->mask_stride[2] > 0 ? run->keys : 0;
    for (size_t i = 0; i < (args.mask_stride > 0 ? args.queries : 1); i++) {
      write_mask_row(run, first + i * run->mask_stride[2], queries.begin + i, rows + i * run->keys);
    }
  } else if (run->mask != NULL) {
    args.mask = (const float *)run->mask->data + first;
    args.mask_stride = run->mask_stride[2];
  }
  if (run->i8) {
    run_i8(call, &args);
  } else {
    call->kernels->attention_f32(&args);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  attention_run run = describe(call);
  kp_pool_run(call->pool, run.batch * run.heads * run.query_tasks, task, &run);
  return KP_OK;
}

const kp_op kp_op_attention = {
    .name = "attention",
    .min_inputs = 3,
    .max_inputs = 4,
    .attribute_count = 11,
    .attributes = {{.name = "heads", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true},
                   {.name = "head_dim", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true},
                   {.name = "scale", .kind = KP_ATTR_FLOAT, .min_count = 1, .max_count = 1, .required = true},
                   {.name = "q_offset", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1},
                   {.name = "k_offset", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1},
                   {.name = "v_offset", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1},
                   {.name = "q_head_stride", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .default_int = -1},
                   {.name = "k_head_stride", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .default_int = -1},
                   {.name = "v_head_stride", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .default_int = -1},
                   {.name = "causal", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1},
                   {.name = "precision", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = precisions}},
    .infer = infer,
    .scratch = scratch,
    .macs = macs,
    .run = run,
};

#include <string.h>

#include "ops/epilogue.h"

enum { STRIDE = 0, PAD, DILATION, GROUPS, ACT };

/* Output pixels of a depthwise task: their tap pointers stay in the first-level cache. */
#define DEPTHWISE_PIXELS 64

static bool is_depthwise(const kp_op_call *call) { return call->inputs[1].shape.rank == 3; }

/* Of strides, padding and dilation, so that positions times strides fit in 64 bits. */
#define MAX_STEP (1 << 20)

/* ---- Shapes ---- */

static kp_status check_weight(const kp_op_call *call, kp_error *error) {
  const kp_shape *x = &call->inputs[0].shape, *weight = &call->inputs[1].shape;
  int64_t channels = x->dim[3], groups = call->attributes[GROUPS].i[0];
  if (is_depthwise(call)) {
    if (groups < 2 || groups != channels || weight->dim[2] != channels) {
      return kp_fail(
          error, KP_ERROR_MODEL,
          "conv2d: a depthwise weight of shape %s expects as many groups and input channels, got %lld and %lld",
          kp_shape_format(weight).text, (long long)groups, (long long)channels);
    }
    return KP_OK;
  }
  KP_TRY(kp_check_rank("conv2d", "weight", &call->inputs[1], 4, error));
  if (channels % groups != 0 || weight->dim[0] % groups != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "conv2d: %lld groups do not divide %lld input and %lld output channels",
                   (long long)groups, (long long)channels, (long long)weight->dim[0]);
  }
  if (weight->dim[3] != channels / groups) {
    return kp_fail(error, KP_ERROR_MODEL, "conv2d: weight has %lld input channels, the input %lld in %lld group%s",
                   (long long)weight->dim[3], (long long)channels, (long long)groups, groups > 1 ? "s" : "");
  }
  if (groups > 1 && groups == channels && groups == weight->dim[0]) {
    return kp_fail(error, KP_ERROR_MODEL, "conv2d: expected a depthwise weight of shape (kh,kw,%lld), got %s",
                   (long long)channels, kp_shape_format(weight).text);
  }
  return KP_OK;
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0], *weight = &call->inputs[1];
  KP_TRY(kp_check_dtype("conv2d", "x", x, KP_F32, error));
  KP_TRY(kp_check_dtype("conv2d", "weight", weight, KP_F32, error));
  KP_TRY(kp_check_rank("conv2d", "x", x, 4, error));
  KP_TRY(kp_check_not_empty("conv2d", "x", &x->shape, error));
  KP_TRY(kp_check_not_empty("conv2d", "weight", &weight->shape, error));
  KP_TRY(kp_check_range("conv2d", "stride", &call->attributes[STRIDE], 1, MAX_STEP, error));
  KP_TRY(kp_check_range("conv2d", "pad", &call->attributes[PAD], 0, MAX_STEP, error));
  KP_TRY(kp_check_range("conv2d", "dilation", &call->attributes[DILATION], 1, MAX_STEP, error));
  KP_TRY(kp_check_range("conv2d", "groups", &call->attributes[GROUPS], 1, KP_MAX_ELEMENTS, error));
  KP_TRY(check_weight(call, error));
  const int64_t *pad = call->attributes[PAD].i, *kernel = weight->shape.dim + (is_depthwise(call) ? 0 : 1);
  kp_shape shape = {.rank = 4, .dim = {x->shape.dim[0]}};
  for (int axis = 0; axis < 2; axis++) {
    int64_t window = (kernel[axis] - 1) * call->attributes[DILATION].i[axis] + 1;
    int64_t padded = x->shape.dim[1 + axis] + pad[axis] + pad[axis + 2];
    if (window > padded) {
      return kp_fail(error, KP_ERROR_MODEL, "conv2d: a window of %lld does not fit the padded side of %lld",
                     (long long)window, (long long)padded);
    }
    shape.dim[1 + axis] = (padded - window) / call->attributes[STRIDE].i[axis] + 1;
  }
  shape.dim[3] = is_depthwise(call) ? x->shape.dim[3] : weight->shape.dim[0];
  call->output.dtype = KP_F32;
  call->output.shape = shape;
  KP_TRY(kp_check_elements("conv2d", "an output", &shape, error));
  if (is_depthwise(call) && call->input_count > 3 && call->present[3]) {
    return kp_fail(error, KP_ERROR_MODEL, "conv2d: expected no residual with a depthwise weight");
  }
  return kp_epilogue_check("conv2d", call, shape.dim[3], error);
}

typedef struct conv2d_run {
  const kp_op_call *call;
  int64_t height, width, channels, out_height, out_width, out_channels;
  int64_t kernel[2], stride[2], pad[2], dilation[2];
  size_t pixels; /* of the output, in all images */
  size_t groups, group_channels, group_outputs;
  size_t k;       /* elements of a window in one group */
  bool pointwise; /* a window is an input pixel, and windows follow each other as pixels do */
  size_t block_pixels;
  size_t shared_bytes, thread_bytes; /* of scratch */
  kp_gemm_weight weights;            /* of group 0; prepared where there is one group */
} conv2d_run;

static conv2d_run describe(const kp_op_call *call) {
  const kp_shape *x = &call->inputs[0].shape, *y = &call->output.shape, *weight = &call->inputs[1].shape;
  const int64_t *kernel = weight->dim + (is_depthwise(call) ? 0 : 1);
  conv2d_run run = {.call = call,
                    .height = x->dim[1],
                    .width = x->dim[2],
                    .channels = x->dim[3],
                    .out_height = y->dim[1],
                    .out_width = y->dim[2],
                    .out_channels = y->dim[3],
                    .pixels = (size_t)(y->dim[0] * y->dim[1] * y->dim[2]),
                    .groups = (size_t)call->attributes[GROUPS].i[0]};
  run.group_channels = (size_t)run.channels / run.groups;
  run.group_outputs = (size_t)run.out_channels / run.groups;
  bool unit = true;
  for (int axis = 0; axis < 2; axis++) {
    run.kernel[axis] = kernel[axis];
    run.stride[axis] = call->attributes[STRIDE].i[axis];
    run.pad[axis] = call->attributes[PAD].i[axis];
    run.dilation[axis] = call->attributes[DILATION].i[axis];
    unit = unit && kernel[axis] == 1 && run.stride[axis] == 1 && run.pad[axis] == 0 &&
           call->attributes[PAD].i[axis + 2] == 0;
  }
  run.pointwise = unit;
  size_t taps = (size_t)(run.kernel[0] * run.kernel[1]);
  run.k = taps * run.group_channels;
  if (is_depthwise(call)) {
    run.block_pixels = DEPTHWISE_PIXELS;
    run.shared_bytes = kp_scratch_bytes((size_t)run.channels) + kp_round_up(taps * sizeof(int64_t), 64);
    run.thread_bytes = kp_round_up(DEPTHWISE_PIXELS * taps * sizeof(float *), 64);
  } else {
    run.block_pixels = kp_block_rows(run.pixels, run.k + (size_t)run.out_channels, call->threads);
    if (run.groups == 1)
      run.shared_bytes = kp_scratch_bytes(kp_gemm_prepare_scratch(run.pixels, run.group_outputs, run.k));
    if (!run.pointwise) run.thread_bytes = kp_scratch_bytes(run.block_pixels * run.k);
  }
  return run;
}

static size_t scratch(const kp_op_call *call) {
  conv2d_run run = describe(call);
  if (run.pointwise && run.groups == 1) return kp_dense_scratch(run.pixels, run.group_outputs, run.k);
  return run.shared_bytes + (size_t)call->threads * run.thread_bytes;
}

static uint64_t macs(const kp_op_call *call) {
  conv2d_run run = describe(call);
  return (uint64_t)run.pixels * (uint64_t)run.out_channels * run.k;
}

/* ---- Windows ---- */

/* Where an output pixel's window begins: an image, and a pixel in it that may lie in the padding. */
typedef struct window {
  int64_t image, top, left, out_x, out_y;
} window;

static window window_at(const conv2d_run *run, size_t pixel) {
  window at = {.out_x = (int64_t)pixel % run->out_width,
               .out_y = (int64_t)pixel / run->out_width % run->out_height,
               .image = (int64_t)pixel / run->out_width / run->out_height};
  at.top = at.out_y * run->stride[0] - run->pad[0];
  at.left = at.out_x * run->stride[1] - run->pad[1];
  return at;
}

static void window_next(const conv2d_run *run, window *at) {
  at->left += run->stride[1];
  if (++at->out_x < run->out_width) return;
  at->out_x = 0;
  at->left = -run->pad[1];
  at->top += run->stride[0];
  if (++at->out_y < run->out_height) return;
  at->out_y = 0;
  at->top = -run->pad[0];
  at->image++;
}

static bool window_inside(const conv2d_run *run, const window *at) {
  return at->top >= 0 && at->left >= 0 && at->top + (run->kernel[0] - 1) * run->dilation[0] < run->height &&
         at->left + (run->kernel[1] - 1) * run->dilation[1] < run->width;
}

/* The input pixel (row, column) of an image, or NULL in the padding. */
static const float *input_pixel(const conv2d_run *run, int64_t image, int64_t row, int64_t column) {
  if (row < 0 || row >= run->height || column < 0 || column >= run->width) return NULL;
  return (const float *)run->call->inputs[0].data + ((image * run->height + row) * run->width + column) * run->channels;
}

/* ---- Depthwise ---- */

static void depthwise_task(void *context, size_t task, int thread) {
  const conv2d_run *run = context;
  const kp_op_call *call = run->call;
  char *shared = call->scratch;
  const float *zeros = (const float *)(const void *)shared;
  const int64_t *tap_offsets = (const int64_t *)(const void *)(shared + kp_scratch_bytes((size_t)run->channels));
  const float **taps = (const float **)(void *)(shared + run->shared_bytes + (size_t)thread * run->thread_bytes);
  size_t tap_count = (size_t)(run->kernel[0] * run->kernel[1]);
  kp_range pixels = kp_task_range(run->pixels, run->block_pixels, task);
  window at = window_at(run, pixels.begin);
  const float **tap = taps;
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++, window_next(run, &at)) {
    if (window_inside(run, &at)) {
      const float *first = input_pixel(run, at.image, at.top, at.left);
      for (size_t i = 0; i < tap_count; i++) tap[i] = first + tap_offsets[i];
      tap += tap_count;
      continue;
    }
    for (int64_t y = 0; y < run->kernel[0]; y++) {
      for (int64_t x = 0; x < run->kernel[1]; x++) {
        const float *in = input_pixel(run, at.image, at.top + y * run->dilation[0], at.left + x * run->dilation[1]);
        *tap++ = in != NULL ? in : zeros;
      }
    }
  }
  float *out = (float *)call->output.data + pixels.begin * (size_t)run->channels;
  call->kernels->depthwise_f32(out, taps, call->inputs[1].data, kp_optional_f32(call, 2), pixels.end - pixels.begin,
                               tap_count, (size_t)run->channels, (kp_act)call->attributes[ACT].i[0]);
}

static void run_depthwise(conv2d_run *run) {
  char *shared = run->call->scratch;
  memset(shared, 0, (size_t)run->channels * sizeof(float));
  int64_t *tap_offsets = (int64_t *)(void *)(shared + kp_scratch_bytes((size_t)run->channels));
  for (int64_t y = 0; y < run->kernel[0]; y++) {
    for (int64_t x = 0; x < run->kernel[1]; x++) {
      *tap_offsets++ = (y * run->dilation[0] * run->width + x * run->dilation[1]) * run->channels;
    }
  }
  kp_pool_run(run->call->pool, kp_divide_up(run->pixels, run->block_pixels), depthwise_task, run);
}

/* ---- Dense and grouped: im2col and a matrix product by blocks of output pixels ---- */

static void copy_floats(float *to, const float *from, size_t n) { memcpy(to, from, n * sizeof(float)); }

/* Windows of one group as rows of k floats, ordered as the weight's (kh, kw, channels). */
static void gather_windows(const conv2d_run *run, kp_range pixels, size_t group, float *rows) {
  size_t channels = run->group_channels, first = group * channels;
  bool contiguous = run->groups == 1 && run->dilation[1] == 1;
  window at = window_at(run, pixels.begin);
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++, window_next(run, &at)) {
    bool inside = contiguous && window_inside(run, &at);
    for (int64_t y = 0; y < run->kernel[0]; y++) {
      int64_t row = at.top + y * run->dilation[0];
      if (inside) {
        size_t floats = (size_t)run->kernel[1] * channels;
        copy_floats(rows, input_pixel(run, at.image, row, at.left), floats);
        rows += floats;
        continue;
      }
      for (int64_t x = 0; x < run->kernel[1]; x++, rows += channels) {
        const float *in = input_pixel(run, at.image, row, at.left + x * run->dilation[1]);
        if (in != NULL) {
          copy_floats(rows, in + first, channels);
        } else {
          memset(rows, 0, channels * sizeof(float));
        }
      }
    }
  }
}

static void block_task(void *context, size_t task, int thread) {
  const conv2d_run *run = context;
  const kp_op_call *call = run->call;
  kp_range pixels = kp_task_range(run->pixels, run->block_pixels, task);
  size_t m = pixels.end - pixels.begin, out_channels = (size_t)run->out_channels;
  size_t first = pixels.begin * out_channels;
  float *windows = (float *)(void *)((char *)call->scratch + run->shared_bytes + (size_t)thread * run->thread_bytes);
  float *out = (float *)call->output.data + first;
  for (size_t group = 0; group < run->groups; group++) {
    const float *a = windows;
    size_t a_stride = run->k;
    if (run->pointwise) {
      a = (const float *)call->inputs[0].data + pixels.begin * (size_t)run->channels + group * run->group_channels;
      a_stride = (size_t)run->channels;
    } else {
      gather_windows(run, pixels, group, windows);
    }
    const float *weights = kp_gemm_weight_columns(&run->weights, group * run->group_outputs);
    kp_gemm_f32(run->weights.transposed, m, run->group_outputs, run->k, a, a_stride, weights, run->weights.stride,
                out + group * run->group_outputs, out_channels);
  }
  const float *residual = kp_optional_f32(call, 3);
  call->kernels->epilogue_f32(out, out_channels, kp_optional_f32(call, 2), residual != NULL ? residual + first : NULL,
                              out_channels, m, out_channels, (kp_act)call->attributes[ACT].i[0]);
}

static void run_blocks(conv2d_run *run) {
  const kp_op_call *call = run->call;
  const float *w = call->inputs[1].data;
  if (run->groups == 1) {
    run->weights = kp_gemm_prepare(call->kernels, run->pixels, run->group_outputs, run->k, w, call->scratch);
  } else {
    run->weights = (kp_gemm_weight){.data = w, .stride = run->k, .transposed = true};
  }
  kp_pool_run(call->pool, kp_divide_up(run->pixels, run->block_pixels), block_task, run);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  conv2d_run run = describe(call);
  if (is_depthwise(call)) {
    run_depthwise(&run);
  } else if (run.pointwise && run.groups == 1) {
    const kp_dense dense = {.rows = run.pixels,
                            .n = run.group_outputs,
                            .k = run.k,
                            .x = call->inputs[0].data,
                            .w = call->inputs[1].data,
                            .bias = kp_optional_f32(call, 2),
                            .residual = kp_optional_f32(call, 3),
                            .y = call->output.data,
                            .act = (kp_act)call->attributes[ACT].i[0]};
    kp_dense_run(call, &dense);
  } else {
    run_blocks(&run);
  }
  return KP_OK;
}

const kp_op kp_op_conv2d = {
    .name = "conv2d",
    .min_inputs = 2,
    .max_inputs = 4,
    .attribute_count = 5,
    .attributes = {{.name = "stride", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .default_int = 1},
                   {.name = "pad", .kind = KP_ATTR_INT, .min_count = 4, .max_count = 4},
                   {.name = "dilation", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .default_int = 1},
                   {.name = "groups", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .default_int = 1},
                   {.name = "act", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_act_words}},
    .infer = infer,
    .scratch = scratch,
    .macs = macs,
    .run = run,
};

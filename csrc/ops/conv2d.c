#include <string.h>

#include "ops/conv2d.h"
#include "ops/dense_i8.h"
#include "ops/epilogue.h"

/* Output pixels of a depthwise task: their tap pointers stay in the first-level cache. */
#define DEPTHWISE_PIXELS 64

static bool is_depthwise(const kp_op_call *call) { return call->inputs[1].shape.rank == 3; }

/* Of strides, padding and dilation, so that positions times strides fit in 64 bits. */
#define MAX_STEP (1 << 20)

/* ---- Shapes ---- */

static kp_status check_weight(const kp_op_call *call, kp_error *error) {
  const kp_shape *x = &call->inputs[0].shape, *weight = &call->inputs[1].shape;
  int64_t channels = x->dim[3], groups = call->attributes[KP_CONV_GROUPS].i[0];
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

static bool is_i8(const kp_op_call *call) { return call->inputs[0].dtype == KP_I8 || call->inputs[1].dtype == KP_I8; }

static kp_status check_f32(kp_op_call *call, kp_error *error) {
  KP_TRY(kp_check_dtype("conv2d", "x", &call->inputs[0], KP_F32, error));
  KP_TRY(kp_check_dtype("conv2d", "weight", &call->inputs[1], KP_F32, error));
  if (is_depthwise(call) && call->input_count > 3 && call->present[3]) {
    return kp_fail(error, KP_ERROR_MODEL, "conv2d: expected no residual with a depthwise float weight");
  }
  if (call->attributes[KP_CONV_OUT].i[0] != KP_OUT_F32) {
    return kp_fail(error, KP_ERROR_MODEL, "conv2d: expected out=f32 with a float weight");
  }
  call->output.dtype = KP_F32;
  return kp_epilogue_check("conv2d", call, call->output.shape.dim[3], error);
}

static kp_status check_i8(kp_op_call *call, kp_error *error) {
  kp_conv2d conv = kp_conv2d_describe(call);
  if (call->inputs[0].dtype != KP_I8 && !(conv.pointwise && conv.groups == 1 && call->inputs[0].dtype == KP_F32)) {
    return kp_fail(
        error, KP_ERROR_MODEL,
        "conv2d: with an i8 weight expected x of dtype i8, or f32 for 1x1 without stride, padding or groups");
  }
  return kp_i8_check("conv2d", call, conv.out_channels, (int64_t)(conv.taps * conv.group_channels),
                     call->attributes[KP_CONV_OUT].i[0], error);
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0], *weight = &call->inputs[1];
  KP_TRY(kp_check_rank("conv2d", "x", x, 4, error));
  KP_TRY(kp_check_not_empty("conv2d", "x", &x->shape, error));
  KP_TRY(kp_check_not_empty("conv2d", "weight", &weight->shape, error));
  KP_TRY(kp_check_range("conv2d", "stride", &call->attributes[KP_CONV_STRIDE], 1, MAX_STEP, error));
  KP_TRY(kp_check_range("conv2d", "pad", &call->attributes[KP_CONV_PAD], 0, MAX_STEP, error));
  KP_TRY(kp_check_range("conv2d", "dilation", &call->attributes[KP_CONV_DILATION], 1, MAX_STEP, error));
  KP_TRY(kp_check_range("conv2d", "groups", &call->attributes[KP_CONV_GROUPS], 1, KP_MAX_ELEMENTS, error));
  KP_TRY(check_weight(call, error));
  const int64_t *pad = call->attributes[KP_CONV_PAD].i, *kernel = weight->shape.dim + (is_depthwise(call) ? 0 : 1);
  kp_shape shape = {.rank = 4, .dim = {x->shape.dim[0]}};
  for (int axis = 0; axis < 2; axis++) {
    int64_t window = (kernel[axis] - 1) * call->attributes[KP_CONV_DILATION].i[axis] + 1;
    int64_t padded = x->shape.dim[1 + axis] + pad[axis] + pad[axis + 2];
    if (window > padded) {
      return kp_fail(error, KP_ERROR_MODEL, "conv2d: a window of %lld does not fit the padded side of %lld",
                     (long long)window, (long long)padded);
    }
    shape.dim[1 + axis] = (padded - window) / call->attributes[KP_CONV_STRIDE].i[axis] + 1;
  }
  shape.dim[3] = is_depthwise(call) ? x->shape.dim[3] : weight->shape.dim[0];
  call->output.shape = shape;
  KP_TRY(kp_check_elements("conv2d", "an output", &shape, error));
  return is_i8(call) ? check_i8(call, error) : check_f32(call, error);
}

kp_conv2d kp_conv2d_describe(const kp_op_call *call) {
  const kp_shape *x = &call->inputs[0].shape, *y = &call->output.shape, *weight = &call->inputs[1].shape;
  const int64_t *kernel = weight->dim + (is_depthwise(call) ? 0 : 1), *pad = call->attributes[KP_CONV_PAD].i;
  kp_conv2d conv = {.call = call,
                    .height = x->dim[1],
                    .width = x->dim[2],
                    .channels = x->dim[3],
                    .out_height = y->dim[1],
                    .out_width = y->dim[2],
                    .out_channels = y->dim[3],
                    .pixels = (size_t)(y->dim[0] * y->dim[1] * y->dim[2]),
                    .groups = (size_t)call->attributes[KP_CONV_GROUPS].i[0],
                    .depthwise = is_depthwise(call),
                    .pointwise = true};
  conv.group_channels = (size_t)conv.channels / conv.groups;
  conv.group_outputs = (size_t)conv.out_channels / conv.groups;
  for (int axis = 0; axis < 2; axis++) {
    conv.kernel[axis] = kernel[axis];
    conv.stride[axis] = call->attributes[KP_CONV_STRIDE].i[axis];
    conv.pad[axis] = pad[axis];
    conv.dilation[axis] = call->attributes[KP_CONV_DILATION].i[axis];
    bool unit = kernel[axis] == 1 && conv.stride[axis] == 1 && pad[axis] == 0 && pad[axis + 2] == 0;
    conv.pointwise = conv.pointwise && unit;
  }
  conv.taps = (size_t)(conv.kernel[0] * conv.kernel[1]);
  return conv;
}

typedef struct conv2d_run {
  kp_conv2d conv;
  size_t k; /* elements of a window in one group */
  size_t block_pixels;
  size_t shared_bytes, thread_bytes; /* of scratch */
  kp_gemm_weight weights;            /* of group 0; prepared where there is one group */
} conv2d_run;

/* Rows that are multiplied with all of the weight: a group's part of it is too small to be transposed for its own. */
static size_t rows_of_a_weight(const kp_conv2d *conv) { return conv->groups == 1 ? conv->pixels : 0; }

static conv2d_run plan_conv(const kp_op_call *call) {
  conv2d_run run = {.conv = kp_conv2d_describe(call)};
  const kp_conv2d *conv = &run.conv;
  run.k = conv->taps * conv->group_channels;
  if (conv->depthwise) {
    run.block_pixels = DEPTHWISE_PIXELS;
    run.shared_bytes = kp_scratch_bytes((size_t)conv->channels) + kp_round_up(conv->taps * sizeof(int64_t), 64);
    run.thread_bytes = kp_round_up(DEPTHWISE_PIXELS * conv->taps * sizeof(float *), 64);
  } else {
    run.block_pixels = kp_block_rows(conv->pixels, run.k + (size_t)conv->out_channels, call->threads);
    run.shared_bytes =
        kp_scratch_bytes(kp_gemm_prepare_scratch(call, rows_of_a_weight(conv), (size_t)conv->out_channels, run.k));
    if (!conv->pointwise) run.thread_bytes = kp_scratch_bytes(run.block_pixels * run.k);
  }
  return run;
}

static kp_dense dense_of(const kp_conv2d *conv) {
  const kp_op_call *call = conv->call;
  return (kp_dense){.rows = conv->pixels,
                    .n = (size_t)conv->out_channels,
                    .k = (size_t)conv->channels,
                    .x = call->inputs[0].data,
                    .bias = kp_optional_f32(call, 2),
                    .residual = kp_optional_f32(call, 3),
                    .y = call->output.data,
                    .act = (kp_act)call->attributes[KP_CONV_ACT].i[0]};
}

static size_t scratch(const kp_op_call *call) {
  if (is_i8(call)) return kp_conv2d_i8_scratch(call);
  conv2d_run run = plan_conv(call);
  if (run.conv.pointwise && run.conv.groups == 1)
    return kp_dense_scratch(call, run.conv.pixels, run.conv.group_outputs, run.k);
  return run.shared_bytes + (size_t)call->threads * run.thread_bytes;
}

static uint64_t macs(const kp_op_call *call) {
  kp_conv2d conv = kp_conv2d_describe(call);
  return (uint64_t)conv.pixels * (uint64_t)conv.out_channels * conv.taps * conv.group_channels;
}

/* ---- Windows ---- */

void kp_tap_offsets(const kp_conv2d *conv, int64_t *offsets) {
  for (int64_t y = 0; y < conv->kernel[0]; y++) {
    for (int64_t x = 0; x < conv->kernel[1]; x++) {
      *offsets++ = (y * conv->dilation[0] * conv->width + x * conv->dilation[1]) * conv->channels;
    }
  }
}

/* The input pixel (row, column) of an image, or NULL in the padding. */
static const float *input_pixel(const kp_conv2d *conv, int64_t image, int64_t row, int64_t column) {
  int64_t index = kp_input_pixel(conv, image, row, column);
  return index >= 0 ? (const float *)conv->call->inputs[0].data + index : NULL;
}

/* ---- Depthwise ---- */

static void depthwise_task(void *context, size_t task, int thread) {
  const conv2d_run *run = context;
  const kp_conv2d *conv = &run->conv;
  const kp_op_call *call = conv->call;
  char *shared = call->scratch;
  const float *zeros = (const float *)(const void *)shared;
  const int64_t *tap_offsets = (const int64_t *)(const void *)(shared + kp_scratch_bytes((size_t)conv->channels));
  const float **taps = (const float **)(void *)(shared + run->shared_bytes + (size_t)thread * run->thread_bytes);
  size_t tap_count = conv->taps;
  kp_range pixels = kp_task_range(conv->pixels, run->block_pixels, task);
  kp_window at = kp_window_at(conv, pixels.begin);
  const float **tap = taps;
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++, kp_window_next(conv, &at)) {
    if (kp_window_inside(conv, &at)) {
      const float *first = input_pixel(conv, at.image, at.top, at.left);
      for (size_t i = 0; i < tap_count; i++) tap[i] = first + tap_offsets[i];
      tap += tap_count;
      continue;
    }
    for (int64_t y = 0; y < conv->kernel[0]; y++) {
      for (int64_t x = 0; x < conv->kernel[1]; x++) {
        const float *in = input_pixel(conv, at.image, at.top + y * conv->dilation[0], at.left + x * conv->dilation[1]);
        *tap++ = in != NULL ? in : zeros;
      }
    }
  }
  float *out = (float *)call->output.data + pixels.begin * (size_t)conv->channels;
  call->kernels->depthwise_f32(out, taps, call->inputs[1].data, kp_optional_f32(call, 2), pixels.end - pixels.begin,
                               tap_count, (size_t)conv->channels, (kp_act)call->attributes[KP_CONV_ACT].i[0]);
}

static void run_depthwise(conv2d_run *run) {
  const kp_conv2d *conv = &run->conv;
  char *shared = conv->call->scratch;
  memset(shared, 0, (size_t)conv->channels * sizeof(float));
  kp_tap_offsets(conv, (int64_t *)(void *)(shared + kp_scratch_bytes((size_t)conv->channels)));
  kp_pool_run(conv->call->pool, kp_divide_up(conv->pixels, run->block_pixels), depthwise_task, run);
}

/* ---- Dense and grouped: im2col and a matrix product by blocks of output pixels ---- */

static void copy_floats(float *to, const float *from, size_t n) { memcpy(to, from, n * sizeof(float)); }

/* Windows of one group as rows of k floats, ordered as the weight's (kh, kw, channels). */
static void gather_windows(const kp_conv2d *conv, kp_range pixels, size_t group, float *rows) {
  size_t channels = conv->group_channels, first = group * channels;
  bool contiguous = conv->groups == 1 && conv->dilation[1] == 1;
  kp_window at = kp_window_at(conv, pixels.begin);
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++, kp_window_next(conv, &at)) {
    bool inside = contiguous && kp_window_inside(conv, &at);
    for (int64_t y = 0; y < conv->kernel[0]; y++) {
      int64_t row = at.top + y * conv->dilation[0];
      if (inside) {
        size_t floats = (size_t)conv->kernel[1] * channels;
        copy_floats(rows, input_pixel(conv, at.image, row, at.left), floats);
        rows += floats;
        continue;
      }
      for (int64_t x = 0; x < conv->kernel[1]; x++, rows += channels) {
        const float *in = input_pixel(conv, at.image, row, at.left + x * conv->dilation[1]);
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
  const kp_conv2d *conv = &run->conv;
  const kp_op_call *call = conv->call;
  kp_range pixels = kp_task_range(conv->pixels, run->block_pixels, task);
  size_t m = pixels.end - pixels.begin, out_channels = (size_t)conv->out_channels;
  size_t first = pixels.begin * out_channels;
  float *windows = (float *)(void *)((char *)call->scratch + run->shared_bytes + (size_t)thread * run->thread_bytes);
  float *out = (float *)call->output.data + first;
  for (size_t group = 0; group < conv->groups; group++) {
    const float *a = windows;
    size_t a_stride = run->k;
    if (conv->pointwise) {
      a = (const float *)call->inputs[0].data + pixels.begin * (size_t)conv->channels + group * conv->group_channels;
      a_stride = (size_t)conv->channels;
    } else {
      gather_windows(conv, pixels, group, windows);
    }
    const float *weights = kp_gemm_weight_columns(&run->weights, group * conv->group_outputs);
    kp_gemm_f32(call, run->weights.transposed, m, conv->group_outputs, run->k, a, a_stride, weights,
                run->weights.stride, out + group * conv->group_outputs, out_channels);
  }
  const float *residual = kp_optional_f32(call, 3);
  call->kernels->epilogue_f32(out, out_channels, kp_optional_f32(call, 2), residual != NULL ? residual + first : NULL,
                              out_channels, m, out_channels, (kp_act)call->attributes[KP_CONV_ACT].i[0]);
}

static void run_blocks(conv2d_run *run) {
  const kp_conv2d *conv = &run->conv;
  const kp_op_call *call = conv->call;
  run->weights = kp_gemm_prepare(call, rows_of_a_weight(conv), (size_t)conv->out_channels, run->k, call->scratch);
  kp_pool_run(call->pool, kp_divide_up(conv->pixels, run->block_pixels), block_task, run);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  if (is_i8(call)) {
    kp_conv2d_i8_run(call);
    return KP_OK;
  }
  conv2d_run run = plan_conv(call);
  if (run.conv.depthwise) {
    run_depthwise(&run);
  } else if (run.conv.pointwise && run.conv.groups == 1) {
    kp_dense dense = dense_of(&run.conv);
    kp_dense_run(call, &dense);
  } else {
    run_blocks(&run);
  }
  return KP_OK;
}

/* ---- Packed weights ---- */

static size_t pack_bytes(const kp_op_call *call) {
  if (is_i8(call)) return kp_conv2d_i8_pack_bytes(call);
  kp_conv2d conv = kp_conv2d_describe(call);
  return conv.depthwise ? 0 : kp_gemm_pack_bytes(call, (size_t)conv.out_channels, conv.taps * conv.group_channels);
}

static void pack(const kp_op_call *call, void *packed) {
  if (is_i8(call)) {
    kp_conv2d_i8_pack(call, packed);
    return;
  }
  kp_conv2d conv = kp_conv2d_describe(call);
  kp_gemm_pack(call, (size_t)conv.out_channels, conv.taps * conv.group_channels, packed);
}

static size_t constants_bytes(const kp_op_call *call) { return is_i8(call) ? kp_conv2d_i8_constants_bytes(call) : 0; }

static void set_constants(const kp_op_call *call, void *constants) { kp_conv2d_i8_set_constants(call, constants); }

const kp_op kp_op_conv2d = {
    .name = "conv2d",
    .min_inputs = 2,
    .max_inputs = 4,
    .attribute_count = 6,
    .attributes = {{.name = "stride", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .default_int = 1},
                   {.name = "pad", .kind = KP_ATTR_INT, .min_count = 4, .max_count = 4},
                   {.name = "dilation", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .default_int = 1},
                   {.name = "groups", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .default_int = 1},
                   {.name = "act", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_act_words},
                   {.name = "out", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_out_words}},
    .infer = infer,
    .pack_bytes = pack_bytes,
    .pack = pack,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .scratch = scratch,
    .macs = macs,
    .run = run,
};

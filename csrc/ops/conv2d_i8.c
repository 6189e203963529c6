#include <string.h>

#include "ops/conv2d.h"
#include "ops/dense_i8.h"

/* Output pixels of a task: their tap pointers stay in the first-level cache. */
#define TAPPED_PIXELS 128

/* What is copied at once of a gathered window's lines, whose buffer has as many bytes to spare. */
#define COPIED_BYTES 16

/* Fewer channels than this are gathered into rows: a tap's would not fill a kernel's step. */
#define GATHERED_CHANNELS 16

static const kp_gemm_i8 *gemm_of(const kp_op_call *call) { return &call->kernels->gemm_i8; }

static kp_act act_of(const kp_op_call *call) { return (kp_act)call->attributes[KP_CONV_ACT].i[0]; }

static kp_dense_i8 dense_of(const kp_conv2d *conv) {
  return (kp_dense_i8){
      .rows = conv->pixels, .n = (size_t)conv->out_channels, .k = (size_t)conv->channels, .act = act_of(conv->call)};
}

static bool is_dense(const kp_conv2d *conv) { return conv->pointwise && conv->groups == 1; }

static bool is_gathered(const kp_conv2d *conv) {
  return !conv->depthwise && conv->groups == 1 && conv->group_channels < GATHERED_CHANNELS;
}

/* The weight of one group as the matrix product takes it. */
typedef struct product {
  size_t taps, depth;
} window_product;

static window_product product_of(const kp_conv2d *conv) {
  if (is_gathered(conv)) return (window_product){1, conv->taps * conv->group_channels};
  return (window_product){conv->taps, conv->group_channels};
}

/* ---- Weights and constants ---- */

static size_t depthwise_stride(const kp_conv2d *conv) { return kp_round_up((size_t)conv->channels, KP_COLUMN_PAD); }

static size_t group_bytes(const kp_conv2d *conv) {
  window_product product = product_of(conv);
  return kp_packed_bytes(gemm_of(conv->call), conv->group_outputs, product.taps, product.depth);
}

size_t kp_conv2d_i8_pack_bytes(const kp_op_call *call) {
  kp_conv2d conv = kp_conv2d_describe(call);
  if (conv.depthwise) return conv.taps * depthwise_stride(&conv);
  return conv.groups * group_bytes(&conv);
}

void kp_conv2d_i8_pack(const kp_op_call *call, void *packed) {
  kp_conv2d conv = kp_conv2d_describe(call);
  const int8_t *weight = call->inputs[1].data;
  if (conv.depthwise) {
    size_t channels = (size_t)conv.channels, stride = depthwise_stride(&conv);
    for (size_t t = 0; t < conv.taps; t++) memcpy((int8_t *)packed + t * stride, weight + t * channels, channels);
    return;
  }
  window_product product = product_of(&conv);
  for (size_t g = 0; g < conv.groups; g++) {
    kp_pack_i8(gemm_of(call), (int8_t *)packed + g * group_bytes(&conv),
               weight + g * conv.group_outputs * product.taps * product.depth, conv.group_outputs, product.taps,
               product.depth);
  }
}

size_t kp_conv2d_i8_constants_bytes(const kp_op_call *call) {
  kp_conv2d conv = kp_conv2d_describe(call);
  return kp_i8_constants_bytes(call, (size_t)conv.channels, (size_t)conv.out_channels) +
         (is_gathered(&conv) ? conv.taps * conv.group_channels : 0);
}

void kp_conv2d_i8_set_constants(const kp_op_call *call, void *memory) {
  kp_conv2d conv = kp_conv2d_describe(call);
  if (is_dense(&conv)) {
    kp_dense_i8 dense = dense_of(&conv);
    kp_dense_i8_set_constants(call, &dense, memory);
    return;
  }
  size_t channels = (size_t)conv.channels;
  kp_i8_constants *constants = kp_i8_constants_make(call, channels, (size_t)conv.out_channels, memory);
  const int8_t *packed = call->packed;
  if (conv.depthwise) {
    for (size_t t = 0; t < conv.taps; t++) {
      for (size_t c = 0; c < channels; c++) {
        constants->offset[c] -= constants->padding[c] * packed[t * depthwise_stride(&conv) + c];
      }
    }
    return;
  }
  window_product product = product_of(&conv);
  if (is_gathered(&conv)) { /* the zero points of a whole window */
    for (size_t t = 1; t < conv.taps; t++) memcpy(constants->padding + t * channels, constants->padding, channels);
  }
  for (size_t g = 0; g < conv.groups; g++) {
    kp_fold_zero_points(gemm_of(call), packed + g * group_bytes(&conv), constants->padding + g * conv.group_channels,
                        conv.group_outputs, product.taps, product.depth, constants->offset + g * conv.group_outputs);
  }
}

/* ---- Runs ---- */

typedef struct conv_run {
  kp_conv2d conv;
  size_t block_pixels, row_bytes; /* row_bytes: of a gathered window */
  size_t shared_bytes, thread_bytes;
} conv_run;

static conv_run plan_conv(const kp_op_call *call) {
  conv_run run = {.conv = kp_conv2d_describe(call), .block_pixels = TAPPED_PIXELS};
  const kp_conv2d *conv = &run.conv;
  size_t shares = kp_divide_up(conv->pixels, (size_t)call->threads);
  run.block_pixels = kp_min_size(TAPPED_PIXELS, kp_round_up(shares, 8));
  if (is_gathered(conv)) {
    run.row_bytes = kp_round_up(product_of(conv).depth, 16);
    run.thread_bytes = kp_round_up(run.block_pixels * run.row_bytes + COPIED_BYTES, 64);
  } else {
    run.shared_bytes = kp_round_up(conv->taps * sizeof(int64_t), 64);
    run.thread_bytes = kp_round_up(run.block_pixels * conv->taps * sizeof(int8_t *), 64);
  }
  return run;
}

size_t kp_conv2d_i8_scratch(const kp_op_call *call) {
  kp_conv2d conv = kp_conv2d_describe(call);
  if (is_dense(&conv)) {
    kp_dense_i8 dense = dense_of(&conv);
    return kp_dense_i8_scratch(call, &dense);
  }
  conv_run run = plan_conv(call);
  return run.shared_bytes + (size_t)call->threads * run.thread_bytes;
}

/* Pointers to the inputs of each pixel's window, from channel `first` on; in the padding, to its zero points. */
static void point_at_windows(const conv_run *run, kp_range pixels, size_t first, const int8_t **taps) {
  const kp_conv2d *conv = &run->conv;
  const int64_t *offsets = conv->call->scratch;
  const int8_t *x = (const int8_t *)conv->call->inputs[0].data + first;
  const int8_t *padding = ((const kp_i8_constants *)conv->call->constants)->padding + first;
  kp_window at = kp_window_at(conv, pixels.begin);
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++, kp_window_next(conv, &at)) {
    if (kp_window_inside(conv, &at)) {
      const int8_t *corner = x + kp_input_pixel(conv, at.image, at.top, at.left);
      for (size_t t = 0; t < conv->taps; t++) *taps++ = corner + offsets[t];
      continue;
    }
    for (int64_t i = 0; i < conv->kernel[0]; i++) {
      for (int64_t j = 0; j < conv->kernel[1]; j++) {
        int64_t input = kp_input_pixel(conv, at.image, at.top + i * conv->dilation[0], at.left + j * conv->dilation[1]);
        *taps++ = input >= 0 ? x + input : padding;
      }
    }
  }
}

/* Copies n bytes; where there are enough to read, a fixed number, of which those beyond n do not matter: a call of memcpy
 * for nine bytes takes longer than the whole window's product. */
static void copy_bytes(int8_t *to, const int8_t *from, size_t n, const int8_t *end) {
  if (n <= COPIED_BYTES && end - from >= COPIED_BYTES) {
    memcpy(to, from, COPIED_BYTES);
  } else {
    memcpy(to, from, n);
  }
}

/* Each pixel's window as a row, ordered as the weight's (kh, kw, channels). */
static void gather_windows(const conv_run *run, kp_range pixels, int8_t *rows) {
  const kp_conv2d *conv = &run->conv;
  const int8_t *x = conv->call->inputs[0].data;
  const int8_t *padding = ((const kp_i8_constants *)conv->call->constants)->padding;
  size_t channels = (size_t)conv->channels, line = (size_t)conv->kernel[1] * channels;
  const int8_t *end = x + kp_shape_elements(&conv->call->inputs[0].shape);
  bool contiguous = conv->dilation[1] == 1;
  kp_window at = kp_window_at(conv, pixels.begin);
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++, kp_window_next(conv, &at), rows += run->row_bytes) {
    bool inside = contiguous && kp_window_inside(conv, &at);
    int8_t *out = rows;
    for (int64_t i = 0; i < conv->kernel[0]; i++) {
      int64_t row = at.top + i * conv->dilation[0];
      if (inside) {
        copy_bytes(out, x + kp_input_pixel(conv, at.image, row, at.left), line, end);
        out += line;
        continue;
      }
      for (int64_t j = 0; j < conv->kernel[1]; j++, out += channels) {
        int64_t input = kp_input_pixel(conv, at.image, row, at.left + j * conv->dilation[1]);
        memcpy(out, input >= 0 ? x + input : padding, channels);
      }
    }
  }
}

static void conv_task(void *context, size_t task, int thread) {
  const conv_run *run = context;
  const kp_conv2d *conv = &run->conv;
  const kp_op_call *call = conv->call;
  size_t channels = (size_t)conv->out_channels;
  kp_range pixels = kp_task_range(conv->pixels, run->block_pixels, task);
  void *scratch = (char *)call->scratch + run->shared_bytes + (size_t)thread * run->thread_bytes;
  if (conv->depthwise) {
    point_at_windows(run, pixels, 0, scratch);
    const kp_depthwise_i8_args args = {.pixels = pixels.end - pixels.begin,
                                       .tap_count = conv->taps,
                                       .channels = channels,
                                       .taps = scratch,
                                       .weights = call->packed,
                                       .weight_stride = depthwise_stride(conv),
                                       .epilogue = kp_i8_epilogue(call, channels, act_of(call), pixels.begin, 0)};
    call->kernels->depthwise_i8(&args);
    return;
  }
  window_product product = product_of(conv);
  for (size_t g = 0; g < conv->groups; g++) {
    kp_gemm_i8_args args = {
        .rows = pixels.end - pixels.begin,
        .columns = conv->group_outputs,
        .tap_count = product.taps,
        .depth = product.depth,
        .b = (const int8_t *)call->packed + g * group_bytes(conv),
        .epilogue = kp_i8_epilogue(call, channels, act_of(call), pixels.begin, g * conv->group_outputs),
    };
    if (is_gathered(conv)) {
      gather_windows(run, pixels, scratch);
      args.a = scratch;
      args.a_stride = run->row_bytes;
    } else {
      point_at_windows(run, pixels, g * conv->group_channels, scratch);
      args.taps = scratch;
    }
    gemm_of(call)->run(&args);
  }
}

void kp_conv2d_i8_run(const kp_op_call *call) {
  kp_conv2d conv = kp_conv2d_describe(call);
  if (is_dense(&conv)) {
    kp_dense_i8 dense = dense_of(&conv);
    kp_dense_i8_run(call, &dense);
    return;
  }
  conv_run run = plan_conv(call);
  if (run.shared_bytes > 0) kp_tap_offsets(&run.conv, call->scratch);
  kp_pool_run(call->pool, kp_divide_up(conv.pixels, run.block_pixels), conv_task, &run);
}

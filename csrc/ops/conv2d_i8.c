#include <string.h>

#include "ops/conv2d.h"
#include "ops/dense_i8.h"

/* Output pixels of a task: their tap pointers stay in the first-level cache. Those of a depthwise convolution are few.
 */
#define TAPPED_PIXELS 128
#define DEPTHWISE_PIXELS 256

/* With fewer channels than this a line of a window, its taps beside each other, is a tap of the product: one tap of the
 * window would not fill a kernel's step. */
#define LINE_CHANNELS 16

static const kp_gemm_i8 *gemm_of(const kp_op_call *call) { return &call->kernels->gemm_i8; }

static kp_act act_of(const kp_op_call *call) { return (kp_act)call->attributes[KP_CONV_ACT].i[0]; }

static kp_dense_i8 dense_of(const kp_conv2d *conv) {
  return (kp_dense_i8){
      .rows = conv->pixels, .n = (size_t)conv->out_channels, .k = (size_t)conv->channels, .act = act_of(conv->call)};
}

static bool is_dense(const kp_conv2d *conv) { return conv->pointwise && conv->groups == 1; }

static bool is_by_lines(const kp_conv2d *conv) {
  return !conv->depthwise && conv->groups == 1 && conv->group_channels < LINE_CHANNELS;
}

/* The weight of one group as the matrix product takes it. */
typedef struct window_product {
  size_t taps, depth;
} window_product;

static window_product product_of(const kp_conv2d *conv) {
  if (is_by_lines(conv)) {
    return (window_product){(size_t)conv->kernel[0], (size_t)conv->kernel[1] * conv->group_channels};
  }
  return (window_product){conv->taps, conv->group_channels};
}

/* Bytes that a kernel reads of a line: whole groups, since what is added meets zeros in the packed weight. */
static size_t line_depth(const kp_conv2d *conv) { return kp_round_up(product_of(conv).depth, gemm_of(conv->call)->kr); }

/* From one line that is copied to the next; a plan is made before the kernels are known. */
static size_t copied_line_bytes(const kp_conv2d *conv) {
  return kp_round_up(product_of(conv).depth, KP_MAX_GEMM_I8_KR);
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
    for (int64_t t = 0; t < (int64_t)conv.taps; t++) { /* by column of the window */
      int64_t column = t / conv.kernel[0], row = t % conv.kernel[0];
      memcpy((int8_t *)packed + (size_t)t * stride, weight + (size_t)(row * conv.kernel[1] + column) * channels,
             channels);
    }
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
         (is_by_lines(&conv) ? product_of(&conv).depth : 0);
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
  if (is_by_lines(&conv)) {
    for (size_t i = channels; i < product.depth; i++) constants->padding[i] = constants->padding[i - channels];
  }
  for (size_t g = 0; g < conv.groups; g++) {
    kp_fold_zero_points(gemm_of(call), packed + g * group_bytes(&conv), constants->padding + g * conv.group_channels,
                        conv.group_outputs, product.taps, product.depth, constants->offset + g * conv.group_outputs);
  }
}

/* ---- Runs ---- */

typedef struct conv_run {
  kp_conv2d conv;
  size_t block_pixels;
  size_t shared_bytes, thread_bytes, taps_bytes; /* taps_bytes: of thread_bytes, before the lines that are copied */
  /* Depthwise: a task is `row_step` rows of output pixels, or a part of one, `width` pixels long. */
  size_t rows, row_step, width, parts;
  size_t columns, pixel_columns; /* of taps, for a row of a task; from a pixel to the next */
} conv_run;

static void plan_depthwise(conv_run *run) {
  const kp_conv2d *conv = &run->conv;
  const size_t threads = (size_t)conv->call->threads, out_width = (size_t)conv->out_width;
  run->rows = conv->pixels / out_width;
  run->width = kp_divide_up(out_width, kp_divide_up(out_width, DEPTHWISE_PIXELS));
  run->parts = kp_divide_up(out_width, run->width);
  size_t most_rows = run->parts > 1 ? 1 : DEPTHWISE_PIXELS / run->width;
  run->row_step = kp_divide_up(run->rows, kp_round_up(kp_divide_up(run->rows, most_rows), threads));
  size_t stride = (size_t)conv->stride[1], width = (size_t)conv->kernel[1];
  bool shared = conv->dilation[1] == 1 && stride < width; /* pixels side by side share columns */
  run->pixel_columns = shared ? stride : width;
  run->columns = (run->width - 1) * run->pixel_columns + width;
  run->thread_bytes = kp_round_up(run->row_step * run->columns * (size_t)conv->kernel[0] * sizeof(int8_t *), 64);
}

static conv_run plan_conv(const kp_op_call *call) {
  conv_run run = {.conv = kp_conv2d_describe(call)};
  const kp_conv2d *conv = &run.conv;
  if (conv->depthwise) {
    plan_depthwise(&run);
    return run;
  }
  size_t shares = kp_divide_up(conv->pixels, (size_t)call->threads);
  run.block_pixels = kp_min_size(TAPPED_PIXELS, kp_round_up(shares, 8));
  run.taps_bytes = kp_round_up(run.block_pixels * product_of(conv).taps * sizeof(int8_t *), 64);
  run.thread_bytes = run.taps_bytes;
  if (is_by_lines(conv)) {
    run.thread_bytes += kp_round_up(run.block_pixels * product_of(conv).taps * copied_line_bytes(conv), 64);
  } else {
    run.shared_bytes = kp_round_up(conv->taps * sizeof(int64_t), 64);
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

/* `count` pointers, `step` apart, to the pixels of a line from column `left` on that lie `dilation` apart; in the
 * padding, to its zero points. */
static void point_at_line(const kp_conv2d *conv, const int8_t *line, const int8_t *padding, int64_t left,
                          int64_t dilation, size_t count, size_t step, const int8_t **taps) {
  size_t j = 0;
  for (; j < count && left < 0; j++, left += dilation) taps[j * step] = padding;
  const int8_t *pixel = line + left * conv->channels;
  for (; j < count && left < conv->width; j++, left += dilation, pixel += dilation * conv->channels) {
    taps[j * step] = pixel;
  }
  for (; j < count; j++) taps[j * step] = padding;
}

/* The taps of `width` output pixels of row `row` of all images, from pixel `first` on, by column of their windows. */
static void point_at_columns(const conv_run *run, size_t row, size_t first, size_t width, const int8_t **taps) {
  const kp_conv2d *conv = &run->conv;
  const int8_t *padding = ((const kp_i8_constants *)conv->call->constants)->padding;
  size_t height = (size_t)conv->kernel[0], window = (size_t)conv->kernel[1];
  size_t columns = (width - 1) * run->pixel_columns + window;
  kp_window at = kp_window_at(conv, row * (size_t)conv->out_width + first);
  for (size_t i = 0; i < height; i++) {
    int64_t top = at.top + (int64_t)i * conv->dilation[0];
    if (top < 0 || top >= conv->height) {
      for (size_t j = 0; j < columns; j++) taps[j * height + i] = padding;
      continue;
    }
    const int8_t *line = (const int8_t *)conv->call->inputs[0].data + kp_input_pixel(conv, at.image, top, 0);
    if (run->pixel_columns < window) {
      point_at_line(conv, line, padding, at.left, 1, columns, height, taps + i);
      continue;
    }
    for (size_t x = 0; x < width; x++) {
      point_at_line(conv, line, padding, at.left + (int64_t)x * conv->stride[1], conv->dilation[1], window, height,
                    taps + x * window * height + i);
    }
  }
}

static void depthwise_task(void *context, size_t task, int thread) {
  const conv_run *run = context;
  const kp_conv2d *conv = &run->conv;
  const kp_op_call *call = conv->call;
  size_t channels = (size_t)conv->channels, out_width = (size_t)conv->out_width, height = (size_t)conv->kernel[0];
  kp_range rows = kp_task_range(run->rows, run->row_step, task / run->parts);
  kp_range pixels = kp_task_range(out_width, run->width, task % run->parts);
  kp_depthwise_i8_args args = {
      .rows = rows.end - rows.begin,
      .width = pixels.end - pixels.begin,
      .tap_count = conv->taps,
      .channels = channels,
      .pixel_step = run->pixel_columns * height,
      .row_step = run->columns * height,
      .weights = call->packed,
      .weight_stride = depthwise_stride(conv),
      .epilogue = kp_i8_epilogue(call, channels, act_of(call), rows.begin * out_width + pixels.begin, 0),
  };
  const int8_t **taps = (void *)((char *)call->scratch + (size_t)thread * run->thread_bytes);
  for (size_t row = 0; row < args.rows; row++) {
    point_at_columns(run, rows.begin + row, pixels.begin, args.width, taps + row * args.row_step);
  }
  args.taps = taps;
  call->kernels->depthwise_i8(&args);
}

/* The lines of a window that does not lie in the picture, or not in one piece, or so near to its end that a kernel would
 * read beyond: copies. */
static void copy_lines(const kp_conv2d *conv, const kp_window *at, const int8_t **taps, int8_t *copies) {
  const int8_t *x = conv->call->inputs[0].data;
  const int8_t *padding = ((const kp_i8_constants *)conv->call->constants)->padding;
  size_t channels = (size_t)conv->channels;
  for (int64_t i = 0; i < conv->kernel[0]; i++, copies += copied_line_bytes(conv)) {
    taps[i] = copies;
    for (int64_t j = 0; j < conv->kernel[1]; j++) {
      int64_t input =
          kp_input_pixel(conv, at->image, at->top + i * conv->dilation[0], at->left + j * conv->dilation[1]);
      memcpy(copies + (size_t)j * channels, input >= 0 ? x + input : padding, channels);
    }
  }
}

/* Pointers to the lines of each pixel's window. */
static void point_at_lines(const conv_run *run, kp_range pixels, const int8_t **taps, int8_t *copies) {
  const kp_conv2d *conv = &run->conv;
  const int8_t *x = conv->call->inputs[0].data;
  size_t height = (size_t)conv->kernel[0], step = (size_t)(conv->width * conv->channels * conv->dilation[0]);
  size_t window_bytes = height * copied_line_bytes(conv), pixel_step = (size_t)(conv->stride[1] * conv->channels);
  int64_t reach = (int64_t)((height - 1) * step + line_depth(conv)); /* from a window's corner */
  int64_t elements = kp_shape_elements(&conv->call->inputs[0].shape);
  kp_window at = kp_window_at(conv, pixels.begin);
  for (size_t pixel = pixels.begin; pixel < pixels.end;) {
    int64_t corner = ((at.image * conv->height + at.top) * conv->width + at.left) * conv->channels;
    if (conv->dilation[1] != 1 || !kp_window_inside(conv, &at) || corner + reach > elements) {
      copy_lines(conv, &at, taps, copies);
      copies += window_bytes;
      taps += height;
      pixel++;
      kp_window_next(conv, &at);
      continue;
    }
    /* This window and those after it in its row that lie inside as well. */
    int64_t inside = (conv->width - conv->kernel[1] - at.left) / conv->stride[1] + 1;
    int64_t readable = (elements - reach - corner) / (int64_t)pixel_step + 1;
    size_t count = kp_min_size((size_t)(inside < readable ? inside : readable), pixels.end - pixel);
    for (size_t i = 0; i < height; i++) {
      const int8_t *line = x + corner + i * step;
      for (size_t j = 0; j < count; j++) taps[j * height + i] = line + j * pixel_step;
    }
    taps += count * height;
    pixel += count;
    at.left += (int64_t)count * conv->stride[1];
    at.out_x += (int64_t)count;
    if (at.out_x == conv->out_width) at = kp_window_at(conv, pixel);
  }
}

static void conv_task(void *context, size_t task, int thread) {
  const conv_run *run = context;
  const kp_conv2d *conv = &run->conv;
  const kp_op_call *call = conv->call;
  size_t channels = (size_t)conv->out_channels;
  kp_range pixels = kp_task_range(conv->pixels, run->block_pixels, task);
  void *scratch = (char *)call->scratch + run->shared_bytes + (size_t)thread * run->thread_bytes;
  window_product product = product_of(conv);
  for (size_t g = 0; g < conv->groups; g++) {
    kp_gemm_i8_args args = {
        .rows = pixels.end - pixels.begin,
        .columns = conv->group_outputs,
        .taps = scratch,
        .tap_count = product.taps,
        .depth = product.depth,
        .b = (const int8_t *)call->packed + g * group_bytes(conv),
        .epilogue = kp_i8_epilogue(call, channels, act_of(call), pixels.begin, g * conv->group_outputs),
    };
    if (is_by_lines(conv)) {
      args.depth = line_depth(conv);
      point_at_lines(run, pixels, scratch, (int8_t *)scratch + run->taps_bytes);
    } else {
      point_at_windows(run, pixels, g * conv->group_channels, scratch);
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
  if (conv.depthwise) {
    kp_pool_run(call->pool, kp_divide_up(run.rows, run.row_step) * run.parts, depthwise_task, &run);
    return;
  }
  if (run.shared_bytes > 0) kp_tap_offsets(&run.conv, call->scratch);
  kp_pool_run(call->pool, kp_divide_up(conv.pixels, run.block_pixels), conv_task, &run);
}

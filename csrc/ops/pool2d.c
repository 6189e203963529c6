#include "ops/quantized.h"

static const char *const functions[] = {"average", "max", NULL};
enum { AVERAGE = 0, MAX };
enum { FUNCTION = 0, KERNEL, STRIDE, PAD, COUNT_INCLUDE_PAD, OUT };

/* Output pixels of a task. */
#define BLOCK_PIXELS 64

static kp_status check_dtypes(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  bool quantizes = call->attributes[OUT].i[0] == KP_OUT_I8, average = call->attributes[FUNCTION].i[0] == AVERAGE;
  if (quantizes && (x->dtype != KP_I8 || !average)) {
    return kp_fail(error, KP_ERROR_MODEL, "pool2d: out=i8 is for averages of i8");
  }
  call->output.dtype = x->dtype == KP_I8 && average && !quantizes ? KP_F32 : x->dtype;
  if (x->dtype != KP_I8) return KP_OK;
  int64_t taps = call->attributes[KERNEL].i[0] * call->attributes[KERNEL].i[1];
  if (taps > KP_MAX_SUM_TAPS) {
    return kp_fail(error, KP_ERROR_MODEL, "pool2d: of i8 expected a kernel of at most %d elements, got %lld",
                   KP_MAX_SUM_TAPS, (long long)taps);
  }
  if (average) return kp_check_quantized("pool2d", "x", x, error);
  return kp_check_same_quantization("pool2d", x, &call->output, 0, error);
}

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  const int64_t *kernel = call->attributes[KERNEL].i, *stride = call->attributes[STRIDE].i,
                *pad = call->attributes[PAD].i;
  if (x->dtype != KP_I8) KP_TRY(kp_check_dtype("pool2d", "x", x, KP_F32, error));
  KP_TRY(kp_check_rank("pool2d", "x", x, 4, error));
  KP_TRY(kp_check_not_empty("pool2d", "x", &x->shape, error));
  KP_TRY(kp_check_range("pool2d", "kernel", &call->attributes[KERNEL], 1, 1 << 12, error));
  KP_TRY(kp_check_range("pool2d", "stride", &call->attributes[STRIDE], 1, KP_MAX_ELEMENTS, error));
  KP_TRY(kp_check_range("pool2d", "pad", &call->attributes[PAD], 0, 1 << 12, error));
  KP_TRY(kp_check_range("pool2d", "count_include_pad", &call->attributes[COUNT_INCLUDE_PAD], 0, 1, error));
  call->output.shape = x->shape;
  for (int axis = 0; axis < 2; axis++) {
    int64_t before = pad[axis], after = pad[axis + 2], side = x->shape.dim[1 + axis];
    if (before >= kernel[axis] || after >= kernel[axis]) { /* else a window might hold no pixel */
      return kp_fail(error, KP_ERROR_MODEL, "pool2d: expected padding below the kernel's %lld, got %lld and %lld",
                     (long long)kernel[axis], (long long)before, (long long)after);
    }
    if (side + before + after < kernel[axis]) {
      return kp_fail(error, KP_ERROR_MODEL, "pool2d: a kernel of %lld does not fit the padded side of %lld",
                     (long long)kernel[axis], (long long)(side + before + after));
    }
    call->output.shape.dim[1 + axis] = (side + before + after - kernel[axis]) / stride[axis] + 1;
  }
  KP_TRY(kp_check_elements("pool2d", "an output", &call->output.shape, error));
  return check_dtypes(call, error);
}

typedef struct pool2d_run {
  const kp_op_call *call;
  int64_t height, width, channels, out_height, out_width;
  int64_t kernel[2], stride[2], pad[2];
  size_t pixels, taps_bytes, thread_bytes; /* of a thread's scratch: taps, then sums and averages of i8 */
} pool2d_run;

static pool2d_run describe(const kp_op_call *call) {
  const kp_shape *x = &call->inputs[0].shape, *y = &call->output.shape;
  pool2d_run run = {.call = call,
                    .height = x->dim[1],
                    .width = x->dim[2],
                    .channels = x->dim[3],
                    .out_height = y->dim[1],
                    .out_width = y->dim[2],
                    .pixels = (size_t)(y->dim[0] * y->dim[1] * y->dim[2])};
  for (int axis = 0; axis < 2; axis++) {
    run.kernel[axis] = call->attributes[KERNEL].i[axis];
    run.stride[axis] = call->attributes[STRIDE].i[axis];
    run.pad[axis] = call->attributes[PAD].i[axis];
  }
  int64_t rows = run.kernel[0] < run.height ? run.kernel[0] : run.height;
  int64_t columns = run.kernel[1] < run.width ? run.kernel[1] : run.width;
  run.taps_bytes = kp_round_up(BLOCK_PIXELS * (size_t)(rows * columns) * sizeof(void *), 64);
  run.thread_bytes = run.taps_bytes;
  if (call->inputs[0].dtype == KP_I8) run.thread_bytes += 2 * kp_scratch_bytes(BLOCK_PIXELS * (size_t)run.channels);
  return run;
}

static size_t scratch(const kp_op_call *call) { return (size_t)call->threads * describe(call).thread_bytes; }

/* Pointers to the pixels in the window of output pixel `pixel`, those of the padding left out. Returns how many. */
static size_t window_taps(const pool2d_run *run, size_t pixel, const void **taps) {
  int64_t out_x = (int64_t)pixel % run->out_width, out_y = (int64_t)pixel / run->out_width % run->out_height;
  int64_t image = (int64_t)pixel / run->out_width / run->out_height;
  int64_t top = out_y * run->stride[0] - run->pad[0], left = out_x * run->stride[1] - run->pad[1];
  int64_t bottom = top + run->kernel[0] < run->height ? top + run->kernel[0] : run->height;
  int64_t right = left + run->kernel[1] < run->width ? left + run->kernel[1] : run->width;
  const char *x = run->call->inputs[0].data;
  size_t pixel_bytes = (size_t)run->channels * kp_dtype_size(run->call->inputs[0].dtype);
  size_t count = 0;
  for (int64_t row = top > 0 ? top : 0; row < bottom; row++) {
    for (int64_t column = left > 0 ? left : 0; column < right; column++) {
      taps[count++] = x + (size_t)((image * run->height + row) * run->width + column) * pixel_bytes;
    }
  }
  return count;
}

/* ((float)(sum - tap_count * zero_point) * scale) / divisor. */
static void average_i8(const pool2d_run *run, size_t first, const int8_t *const *taps, size_t pixels, size_t tap_count,
                       float divisor, void *buffers) {
  const kp_op_call *call = run->call;
  const kp_channels *x = call->constants;
  size_t channels = (size_t)run->channels;
  int32_t *sums = buffers;
  float *averages = (float *)(void *)((char *)buffers + kp_scratch_bytes(BLOCK_PIXELS * channels));
  bool quantizes = call->output.dtype == KP_I8;
  if (!quantizes) averages = (float *)call->output.data + first * channels;
  call->kernels->sum_taps_i8(sums, taps, pixels, tap_count, channels);
  for (size_t p = 0; p < pixels; p++) {
    for (size_t c = 0; c < channels; c++) {
      int32_t sum = sums[p * channels + c] - (int32_t)tap_count * x->zero_point[c];
      averages[p * channels + c] = (float)sum * x->scale[c] / divisor;
    }
  }
  if (!quantizes) return;
  const kp_quantizer quantizer = kp_channels_quantizer(x + 1);
  call->kernels->quantize_i8((int8_t *)call->output.data + first * channels, averages, pixels, channels, &quantizer);
}

static void pool_pixels(const pool2d_run *run, size_t first, const void **taps, size_t pixels, size_t tap_count,
                        void *buffers) {
  const kp_op_call *call = run->call;
  size_t channels = (size_t)run->channels;
  bool whole = call->attributes[COUNT_INCLUDE_PAD].i[0] != 0, max = call->attributes[FUNCTION].i[0] == MAX;
  float divisor = whole ? (float)(run->kernel[0] * run->kernel[1]) : (float)tap_count;
  if (call->inputs[0].dtype == KP_I8) {
    const int8_t *const *bytes = (const int8_t *const *)taps;
    if (max) {
      call->kernels->max_taps_i8((int8_t *)call->output.data + first * channels, bytes, pixels, tap_count, channels);
    } else {
      average_i8(run, first, bytes, pixels, tap_count, divisor, buffers);
    }
    return;
  }
  const float *const *floats = (const float *const *)taps;
  float *out = (float *)call->output.data + first * channels;
  if (max) {
    call->kernels->max_pool_f32(out, floats, pixels, tap_count, channels);
  } else {
    call->kernels->average_pool_f32(out, floats, pixels, tap_count, channels, divisor);
  }
}

static void task(void *context, size_t index, int thread) {
  const pool2d_run *run = context;
  kp_range pixels = kp_task_range(run->pixels, BLOCK_PIXELS, index);
  char *scratch = (char *)run->call->scratch + (size_t)thread * run->thread_bytes;
  const void **taps = (const void **)(void *)scratch;
  void *buffers = scratch + run->taps_bytes;
  /* Runs of pixels with as many taps go to the kernel together. */
  size_t first = pixels.begin, tap_count = 0, used = 0;
  for (size_t pixel = pixels.begin; pixel < pixels.end; pixel++) {
    size_t count = window_taps(run, pixel, taps + used);
    if (count != tap_count && pixel > first) {
      pool_pixels(run, first, taps, pixel - first, tap_count, buffers);
      for (size_t i = 0; i < count; i++) taps[i] = taps[used + i];
      first = pixel;
      used = 0;
    }
    tap_count = count;
    used += count;
  }
  pool_pixels(run, first, taps, pixels.end - first, tap_count, buffers);
}

static size_t constants_bytes(const kp_op_call *call) {
  return kp_channels_bytes((const kp_view *const[]){&call->inputs[0], &call->output}, 2, 1);
}

static void set_constants(const kp_op_call *call, void *constants) {
  kp_channels_make((const kp_view *const[]){&call->inputs[0], &call->output}, 2, 1, constants);
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  pool2d_run run = describe(call);
  kp_pool_run(call->pool, kp_divide_up(run.pixels, BLOCK_PIXELS), task, &run);
  return KP_OK;
}

const kp_op kp_op_pool2d = {
    .name = "pool2d",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 6,
    .attributes =
        {{.name = "fn", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = functions, .required = true},
         {.name = "kernel", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .required = true},
         {.name = "stride", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .required = true},
         {.name = "pad", .kind = KP_ATTR_INT, .min_count = 4, .max_count = 4},
         {.name = "count_include_pad", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .default_int = 1},
         {.name = "out", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_out_words}},
    .infer = infer,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .scratch = scratch,
    .run = run,
};

#include <math.h>
#include <string.h>

#include "ops/quantized.h"

static const char *const functions[] = {"nearest", "bilinear", NULL};
enum { NEAREST = 0, BILINEAR };
enum { FUNCTION = 0, SIZE };

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  bool quantized = x->dtype == KP_I8 && call->attributes[FUNCTION].i[0] == NEAREST;
  if (!quantized) KP_TRY(kp_check_dtype("resize2d", "x", x, KP_F32, error));
  KP_TRY(kp_check_rank("resize2d", "x", x, 4, error));
  KP_TRY(kp_check_not_empty("resize2d", "x", &x->shape, error));
  KP_TRY(kp_check_range("resize2d", "size", &call->attributes[SIZE], 1, KP_MAX_ELEMENTS, error));
  call->output.dtype = x->dtype;
  call->output.shape = x->shape;
  call->output.shape.dim[1] = call->attributes[SIZE].i[0];
  call->output.shape.dim[2] = call->attributes[SIZE].i[1];
  if (quantized) KP_TRY(kp_check_same_quantization("resize2d", x, &call->output, 0, error));
  return kp_check_elements("resize2d", "an output", &call->output.shape, error);
}

/* The input nearest to output position `position`, as PyTorch has it. */
static int64_t nearest_of(int64_t position, int64_t length, int64_t out_length) {
  float scale = (float)length / (float)out_length;
  int64_t source = (int64_t)floorf((float)position * scale);
  return source < length ? source : length - 1;
}

/* Where output position `position` lies among `length` inputs: the neighbours and the second one's weight, in PyTorch's
 * float arithmetic, aten/src/ATen/native/UpSample.h. */
typedef struct neighbours {
  int64_t first, second;
  float weight;
} neighbours;

static neighbours bilinear_of(int64_t position, int64_t length, int64_t out_length) {
  float scale = (float)length / (float)out_length;
  float source = scale * ((float)position + 0.5f) - 0.5f;
  if (source < 0.0f) source = 0.0f;
  int64_t first = (int64_t)source;
  if (first > length - 1) first = length - 1;
  float weight = source - (float)first;
  return (neighbours){.first = first, .second = first + (first < length - 1), .weight = weight < 1.0f ? weight : 1.0f};
}

/* One row of the output. */
static void bilinear_task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  const kp_shape *x = &call->inputs[0].shape, *y = &call->output.shape;
  int64_t image = (int64_t)index / y->dim[1], row = (int64_t)index % y->dim[1];
  size_t channels = (size_t)x->dim[3], row_floats = (size_t)x->dim[2] * channels;
  neighbours vertical = bilinear_of(row, x->dim[1], y->dim[1]);
  const float *picture = (const float *)call->inputs[0].data + (size_t)(image * x->dim[1]) * row_floats;
  const float *upper = picture + (size_t)vertical.first * row_floats;
  const float *lower = picture + (size_t)vertical.second * row_floats;
  float *out = (float *)call->output.data + index * (size_t)y->dim[2] * channels;
  for (int64_t column = 0; column < y->dim[2]; column++, out += channels) {
    neighbours horizontal = bilinear_of(column, x->dim[2], y->dim[2]);
    size_t left = (size_t)horizontal.first * channels, right = (size_t)horizontal.second * channels;
    call->kernels->bilinear_f32(out, upper + left, upper + right, lower + left, lower + right, horizontal.weight,
                                vertical.weight, channels);
  }
}

/* The same; pixels of any dtype are moved unchanged. */
static void nearest_task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  const kp_shape *x = &call->inputs[0].shape, *y = &call->output.shape;
  int64_t image = (int64_t)index / y->dim[1], row = (int64_t)index % y->dim[1];
  size_t pixel = (size_t)x->dim[3] * kp_dtype_size(call->output.dtype);
  int64_t source = image * x->dim[1] + nearest_of(row, x->dim[1], y->dim[1]);
  const char *from = (const char *)call->inputs[0].data + (size_t)(source * x->dim[2]) * pixel;
  char *out = (char *)call->output.data + index * (size_t)y->dim[2] * pixel;
  for (int64_t column = 0; column < y->dim[2]; column++, out += pixel) {
    memcpy(out, from + (size_t)nearest_of(column, x->dim[2], y->dim[2]) * pixel, pixel);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_op_call local = *call;
  kp_task_fn task = call->attributes[FUNCTION].i[0] == BILINEAR ? bilinear_task : nearest_task;
  kp_pool_run(call->pool, (size_t)(call->output.shape.dim[0] * call->output.shape.dim[1]), task, &local);
  return KP_OK;
}

const kp_op kp_op_resize2d = {
    .name = "resize2d",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 2,
    .attributes =
        {{.name = "fn", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = functions, .required = true},
         {.name = "size", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .required = true}},
    .infer = infer,
    .run = run,
};

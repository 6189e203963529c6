#include <string.h>

#include "ops/quantized.h"

enum { AXIS = 0, BATCH };

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0], *index = &call->inputs[1];
  KP_TRY(kp_check_dtype("gather", "index", index, KP_I32, error));
  KP_TRY(kp_check_elements("gather", "x", &x->shape, error));
  KP_TRY(kp_check_elements("gather", "index", &index->shape, error));
  KP_TRY(kp_check_range("gather", "axis", &call->attributes[AXIS], 0, (int64_t)x->shape.rank - 1, error));
  int64_t axis = call->attributes[AXIS].i[0];
  KP_TRY(kp_check_range("gather", "batch", &call->attributes[BATCH], 0, axis, error));
  int64_t batch = call->attributes[BATCH].i[0];
  bool fits = batch <= index->shape.rank && x->shape.rank - 1 + index->shape.rank - batch <= KP_MAX_RANK;
  for (int32_t i = 0; fits && i < batch; i++) fits = x->shape.dim[i] == index->shape.dim[i];
  if (!fits) {
    return kp_fail(error, KP_ERROR_MODEL, "gather: index of shape %s does not fit x of shape %s with batch %lld",
                   kp_shape_format(&index->shape).text, kp_shape_format(&x->shape).text, (long long)batch);
  }
  kp_shape shape = {.rank = 0};
  for (int32_t i = 0; i < axis; i++) shape.dim[shape.rank++] = x->shape.dim[i];
  for (int32_t i = (int32_t)batch; i < index->shape.rank; i++) shape.dim[shape.rank++] = index->shape.dim[i];
  for (int32_t i = (int32_t)axis + 1; i < x->shape.rank; i++) shape.dim[shape.rank++] = x->shape.dim[i];
  call->output.dtype = x->dtype;
  call->output.shape = shape;
  KP_TRY(kp_check_elements("gather", "an output", &shape, error));
  if (x->dtype != KP_I8) return KP_OK;
  if (axis == x->shape.rank - 1) return kp_fail(error, KP_ERROR_MODEL, "gather: expected the channels of i8 kept");
  return kp_check_same_quantization("gather", x, &call->output, 0, error);
}

static kp_status check_index(const int32_t *index, size_t count, size_t length, kp_error *error) {
  for (size_t i = 0; i < count; i++) {
    if (index[i] >= -(int64_t)length && index[i] < (int64_t)length) continue;
    return kp_fail(error, KP_ERROR_ARGUMENT, "gather: expected indices from -%lld to %lld, got %d at element %lld",
                   (long long)length, (long long)length - 1, (int)index[i], (long long)i);
  }
  return KP_OK;
}

/* x is (batches, outer, length, inner), index (batches, count). */
static kp_status run(const kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0], *index = &call->inputs[1];
  kp_axis axis = kp_axis_of(&x->shape, call->attributes[AXIS].i[0]);
  size_t indices = (size_t)kp_shape_elements(&index->shape), batches = 1;
  KP_TRY(check_index(index->data, indices, axis.length, error));
  size_t bytes = axis.inner * kp_dtype_size(x->dtype);
  if (kp_shape_elements(&call->output.shape) == 0) return KP_OK;
  for (int32_t i = 0; i < call->attributes[BATCH].i[0]; i++) batches *= (size_t)x->shape.dim[i];
  size_t count = indices / batches, outer = axis.outer / batches;
  char *out = call->output.data;
  for (size_t row = 0; row < axis.outer; row++) {
    const char *source = (const char *)x->data + row * axis.length * bytes;
    const int32_t *wanted = (const int32_t *)index->data + row / outer * count;
    for (size_t i = 0; i < count; i++, out += bytes) {
      int64_t at = wanted[i] + (wanted[i] < 0 ? (int64_t)axis.length : 0);
      memcpy(out, source + (size_t)at * bytes, bytes);
    }
  }
  return KP_OK;
}

const kp_op kp_op_gather = {
    .name = "gather",
    .min_inputs = 2,
    .max_inputs = 2,
    .attribute_count = 2,
    .attributes = {{.name = "axis", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true},
                   {.name = "batch", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1}},
    .infer = infer,
    .run = run,
};

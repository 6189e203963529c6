#include <string.h>

#include "ops/shape.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *table = &call->inputs[0], *ids = &call->inputs[1];
  if (table->dtype != KP_I8 || !table->is_weight) {
    KP_TRY(kp_check_dtype("embedding", "table", table, KP_F32, error));
  }
  KP_TRY(kp_check_rank("embedding", "table", table, 2, error));
  KP_TRY(kp_check_dtype("embedding", "ids", ids, KP_I32, error));
  KP_TRY(kp_check_not_empty("embedding", "table", &table->shape, error));
  KP_TRY(kp_check_elements("embedding", "ids", &ids->shape, error));
  if (ids->shape.rank >= KP_MAX_RANK) {
    return kp_fail(error, KP_ERROR_MODEL, "embedding: expected ids of rank below %d, got shape %s", KP_MAX_RANK,
                   kp_shape_format(&ids->shape).text);
  }
  call->output.dtype = KP_F32;
  call->output.shape = ids->shape;
  call->output.shape.dim[call->output.shape.rank++] = table->shape.dim[1];
  return kp_check_elements("embedding", "an output", &call->output.shape, error);
}

/* An i8 table is read where the file has it; this is the place for one that the file has in four bits. */
static size_t pack_bytes(const kp_op_call *call) {
  return call->inputs[0].dtype == KP_I8 ? (size_t)kp_shape_elements(&call->inputs[0].shape) : 0;
}

static void pack(const kp_op_call *call, void *packed) { memcpy(packed, call->inputs[0].data, pack_bytes(call)); }

static void copy_row(const kp_op_call *call, size_t row, size_t columns, float *out) {
  if (call->inputs[0].dtype == KP_F32) {
    memcpy(out, (const float *)call->inputs[0].data + row * columns, columns * sizeof(float));
    return;
  }
  const int8_t *quantized = (const int8_t *)call->packed + row * columns;
  float scale = call->inputs[0].channel_scale[row];
  for (size_t i = 0; i < columns; i++) out[i] = (float)quantized[i] * scale;
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  const kp_view *table = &call->inputs[0], *ids = &call->inputs[1];
  int64_t rows = table->shape.dim[0], count = kp_shape_elements(&ids->shape);
  size_t columns = (size_t)table->shape.dim[1];
  const int32_t *id = ids->data;
  float *out = call->output.data;
  for (int64_t i = 0; i < count; i++) {
    if (id[i] < 0 || id[i] >= rows) {
      return kp_fail(error, KP_ERROR_ARGUMENT, "embedding: expected ids from 0 to %lld, got %d at element %lld",
                     (long long)rows - 1, (int)id[i], (long long)i);
    }
    copy_row(call, (size_t)id[i], columns, out + (size_t)i * columns);
  }
  return KP_OK;
}

const kp_op kp_op_embedding = {
    .name = "embedding",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = infer,
    .pack_bytes = pack_bytes,
    .pack = pack,
    .run = run,
};

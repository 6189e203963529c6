#include <string.h>

#include "ops/quantized.h"

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

/* Row `row` of a table in four bits (docs/model-file.md). */
static void unpack_row(const kp_view *table, size_t row, size_t columns, float *out) {
  const int8_t *nibbles = (const int8_t *)table->data + row * kp_divide_up(columns, 2);
  const int8_t *multipliers = table->multiplier + row * kp_divide_up(columns, KP_NIBBLE_GROUP);
  float scale = table->channel_scale[row];
  for (size_t i = 0; i < columns; i++) {
    out[i] = (float)(kp_nibble(nibbles, i) * multipliers[i / KP_NIBBLE_GROUP]) * scale;
  }
}

static void copy_row(const kp_view *table, size_t row, size_t columns, float *out) {
  if (table->dtype == KP_F32) {
    memcpy(out, (const float *)table->data + row * columns, columns * sizeof(float));
    return;
  }
  if (table->multiplier != NULL) {
    unpack_row(table, row, columns, out);
    return;
  }
  const int8_t *quantized = (const int8_t *)table->data + row * columns;
  for (size_t i = 0; i < columns; i++) out[i] = (float)quantized[i] * table->channel_scale[row];
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
    copy_row(table, (size_t)id[i], columns, out + (size_t)i * columns);
  }
  return KP_OK;
}

const kp_op kp_op_embedding = {
    .name = "embedding",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = infer,
    .run = run,
};

#include "model/infer.h"

#include <stdio.h>
#include <string.h>

#include "model/attributes.h"

const char *kp_shape_text(const int64_t *dims, int32_t rank, char text[KP_SHAPE_TEXT]) {
  size_t used = 1;
  strcpy(text, "(");
  for (int32_t i = 0; i < rank && used < KP_SHAPE_TEXT; i++) {
    const char *separator = i + 1 < rank ? ", " : rank == 1 ? "," : "";
    used += (size_t)snprintf(text + used, KP_SHAPE_TEXT - used, "%lld%s", (long long)dims[i], separator);
  }
  if (used < KP_SHAPE_TEXT) snprintf(text + used, KP_SHAPE_TEXT - used, ")");
  return text;
}

static kp_status value_shape(const kp_value *value, int64_t n, int64_t t, kp_shape *shape, kp_error *error) {
  shape->rank = value->rank;
  uint64_t bytes = kp_dtype_size(value->dtype);
  for (int32_t i = 0; i < value->rank; i++) {
    int64_t dim = kp_dim_at(value->shape[i], n, t); /* at most 2^31 * 4096^2 */
    shape->dim[i] = dim;
    if (dim > INT32_MAX) {
      return kp_fail(error, KP_ERROR_SHAPE,
                     "value '%s': dimension %d: expected at most %d, got %lld at N = %lld, T = %lld", value->name,
                     (int)i, INT32_MAX, (long long)dim, (long long)n, (long long)t);
    }
    bool fits = !__builtin_mul_overflow(bytes, (uint64_t)dim, &bytes);
    if (!fits || bytes > KP_MAX_RUN_BYTES || bytes > SIZE_MAX) {
      return kp_fail(error, KP_ERROR_SHAPE, "value '%s': its size at N = %lld, T = %lld exceeds %llu bytes",
                     value->name, (long long)n, (long long)t, (unsigned long long)KP_MAX_RUN_BYTES);
    }
  }
  return KP_OK;
}

kp_status kp_program_shapes(const kp_program *program, int64_t n, int64_t t, kp_shape *shapes, kp_error *error) {
  for (size_t i = 0; i < program->value_count; i++) {
    KP_TRY(value_shape(&program->values[i], n, t, &shapes[i], error));
  }
  return KP_OK;
}

static bool same_shape(const kp_shape *a, const kp_shape *b) {
  return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

static kp_status check_output(const kp_value *value, const kp_shape *shape, const kp_op_call *call, kp_error *error) {
  if (call->output.dtype != value->dtype) {
    return kp_fail(error, KP_ERROR_SHAPE, "the file says %s, the operator gives %s", kp_dtype_name(value->dtype),
                   kp_dtype_name(call->output.dtype));
  }
  if (!same_shape(&call->output.shape, shape)) {
    char stated[KP_SHAPE_TEXT], inferred[KP_SHAPE_TEXT];
    return kp_fail(error, KP_ERROR_SHAPE, "the file says %s, the operator gives %s",
                   kp_shape_text(shape->dim, shape->rank, stated),
                   kp_shape_text(call->output.shape.dim, call->output.shape.rank, inferred));
  }
  return KP_OK;
}

static kp_view view_of(const kp_value *value, const kp_shape *shape) {
  return (kp_view){.dtype = value->dtype,
                   .shape = *shape,
                   .is_weight = value->weight != NULL,
                   .quantization = value->quantization,
                   .channel_scale = value->channel_scale,
                   .multiplier = value->multiplier != NULL ? value->multiplier->data : NULL};
}

static kp_status infer(const kp_program *program, const kp_node *node, const kp_shape *shapes, int64_t n, int64_t t,
                       int threads, const kp_blas *blas, kp_attribute *attributes, kp_op_call *call, kp_error *error) {
  KP_TRY(kp_attributes_resolve(node->op, node->attributes, n, t, attributes, error));
  *call = (kp_op_call){.attributes = attributes,
                       .input_count = node->input_count,
                       .exact = program->exact,
                       .blas = blas,
                       .packed = node->packed,
                       .constants = node->constants,
                       .threads = threads};
  for (size_t i = 0; i < node->input_count; i++) {
    int32_t value = node->inputs[i];
    call->present[i] = value >= 0;
    if (value >= 0) call->inputs[i] = view_of(&program->values[value], &shapes[value]);
  }
  call->output.quantization = program->values[node->output].quantization;
  KP_TRY(node->op->infer(call, error));
  return check_output(&program->values[node->output], &shapes[node->output], call, error);
}

kp_status kp_node_infer(const kp_program *program, size_t index, const kp_shape *shapes, int64_t n, int64_t t,
                        int threads, const kp_blas *blas, kp_attribute *attributes, kp_op_call *call, kp_error *error) {
  const kp_node *node = &program->nodes[index];
  kp_status status = infer(program, node, shapes, n, t, threads, blas, attributes, call, error);
  if (status == KP_OK) return KP_OK;
  return kp_fail_in(error, status, "operator %zu, %s '%s'", index, node->op->name, program->values[node->output].name);
}

static kp_status infer_all(const kp_program *program, int64_t n, int64_t t, kp_arena *arena, kp_error *error) {
  kp_shape *shapes = kp_arena_calloc(arena, program->value_count, sizeof *shapes);
  if (shapes == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for the shapes of its values");
  KP_TRY(kp_program_shapes(program, n, t, shapes, error));
  for (size_t i = 0; i < program->node_count; i++) {
    kp_attribute attributes[KP_MAX_OP_ATTRIBUTES];
    kp_op_call call;
    KP_TRY(kp_node_infer(program, i, shapes, n, t, 1, NULL, attributes, &call, error));
  }
  return KP_OK;
}

kp_status kp_program_infer(const kp_program *program, int64_t n, int64_t t, const kp_allocator *allocator,
                           kp_error *error) {
  kp_arena arena;
  kp_arena_init(&arena, allocator);
  kp_status status = infer_all(program, n, t, &arena, error);
  kp_arena_release(&arena);
  return status;
}

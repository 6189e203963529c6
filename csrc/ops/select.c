#include "ops/shape.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *condition = &call->inputs[0], *a = &call->inputs[1], *b = &call->inputs[2];
  KP_TRY(kp_check_dtype("select", "condition", condition, KP_BOOL, error));
  if (a->dtype == KP_I8) return kp_fail(error, KP_ERROR_MODEL, "select: expected a of dtype f32, i32 or bool, got i8");
  KP_TRY(kp_check_dtype("select", "b", b, a->dtype, error));
  KP_TRY(kp_check_elements("select", "condition", &condition->shape, error));
  KP_TRY(kp_check_elements("select", "a", &a->shape, error));
  KP_TRY(kp_check_elements("select", "b", &b->shape, error));
  call->output.dtype = a->dtype;
  call->output.shape = condition->shape;
  KP_TRY(kp_broadcast_shape("select", &a->shape, &call->output.shape, error));
  KP_TRY(kp_check_elements("select", "an output", &call->output.shape, error));
  KP_TRY(kp_broadcast_shape("select", &b->shape, &call->output.shape, error));
  return kp_check_elements("select", "an output", &call->output.shape, error);
}

static void span_8(const kp_op_call *call, void *out, const void *const in[KP_MAX_OPERANDS],
                   const size_t step[KP_MAX_OPERANDS], size_t n) {
  (void)call;
  const uint8_t *condition = in[0], *a = in[1], *b = in[2];
  uint8_t *result = out;
  for (size_t i = 0; i < n; i++) result[i] = condition[i * step[0]] ? a[i * step[1]] : b[i * step[2]];
}

static void span_32(const kp_op_call *call, void *out, const void *const in[KP_MAX_OPERANDS],
                    const size_t step[KP_MAX_OPERANDS], size_t n) {
  (void)call;
  const uint8_t *condition = in[0];
  const uint32_t *a = in[1], *b = in[2];
  uint32_t *result = out;
  for (size_t i = 0; i < n; i++) result[i] = condition[i * step[0]] ? a[i * step[1]] : b[i * step[2]];
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_broadcast_run(call, 3, kp_dtype_size(call->output.dtype) == 4 ? span_32 : span_8);
  return KP_OK;
}

const kp_op kp_op_select = {
    .name = "select",
    .min_inputs = 3,
    .max_inputs = 3,
    .infer = infer,
    .run = run,
    .in_place = 1 << 1 | 1 << 2,
};

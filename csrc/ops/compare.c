#include "ops/shape.h"

static const char *const functions[] = {"eq", "ne", "gt", "lt", "ge", "le", NULL};
enum { EQ = 0, NE, GT, LT, GE, LE };

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *a = &call->inputs[0], *b = &call->inputs[1];
  if (a->dtype != KP_I32) KP_TRY(kp_check_dtype("compare", "a", a, KP_F32, error));
  KP_TRY(kp_check_dtype("compare", "b", b, a->dtype, error));
  KP_TRY(kp_check_elements("compare", "a", &a->shape, error));
  KP_TRY(kp_check_elements("compare", "b", &b->shape, error));
  call->output.dtype = KP_BOOL;
  call->output.shape = a->shape;
  KP_TRY(kp_broadcast_shape("compare", &b->shape, &call->output.shape, error));
  return kp_check_elements("compare", "an output", &call->output.shape, error);
}

static bool compare_f32(int64_t function, float a, float b) {
  switch (function) {
    case EQ:
      return a == b;
    case NE:
      return a != b;
    case GT:
      return a > b;
    case LT:
      return a < b;
    case GE:
      return a >= b;
    default:
      return a <= b;
  }
}

static bool compare_i32(int64_t function, int32_t a, int32_t b) {
  switch (function) {
    case EQ:
      return a == b;
    case NE:
      return a != b;
    case GT:
      return a > b;
    case LT:
      return a < b;
    case GE:
      return a >= b;
    default:
      return a <= b;
  }
}

static void span(const kp_op_call *call, void *out, const void *const in[KP_MAX_OPERANDS],
                 const size_t step[KP_MAX_OPERANDS], size_t n) {
  int64_t function = call->attributes[0].i[0];
  uint8_t *result = out;
  if (call->inputs[0].dtype == KP_F32) {
    const float *a = in[0], *b = in[1];
    for (size_t i = 0; i < n; i++) result[i] = compare_f32(function, a[i * step[0]], b[i * step[1]]);
  } else {
    const int32_t *a = in[0], *b = in[1];
    for (size_t i = 0; i < n; i++) result[i] = compare_i32(function, a[i * step[0]], b[i * step[1]]);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_broadcast_run(call, 2, span);
  return KP_OK;
}

const kp_op kp_op_compare = {
    .name = "compare",
    .min_inputs = 2,
    .max_inputs = 2,
    .attribute_count = 1,
    .attributes =
        {{.name = "fn", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = functions, .required = true}},
    .infer = infer,
    .run = run,
};

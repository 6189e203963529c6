#include "ops/binary_i8.h"
#include "ops/quantized.h"

static const char *const functions[] = {"add", "sub", "mul", "div", "min", "max", NULL}; /* in the order of kp_binary */

static bool is_i8(const kp_op_call *call) { return call->inputs[0].dtype == KP_I8 || call->inputs[1].dtype == KP_I8; }

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *a = &call->inputs[0], *b = &call->inputs[1];
  bool integers = a->dtype == KP_I32, quantized = is_i8(call);
  if (!integers && !quantized) KP_TRY(kp_check_dtype("binary", "a", a, KP_F32, error));
  if (!quantized) KP_TRY(kp_check_dtype("binary", "b", b, a->dtype, error));
  if (integers && call->attributes[0].i[0] == KP_DIV) {
    return kp_fail(error, KP_ERROR_MODEL, "binary: div takes f32, got i32");
  }
  KP_TRY(kp_check_elements("binary", "a", &a->shape, error));
  KP_TRY(kp_check_elements("binary", "b", &b->shape, error));
  call->output.dtype = a->dtype;
  call->output.shape = a->shape;
  KP_TRY(kp_broadcast_shape("binary", &b->shape, &call->output.shape, error));
  KP_TRY(kp_check_elements("binary", "an output", &call->output.shape, error));
  if (quantized) return kp_binary_i8_check(call, call->attributes[1].i[0], error);
  if (call->attributes[1].i[0] == KP_OUT_F32) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "binary: expected out=f32 with operands of dtype %s", kp_dtype_name(a->dtype));
}

static void span_f32(const kp_op_call *call, void *out, const void *const in[KP_MAX_OPERANDS],
                     const size_t step[KP_MAX_OPERANDS], size_t n) {
  call->kernels->binary_f32[call->attributes[0].i[0]](out, in[0], step[0], in[1], step[1], n);
}

/* Sums, differences and products wrap around: they are taken modulo 2^32. */
static int32_t apply_i32(kp_binary function, int32_t a, int32_t b) {
  uint32_t x = (uint32_t)a, y = (uint32_t)b;
  switch (function) {
    case KP_ADD:
      return (int32_t)(x + y);
    case KP_SUB:
      return (int32_t)(x - y);
    case KP_MUL:
      return (int32_t)(x * y);
    case KP_MIN:
      return a < b ? a : b;
    default:
      return a > b ? a : b;
  }
}

static void span_i32(const kp_op_call *call, void *out, const void *const in[KP_MAX_OPERANDS],
                     const size_t step[KP_MAX_OPERANDS], size_t n) {
  kp_binary function = (kp_binary)call->attributes[0].i[0];
  int32_t *result = out;
  const int32_t *a = in[0], *b = in[1];
  for (size_t i = 0; i < n; i++) result[i] = apply_i32(function, a[i * step[0]], b[i * step[1]]);
}

static size_t constants_bytes(const kp_op_call *call) { return is_i8(call) ? kp_binary_i8_constants_bytes(call) : 0; }

static size_t scratch(const kp_op_call *call) { return is_i8(call) ? kp_binary_i8_scratch(call) : 0; }

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  if (is_i8(call)) {
    kp_binary_i8_run(call);
    return KP_OK;
  }
  kp_broadcast_run(call, 2, call->output.dtype == KP_F32 ? span_f32 : span_i32);
  return KP_OK;
}

const kp_op kp_op_binary = {
    .name = "binary",
    .min_inputs = 2,
    .max_inputs = 2,
    .attribute_count = 2,
    .attributes =
        {{.name = "fn", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = functions, .required = true},
         {.name = "out", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_out_words}},
    .infer = infer,
    .constants_bytes = constants_bytes,
    .set_constants = kp_binary_i8_set_constants,
    .scratch = scratch,
    .run = run,
    .in_place = 1 << 0 | 1 << 1,
};

#include "ops/dense_i8.h"
#include "ops/epilogue.h"

enum { ACT = 0, OUT };

static bool is_i8(const kp_op_call *call) { return call->inputs[1].dtype == KP_I8; }

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0], *weight = &call->inputs[1];
  KP_TRY(kp_check_rank("linear", "weight", weight, 2, error));
  KP_TRY(kp_check_not_empty("linear", "x", &x->shape, error));
  KP_TRY(kp_check_not_empty("linear", "weight", &weight->shape, error));
  if (x->shape.rank < 1 || x->shape.dim[x->shape.rank - 1] != weight->shape.dim[1]) {
    return kp_fail(error, KP_ERROR_MODEL, "linear: weight takes %lld features, the input has shape %s",
                   (long long)weight->shape.dim[1], kp_shape_format(&x->shape).text);
  }
  call->output.shape = x->shape;
  call->output.shape.dim[x->shape.rank - 1] = weight->shape.dim[0];
  KP_TRY(kp_check_elements("linear", "an output", &call->output.shape, error));
  if (is_i8(call)) {
    if (x->dtype != KP_I8) KP_TRY(kp_check_dtype("linear", "x", x, KP_F32, error));
    return kp_i8_check("linear", call, weight->shape.dim[0], weight->shape.dim[1], call->attributes[OUT].i[0], error);
  }
  KP_TRY(kp_check_dtype("linear", "x", x, KP_F32, error));
  KP_TRY(kp_check_dtype("linear", "weight", weight, KP_F32, error));
  if (call->attributes[OUT].i[0] != KP_OUT_F32) {
    return kp_fail(error, KP_ERROR_MODEL, "linear: expected out=f32 with a float weight");
  }
  call->output.dtype = KP_F32;
  return kp_epilogue_check("linear", call, weight->shape.dim[0], error);
}

static kp_dense dense_of(const kp_op_call *call) {
  const kp_view *x = &call->inputs[0], *weight = &call->inputs[1];
  kp_dense dense = {.n = (size_t)weight->shape.dim[0],
                    .k = (size_t)weight->shape.dim[1],
                    .x = x->data,
                    .bias = kp_optional_f32(call, 2),
                    .residual = kp_optional_f32(call, 3),
                    .y = call->output.data,
                    .act = (kp_act)call->attributes[ACT].i[0]};
  dense.rows = (size_t)kp_shape_elements(&x->shape) / dense.k;
  return dense;
}

static kp_dense_i8 dense_i8_of(const kp_op_call *call) {
  kp_dense dense = dense_of(call);
  return (kp_dense_i8){.rows = dense.rows, .n = dense.n, .k = dense.k, .act = dense.act};
}

static size_t pack_bytes(const kp_op_call *call) {
  const kp_dense_i8 dense = dense_i8_of(call);
  return is_i8(call) ? kp_dense_i8_pack_bytes(call, &dense) : kp_gemm_pack_bytes(call, dense.n, dense.k);
}

static void pack(const kp_op_call *call, void *packed) {
  const kp_dense_i8 dense = dense_i8_of(call);
  if (is_i8(call)) {
    kp_pack_i8(&call->kernels->gemm_i8, packed, call->inputs[1].data, dense.n, 1, dense.k);
  } else {
    kp_gemm_pack(call, dense.n, dense.k, packed);
  }
}

static size_t constants_bytes(const kp_op_call *call) {
  const kp_dense_i8 dense = dense_i8_of(call);
  return is_i8(call) ? kp_i8_constants_bytes(call, dense.k, dense.n) : 0;
}

static void set_constants(const kp_op_call *call, void *constants) {
  const kp_dense_i8 dense = dense_i8_of(call);
  kp_dense_i8_set_constants(call, &dense, constants);
}

static size_t scratch(const kp_op_call *call) {
  const kp_dense_i8 dense = dense_i8_of(call);
  return is_i8(call) ? kp_dense_i8_scratch(call, &dense) : kp_dense_scratch(call, dense.rows, dense.n, dense.k);
}

static uint64_t macs(const kp_op_call *call) {
  const kp_dense_i8 dense = dense_i8_of(call);
  return (uint64_t)dense.rows * dense.n * dense.k;
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  if (is_i8(call)) {
    const kp_dense_i8 dense = dense_i8_of(call);
    kp_dense_i8_run(call, &dense);
  } else {
    const kp_dense dense = dense_of(call);
    kp_dense_run(call, &dense);
  }
  return KP_OK;
}

const kp_op kp_op_linear = {
    .name = "linear",
    .min_inputs = 2,
    .max_inputs = 4,
    .attribute_count = 2,
    .attributes = {{.name = "act", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_act_words},
                   {.name = "out", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = kp_out_words}},
    .infer = infer,
    .pack_bytes = pack_bytes,
    .pack = pack,
    .constants_bytes = constants_bytes,
    .set_constants = set_constants,
    .scratch = scratch,
    .macs = macs,
    .run = run,
};

#include "ops/elementary.h"
#include "ops/shape.h"

/* In the order of kp_unary, then of `rare`. */
static const char *const functions[] = {"relu", "relu6",     "hardswish",  "hardsigmoid", "sigmoid", "silu",
                                        "gelu", "gelu_tanh", "quick_gelu", "tanh",        "exp",     "sqrt",
                                        "sin",  "cos",       "log",        NULL};
static float (*const rare[])(float) = {kp_sin_f32, kp_cos_f32, kp_log_f32};

static kp_status infer(kp_op_call *call, kp_error *error) {
  KP_TRY(kp_check_dtype("unary", "x", &call->inputs[0], KP_F32, error));
  KP_TRY(kp_check_elements("unary", "x", &call->inputs[0].shape, error));
  call->output.dtype = KP_F32;
  call->output.shape = call->inputs[0].shape;
  return KP_OK;
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  kp_range range = kp_task_range((size_t)kp_shape_elements(&call->output.shape), KP_TASK_ELEMENTS, index);
  float *out = call->output.data;
  const float *x = call->inputs[0].data;
  int64_t function = call->attributes[0].i[0];
  if (function < KP_UNARY_COUNT) {
    call->kernels->unary_f32[function](out + range.begin, x + range.begin, range.end - range.begin);
  } else {
    for (size_t i = range.begin; i < range.end; i++) out[i] = rare[function - KP_UNARY_COUNT](x[i]);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_op_call local = *call;
  kp_pool_run(call->pool, kp_divide_up((size_t)kp_shape_elements(&call->output.shape), KP_TASK_ELEMENTS), task, &local);
  return KP_OK;
}

const kp_op kp_op_unary = {
    .name = "unary",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 1,
    .attributes =
        {{.name = "fn", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = functions, .required = true}},
    .infer = infer,
    .run = run,
    .in_place = 1 << 0,
};

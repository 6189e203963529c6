#include "ops/shape.h"

enum { AXIS = 0 };

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  if (x->dtype != KP_I32) KP_TRY(kp_check_dtype("argmax", "x", x, KP_F32, error));
  KP_TRY(kp_check_not_empty("argmax", "x", &x->shape, error));
  KP_TRY(kp_check_range("argmax", "axis", &call->attributes[AXIS], 0, (int64_t)x->shape.rank - 1, error));
  call->output.dtype = KP_I32;
  call->output.shape = (kp_shape){.rank = x->shape.rank - 1};
  for (int32_t i = 0; i < call->output.shape.rank; i++) {
    call->output.shape.dim[i] = x->shape.dim[i + (i >= call->attributes[AXIS].i[0])];
  }
  return KP_OK;
}

/* The first of the largest; a NaN counts as larger than any number, as in PyTorch. */
static int32_t largest_f32(const float *x, kp_axis axis) {
  size_t best = 0;
  for (size_t i = 1; i < axis.length; i++) {
    float value = x[i * axis.inner], most = x[best * axis.inner];
    if (value > most || (value != value && most == most)) best = i;
  }
  return (int32_t)best;
}

static int32_t largest_i32(const int32_t *x, kp_axis axis) {
  size_t best = 0;
  for (size_t i = 1; i < axis.length; i++) {
    if (x[i * axis.inner] > x[best * axis.inner]) best = i;
  }
  return (int32_t)best;
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  kp_axis axis = kp_axis_of(&call->inputs[0].shape, call->attributes[AXIS].i[0]);
  kp_range lanes = kp_task_range(axis.outer * axis.inner, kp_task_lanes(axis), index);
  int32_t *out = call->output.data;
  for (size_t lane = lanes.begin; lane < lanes.end; lane++) {
    size_t first = kp_lane_start(axis, lane);
    out[lane] = call->inputs[0].dtype == KP_F32 ? largest_f32((const float *)call->inputs[0].data + first, axis)
                                                : largest_i32((const int32_t *)call->inputs[0].data + first, axis);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_axis axis = kp_axis_of(&call->inputs[0].shape, call->attributes[AXIS].i[0]);
  kp_op_call local = *call;
  kp_pool_run(call->pool, kp_divide_up(axis.outer * axis.inner, kp_task_lanes(axis)), task, &local);
  return KP_OK;
}

const kp_op kp_op_argmax = {
    .name = "argmax",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 1,
    .attributes = {{.name = "axis", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true}},
    .infer = infer,
    .run = run,
};

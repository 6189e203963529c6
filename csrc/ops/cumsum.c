#include "ops/shape.h"

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  if (x->dtype != KP_I32) KP_TRY(kp_check_dtype("cumsum", "x", x, KP_F32, error));
  KP_TRY(kp_check_elements("cumsum", "x", &x->shape, error));
  KP_TRY(kp_check_range("cumsum", "axis", &call->attributes[0], 0, (int64_t)x->shape.rank - 1, error));
  call->output.dtype = x->dtype;
  call->output.shape = x->shape;
  return KP_OK;
}

/* Sums are kept in double, as PyTorch keeps them. */
static void sums_f32(float *out, const float *x, kp_axis axis) {
  double sum = 0;
  for (size_t i = 0; i < axis.length; i++) {
    sum += (double)x[i * axis.inner];
    out[i * axis.inner] = (float)sum;
  }
}

/* Modulo 2^32. */
static void sums_i32(int32_t *out, const int32_t *x, kp_axis axis) {
  uint32_t sum = 0;
  for (size_t i = 0; i < axis.length; i++) {
    sum += (uint32_t)x[i * axis.inner];
    out[i * axis.inner] = (int32_t)sum;
  }
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  kp_axis axis = kp_axis_of(&call->output.shape, call->attributes[0].i[0]);
  kp_range lanes = kp_task_range(axis.outer * axis.inner, kp_task_lanes(axis), index);
  for (size_t lane = lanes.begin; lane < lanes.end; lane++) {
    size_t first = kp_lane_start(axis, lane);
    if (call->output.dtype == KP_F32) {
      sums_f32((float *)call->output.data + first, (const float *)call->inputs[0].data + first, axis);
    } else {
      sums_i32((int32_t *)call->output.data + first, (const int32_t *)call->inputs[0].data + first, axis);
    }
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_axis axis = kp_axis_of(&call->output.shape, call->attributes[0].i[0]);
  kp_op_call local = *call;
  kp_pool_run(call->pool, kp_divide_up(axis.outer * axis.inner, kp_task_lanes(axis)), task, &local);
  return KP_OK;
}

const kp_op kp_op_cumsum = {
    .name = "cumsum",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 1,
    .attributes = {{.name = "axis", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1, .required = true}},
    .infer = infer,
    .run = run,
    .in_place = 1 << 0,
};

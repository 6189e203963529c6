#include <string.h>

#include "ops/shape.h"

static const char *const targets[] = {"f32", "i32", "bool", NULL};
static const kp_dtype target_dtypes[] = {KP_F32, KP_I32, KP_BOOL};

static kp_status infer(kp_op_call *call, kp_error *error) {
  const kp_view *x = &call->inputs[0];
  if (x->dtype != KP_F32 && x->dtype != KP_I32 && x->dtype != KP_BOOL) {
    return kp_fail(error, KP_ERROR_MODEL, "cast: expected x of dtype f32, i32 or bool, got %s",
                   kp_dtype_name(x->dtype));
  }
  KP_TRY(kp_check_elements("cast", "x", &x->shape, error));
  call->output.dtype = target_dtypes[call->attributes[0].i[0]];
  call->output.shape = x->shape;
  return KP_OK;
}

/* Toward zero; what i32 cannot hold goes to its nearest end, NaN to 0. */
static int32_t truncate_f32(float x) {
  if (x >= 0x1p31f) return INT32_MAX;
  if (x < -0x1p31f) return INT32_MIN;
  return x == x ? (int32_t)x : 0;
}

static void from_f32(kp_dtype to, void *out, const float *x, size_t n) {
  if (to == KP_I32) {
    int32_t *y = out;
    for (size_t i = 0; i < n; i++) y[i] = truncate_f32(x[i]);
  } else {
    uint8_t *y = out;
    for (size_t i = 0; i < n; i++) y[i] = x[i] != 0.0f;
  }
}

static void from_i32(kp_dtype to, void *out, const int32_t *x, size_t n) {
  if (to == KP_F32) {
    float *y = out;
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
  } else {
    uint8_t *y = out;
    for (size_t i = 0; i < n; i++) y[i] = x[i] != 0;
  }
}

static void from_bool(kp_dtype to, void *out, const uint8_t *x, size_t n) {
  if (to == KP_F32) {
    float *y = out;
    for (size_t i = 0; i < n; i++) y[i] = x[i];
  } else {
    int32_t *y = out;
    for (size_t i = 0; i < n; i++) y[i] = x[i];
  }
}

static void task(void *context, size_t index, int thread) {
  (void)thread;
  const kp_op_call *call = context;
  kp_dtype from = call->inputs[0].dtype, to = call->output.dtype;
  kp_range range = kp_task_range((size_t)kp_shape_elements(&call->output.shape), KP_TASK_ELEMENTS, index);
  size_t n = range.end - range.begin;
  const char *x = (const char *)call->inputs[0].data + range.begin * kp_dtype_size(from);
  char *y = (char *)call->output.data + range.begin * kp_dtype_size(to);
  if (from == to) {
    memcpy(y, x, n * kp_dtype_size(to));
  } else if (from == KP_F32) {
    from_f32(to, y, (const float *)(const void *)x, n);
  } else if (from == KP_I32) {
    from_i32(to, y, (const int32_t *)(const void *)x, n);
  } else {
    from_bool(to, y, (const uint8_t *)x, n);
  }
}

static kp_status run(const kp_op_call *call, kp_error *error) {
  (void)error;
  kp_op_call local = *call;
  kp_pool_run(call->pool, kp_divide_up((size_t)kp_shape_elements(&call->output.shape), KP_TASK_ELEMENTS), task, &local);
  return KP_OK;
}

const kp_op kp_op_cast = {
    .name = "cast",
    .min_inputs = 1,
    .max_inputs = 1,
    .attribute_count = 1,
    .attributes =
        {{.name = "to", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = targets, .required = true}},
    .infer = infer,
    .run = run,
};

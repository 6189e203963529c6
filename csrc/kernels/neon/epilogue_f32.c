#include "kernels/c/math_c.h"
#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

typedef struct epilogue {
  float *y;
  size_t y_stride;
  const float *bias, *residual;
  size_t residual_stride, rows, columns;
} epilogue;

KP_SPECIALIZED void run(const epilogue *args, kp_act act) {
  const float *bias = args->bias;
  const size_t columns = args->columns;
  for (size_t r = 0; r < args->rows; r++) {
    float *y = args->y + r * args->y_stride;
    const float *residual = args->residual ? args->residual + r * args->residual_stride : NULL;
    size_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      float32x4_t x = vld1q_f32(y + c);
      if (bias) x = vaddq_f32(x, vld1q_f32(bias + c));
      x = kp_apply_act_f32_neon(act, x);
      if (residual) x = vaddq_f32(x, vld1q_f32(residual + c));
      vst1q_f32(y + c, x);
    }
    for (; c < columns; c++) {
      float x = bias ? y[c] + bias[c] : y[c];
      x = kp_apply_act_f32_c(act, x);
      y[c] = residual ? x + residual[c] : x;
    }
  }
}

void kp_epilogue_f32_neon(float *y, size_t y_stride, const float *bias, const float *residual, size_t residual_stride,
                          size_t rows, size_t columns, kp_act act) {
  const epilogue args = {y, y_stride, bias, residual, residual_stride, rows, columns};
  switch (act) {
    case KP_ACT(KP_RELU):
      run(&args, KP_ACT(KP_RELU));
      break;
    case KP_ACT(KP_RELU6):
      run(&args, KP_ACT(KP_RELU6));
      break;
    case KP_ACT(KP_HARDSWISH):
      run(&args, KP_ACT(KP_HARDSWISH));
      break;
    case KP_ACT(KP_HARDSIGMOID):
      run(&args, KP_ACT(KP_HARDSIGMOID));
      break;
    case KP_ACT(KP_SIGMOID):
      run(&args, KP_ACT(KP_SIGMOID));
      break;
    case KP_ACT(KP_SILU):
      run(&args, KP_ACT(KP_SILU));
      break;
    case KP_ACT(KP_GELU):
      run(&args, KP_ACT(KP_GELU));
      break;
    case KP_ACT(KP_GELU_TANH):
      run(&args, KP_ACT(KP_GELU_TANH));
      break;
    case KP_ACT(KP_QUICK_GELU):
      run(&args, KP_ACT(KP_QUICK_GELU));
      break;
    case KP_ACT(KP_TANH):
      run(&args, KP_ACT(KP_TANH));
      break;
    case KP_ACT(KP_EXP):
      run(&args, KP_ACT(KP_EXP));
      break;
    case KP_ACT(KP_SQRT):
      run(&args, KP_ACT(KP_SQRT));
      break;
    default:
      run(&args, KP_ACT_NONE);
      break;
  }
}

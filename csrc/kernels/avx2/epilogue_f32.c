#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

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
    for (; c + 8 <= columns; c += 8) {
      __m256 x = _mm256_loadu_ps(y + c);
      if (bias) x = _mm256_add_ps(x, _mm256_loadu_ps(bias + c));
      x = kp_apply_act_f32_avx2(act, x);
      if (residual) x = _mm256_add_ps(x, _mm256_loadu_ps(residual + c));
      _mm256_storeu_ps(y + c, x);
    }
    if (c < columns) {
      const __m256i mask = kp_lanes_avx2(columns - c);
      __m256 x = _mm256_maskload_ps(y + c, mask);
      if (bias) x = _mm256_add_ps(x, _mm256_maskload_ps(bias + c, mask));
      x = kp_apply_act_f32_avx2(act, x);
      if (residual) x = _mm256_add_ps(x, _mm256_maskload_ps(residual + c, mask));
      _mm256_maskstore_ps(y + c, mask, x);
    }
  }
}

void kp_epilogue_f32_avx2(float *y, size_t y_stride, const float *bias, const float *residual, size_t residual_stride,
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

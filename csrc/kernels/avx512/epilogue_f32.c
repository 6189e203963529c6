#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

typedef struct epilogue {
  float *y;
  size_t y_stride;
  const float *bias, *residual;
  size_t residual_stride, rows, columns;
} epilogue;

KP_SPECIALIZED __m512 finish(__m512 x, const float *bias, const float *residual, kp_act act) {
  if (bias) x = _mm512_add_ps(x, _mm512_loadu_ps(bias));
  x = kp_apply_act_f32_avx512(act, x);
  return residual ? _mm512_add_ps(x, _mm512_loadu_ps(residual)) : x;
}

/* Columns `first` to `last` of a row, a multiple of 16 of them. */
KP_SPECIALIZED void run_columns(float *y, const float *bias, const float *residual, size_t first, size_t last,
                                kp_act act) {
  for (size_t c = first; c < last; c += 16) {
    const float *bias_here = bias ? bias + c : NULL, *residual_here = residual ? residual + c : NULL;
    _mm512_storeu_ps(y + c, finish(_mm512_loadu_ps(y + c), bias_here, residual_here, act));
  }
}

KP_SPECIALIZED void run_row(float *y, const float *bias, const float *residual, size_t columns, kp_act act) {
  const size_t whole = columns & ~(size_t)15;
  run_columns(y, bias, residual, 0, whole, act);
  if (whole < columns) {
    const __mmask16 mask = kp_lanes_avx512(columns - whole);
    __m512 x = _mm512_maskz_loadu_ps(mask, y + whole);
    if (bias) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, bias + whole));
    x = kp_apply_act_f32_avx512(act, x);
    if (residual) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, residual + whole));
    kp_store_partial_f32_avx512(y + whole, columns - whole, x);
  }
}

/* Two adjacent rows of 16 n + 8 columns: the one vector in the middle takes 8 columns of each. */
KP_SPECIALIZED void run_two_rows(float *y, const float *bias, const float *residual, size_t columns, kp_act act) {
  const size_t middle = columns - 8;
  run_columns(y, bias, residual, 0, middle, act);
  __m512 x = _mm512_loadu_ps(y + middle);
  if (bias) {
    const __m512 end = _mm512_castps256_ps512(_mm256_loadu_ps(bias + middle));
    x = _mm512_add_ps(x, _mm512_insertf32x8(end, _mm256_loadu_ps(bias), 1));
  }
  _mm512_storeu_ps(y + middle, finish(x, NULL, residual ? residual + middle : NULL, act));
  run_columns(y + columns, bias, residual ? residual + columns : NULL, 8, columns, act);
}

KP_SPECIALIZED void run(const epilogue *args, kp_act act) {
  const bool dense = args->y_stride == args->columns && (!args->residual || args->residual_stride == args->columns);
  const size_t paired = dense && args->columns % 16 == 8 ? args->rows & ~(size_t)1 : 0;
  for (size_t r = 0; r < args->rows; r++) {
    float *y = args->y + r * args->y_stride;
    const float *residual = args->residual ? args->residual + r * args->residual_stride : NULL;
    if (r < paired) {
      run_two_rows(y, args->bias, residual, args->columns, act);
      r++;
    } else {
      run_row(y, args->bias, residual, args->columns, act);
    }
  }
}

void kp_epilogue_f32_avx512(float *y, size_t y_stride, const float *bias, const float *residual, size_t residual_stride,
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

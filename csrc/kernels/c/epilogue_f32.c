#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"

void kp_epilogue_f32_c(float *y, size_t y_stride, const float *bias, const float *residual, size_t residual_stride,
                       size_t rows, size_t columns, kp_act act) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t c = 0; c < columns; c++) {
      float x = y[r * y_stride + c];
      if (bias) x += bias[c];
      x = kp_apply_act_f32_c(act, x);
      if (residual) x += residual[r * residual_stride + c];
      y[r * y_stride + c] = x;
    }
  }
}

/* The epilogue of int8 matrix products and depthwise convolutions, scalar: the definition (kernels.h, kp_epilogue_i8).
 */
#ifndef KP_KERNELS_C_EPILOGUE_I8_C_H
#define KP_KERNELS_C_EPILOGUE_I8_C_H

#include "kernels/c/math_c.h"

static inline void kp_epilogue_i8_c(const kp_epilogue_i8 *epilogue, size_t row, size_t column, int32_t acc) {
  float scale = epilogue->scale[column];
  acc += epilogue->offset[column];
  if (epilogue->row_scale) {
    scale = epilogue->row_scale[row] * scale;
    acc -= epilogue->row_zero[row] * epilogue->column_sum[column];
  }
  float y = fmaf((float)acc, scale, epilogue->bias[column]);
  y = kp_apply_act_i8_c(epilogue->act, y);
  const size_t residual = row * epilogue->residual_stride + column;
  if (epilogue->residual_f32) y = y + epilogue->residual_f32[residual];
  if (epilogue->residual_i8) {
    const int32_t difference = epilogue->residual_i8[residual] - epilogue->residual_zero[column];
    y = fmaf((float)difference, epilogue->residual_scale[column], y);
  }
  const size_t dst = row * epilogue->dst_stride + column;
  if (epilogue->dst_f32) {
    epilogue->dst_f32[dst] = y;
  } else {
    epilogue->dst_i8[dst] =
        kp_quantize_f32_c(y, epilogue->quantizer.inverse[column], epilogue->quantizer.shift[column]);
  }
}

#endif /* KP_KERNELS_C_EPILOGUE_I8_C_H */

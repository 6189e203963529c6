#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"

void kp_quantize_i8_c(int8_t *dst, const float *src, size_t rows, size_t columns, const kp_quantizer *quantizer) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t c = 0; c < columns; c++) {
      *dst++ = kp_quantize_f32_c(*src++, quantizer->inverse[c], quantizer->shift[c]);
    }
  }
}

void kp_dequantize_i8_c(float *dst, const int8_t *src, size_t rows, size_t columns, const float *scale,
                        const int32_t *zero_point) {
  for (size_t r = 0; r < rows; r++) {
    for (size_t c = 0; c < columns; c++) *dst++ = (float)(*src++ - zero_point[c]) * scale[c];
  }
}

static float absmax(const float *src, size_t n) {
  float largest = 0.0f;
  for (size_t i = 0; i < n; i++) largest = fabsf(src[i]) > largest ? fabsf(src[i]) : largest;
  return largest;
}

void kp_quantize_rows_i8_c(int8_t *dst, size_t dst_stride, float *scales, const float *src, size_t src_stride,
                           size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * src_stride;
    int8_t *q = dst + r * dst_stride;
    const float largest = absmax(x, columns);
    const bool zero = largest < KP_ROW_ABSMAX_MIN;
    scales[r] = zero ? 0.0f : largest / 127.0f;
    const float inverse = zero ? 0.0f : 127.0f / largest;
    for (size_t c = 0; c < columns; c++) q[c] = (int8_t)(uint8_t)kp_float_bits(fmaf(x[c], inverse, KP_ROUNDING_SHIFT));
  }
}

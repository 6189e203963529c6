#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"
#include "kernels/row_quantizer.h"

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

static kp_row_quantizer quantizer_of(const float *src, size_t n) {
  float low = 0.0f, high = 0.0f;
  for (size_t i = 0; i < n; i++) {
    low = src[i] < low ? src[i] : low;
    high = src[i] > high ? src[i] : high;
  }
  return kp_row_quantizer_of(low, high);
}

void kp_quantize_rows_i8_c(int8_t *dst, size_t dst_stride, float *scales, int32_t *zero_points, const float *src,
                           size_t src_stride, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * src_stride;
    int8_t *q = dst + r * dst_stride;
    const kp_row_quantizer row = quantizer_of(x, columns);
    scales[r] = row.scale;
    zero_points[r] = row.zero_point;
    for (size_t c = 0; c < columns; c++) q[c] = (int8_t)(uint8_t)kp_float_bits(fmaf(x[c], row.inverse, row.shift));
  }
}

#include "kernels/c/math_c.h"
#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_i8_neon.h"
#include "kernels/row_quantizer.h"

/* 4 `vectors` columns. */
KP_SPECIALIZED void quantize(int8_t *dst, const float *src, const float *inverse, const float *shift, size_t vectors) {
  float32x4_t x[4], m[4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    x[v] = vld1q_f32(src + 4 * v);
    m[v] = vld1q_f32(inverse + 4 * v);
  }
  uint32x4_t q[4];
  kp_quantize_f32_neon(q, x, m, shift, vectors);
  kp_store_low_bytes_neon(dst, q, vectors);
}

void kp_quantize_i8_neon(int8_t *dst, const float *src, size_t rows, size_t columns, const kp_quantizer *quantizer) {
  const float *inverse = quantizer->inverse, *shift = quantizer->shift;
  for (size_t r = 0; r < rows; r++, dst += columns, src += columns) {
    size_t c = 0;
    for (; c + 16 <= columns; c += 16) quantize(dst + c, src + c, inverse + c, shift + c, 4);
    for (; c + 4 <= columns; c += 4) quantize(dst + c, src + c, inverse + c, shift + c, 1);
    for (; c < columns; c++) dst[c] = kp_quantize_f32_c(src[c], inverse[c], shift[c]);
  }
}

KP_SPECIALIZED void dequantize(float *dst, int16x8_t q, const float *scale, const int32_t *zero_point) {
  const int32x4_t low = vsubq_s32(vmovl_s16(vget_low_s16(q)), vld1q_s32(zero_point));
  const int32x4_t high = vsubq_s32(vmovl_high_s16(q), vld1q_s32(zero_point + 4));
  vst1q_f32(dst, vmulq_f32(vcvtq_f32_s32(low), vld1q_f32(scale)));
  vst1q_f32(dst + 4, vmulq_f32(vcvtq_f32_s32(high), vld1q_f32(scale + 4)));
}

void kp_dequantize_i8_neon(float *dst, const int8_t *src, size_t rows, size_t columns, const float *scale,
                           const int32_t *zero_point) {
  for (size_t r = 0; r < rows; r++, dst += columns, src += columns) {
    size_t c = 0;
    for (; c + 16 <= columns; c += 16) {
      const int8x16_t q = vld1q_s8(src + c);
      dequantize(dst + c, vmovl_s8(vget_low_s8(q)), scale + c, zero_point + c);
      dequantize(dst + c + 8, vmovl_high_s8(q), scale + c + 8, zero_point + c + 8);
    }
    for (; c + 8 <= columns; c += 8) dequantize(dst + c, vmovl_s8(vld1_s8(src + c)), scale + c, zero_point + c);
    for (; c < columns; c++) dst[c] = (float)(src[c] - zero_point[c]) * scale[c];
  }
}

/* FMINNM and FMAXNM pass over NaNs, as the comparisons of the definition do. */
static kp_row_quantizer quantizer_of(const float *src, size_t n) {
  float32x4_t low[4], high[4];
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) low[v] = high[v] = vdupq_n_f32(0.0f);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    KP_UNROLL
    for (size_t v = 0; v < 4; v++) {
      const float32x4_t x = vld1q_f32(src + i + 4 * v);
      low[v] = vminnmq_f32(low[v], x);
      high[v] = vmaxnmq_f32(high[v], x);
    }
  }
  for (; i + 4 <= n; i += 4) {
    const float32x4_t x = vld1q_f32(src + i);
    low[0] = vminnmq_f32(low[0], x);
    high[0] = vmaxnmq_f32(high[0], x);
  }
  float lowest = vminnmvq_f32(vminnmq_f32(vminnmq_f32(low[0], low[1]), vminnmq_f32(low[2], low[3])));
  float highest = vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(high[0], high[1]), vmaxnmq_f32(high[2], high[3])));
  for (; i < n; i++) {
    lowest = src[i] < lowest ? src[i] : lowest;
    highest = src[i] > highest ? src[i] : highest;
  }
  return kp_row_quantizer_of(lowest, highest);
}

KP_SPECIALIZED void round_scaled(int8_t *dst, const float *src, const kp_row_quantizer *row, size_t vectors) {
  uint32x4_t q[4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    q[v] = vreinterpretq_u32_f32(vfmaq_f32(vdupq_n_f32(row->shift), vld1q_f32(src + 4 * v), vdupq_n_f32(row->inverse)));
  }
  kp_store_low_bytes_neon(dst, q, vectors);
}

void kp_quantize_rows_i8_neon(int8_t *dst, size_t dst_stride, float *scales, int32_t *zero_points, const float *src,
                              size_t src_stride, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r++, dst += dst_stride, src += src_stride) {
    const kp_row_quantizer row = quantizer_of(src, columns);
    scales[r] = row.scale;
    zero_points[r] = row.zero_point;
    size_t c = 0;
    for (; c + 16 <= columns; c += 16) round_scaled(dst + c, src + c, &row, 4);
    for (; c + 4 <= columns; c += 4) round_scaled(dst + c, src + c, &row, 1);
    for (; c < columns; c++) dst[c] = (int8_t)(uint8_t)kp_float_bits(fmaf(src[c], row.inverse, row.shift));
  }
}

/* The 16 lanes of attention, in float32 and on int8: what ../attention_lanes.h and ../attention_i8_lanes.h both ask
 * for, but for `maximum`. */
#ifndef KP_KERNELS_NEON_LANES_NEON_H
#define KP_KERNELS_NEON_LANES_NEON_H

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

typedef struct lanes {
  float32x4_t part[4];
} lanes;

KP_SPECIALIZED lanes broadcast(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return (lanes){{v, v, v, v}};
}
KP_SPECIALIZED lanes load(const float *src) {
  return (lanes){{vld1q_f32(src), vld1q_f32(src + 4), vld1q_f32(src + 8), vld1q_f32(src + 12)}};
}
KP_SPECIALIZED void store(float *dst, lanes x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) vst1q_f32(dst + 4 * i, x.part[i]);
}
KP_SPECIALIZED lanes multiply_add(lanes a, lanes b, lanes c) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) c.part[i] = vfmaq_f32(c.part[i], a.part[i], b.part[i]);
  return c;
}
KP_SPECIALIZED lanes add(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vaddq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes subtract(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vsubq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes multiply(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vmulq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes divide(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vdivq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes select_equal(lanes a, lanes b, lanes x, lanes y) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) y.part[i] = vbslq_f32(vceqq_f32(a.part[i], b.part[i]), x.part[i], y.part[i]);
  return y;
}
KP_SPECIALIZED void transpose(float *dst, size_t dst_stride, const float *src, size_t src_stride, size_t rows,
                              size_t columns) {
  kp_transpose_32_neon((uint32_t *)(void *)dst, dst_stride, (const uint32_t *)(const void *)src, src_stride, rows,
                       columns);
}

#endif /* KP_KERNELS_NEON_LANES_NEON_H */

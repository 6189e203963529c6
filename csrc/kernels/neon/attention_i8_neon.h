/* What attention on int8 has in common on the Arm levels: the lanes and sums of attention_i8_lanes.h. */
#ifndef KP_KERNELS_NEON_ATTENTION_I8_NEON_H
#define KP_KERNELS_NEON_ATTENTION_I8_NEON_H

#include "kernels/neon/lanes_neon.h"

typedef struct sums {
  int32x4_t part[4];
} sums;

/* The first n of 4 floats, then zeros. */
KP_SPECIALIZED float32x4_t load_partial_4(const float *src, size_t n) {
  float32x4_t x = vdupq_n_f32(0.0f);
  if (n >= 4) return vld1q_f32(src);
  if (n >= 2) x = vcombine_f32(vld1_f32(src), vget_low_f32(x));
  if (n == 3) x = vld1q_lane_f32(src + 2, x, 2);
  if (n == 1) x = vld1q_lane_f32(src, x, 0);
  return x;
}
KP_SPECIALIZED lanes load_partial(const float *src, size_t n) {
  lanes x;
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = n > 4 * i ? load_partial_4(src + 4 * i, n - 4 * i) : vdupq_n_f32(0.0f);
  return x;
}
KP_SPECIALIZED lanes absolute(lanes x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = vabsq_f32(x.part[i]);
  return x;
}
/* b where a is a NaN. Which zero they return of two does not show: their results are only multiplied and added. */
KP_SPECIALIZED lanes maximum(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vmaxnmq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes minimum(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vminnmq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes select_less(lanes a, lanes b, lanes x, lanes y) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) y.part[i] = vbslq_f32(vcltq_f32(a.part[i], b.part[i]), x.part[i], y.part[i]);
  return y;
}
KP_SPECIALIZED lanes power(lanes x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) {
    x.part[i] = vreinterpretq_f32_s32(vshlq_n_s32(vreinterpretq_s32_f32(x.part[i]), 23));
  }
  return x;
}
KP_SPECIALIZED lanes fraction(lanes x, lanes nearest) { return subtract(x, nearest); }

KP_SPECIALIZED sums repeat(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return (sums){{v, v, v, v}};
}
KP_SPECIALIZED lanes to_float(sums x) {
  lanes y;
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) y.part[i] = vcvtq_f32_s32(x.part[i]);
  return y;
}
KP_SPECIALIZED sums multiply_sums(sums x, int32_t factor) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = vmulq_n_s32(x.part[i], factor);
  return x;
}
KP_SPECIALIZED void store_sums(int32_t *dst, sums x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) vst1q_s32(dst + 4 * i, x.part[i]);
}

#endif /* KP_KERNELS_NEON_ATTENTION_I8_NEON_H */

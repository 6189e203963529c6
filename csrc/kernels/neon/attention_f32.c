#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

#define QUERIES 4
#define GROUPS 1

typedef struct lanes {
  float32x4_t part[4];
} lanes;

KP_SPECIALIZED lanes broadcast(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return (lanes){{v, v, v, v}};
}
KP_SPECIALIZED lanes zero(void) { return broadcast(0.0f); }
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
KP_SPECIALIZED lanes mul(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vmulq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes max(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vmaxq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes divide(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vdivq_f32(a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes exp_below_zero(lanes x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = kp_exp_bounded_f32_neon(x.part[i]);
  return x;
}
KP_SPECIALIZED float reduce_add(lanes x) { return kp_reduce_add_f32_neon(x.part); }
KP_SPECIALIZED float reduce_max(lanes x) { return kp_reduce_max_f32_neon(x.part); }

#include "kernels/attention_lanes.h"

void kp_attention_f32_neon(const kp_attention_f32 *args) { attend_all(args); }

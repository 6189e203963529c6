#include "kernels/neon/lanes_neon.h"

#define ACCUMULATORS 5

KP_SPECIALIZED lanes zero(void) { return broadcast(0.0f); }
KP_SPECIALIZED lanes maximum(lanes a, lanes b) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) a.part[i] = vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i]);
  return a;
}
KP_SPECIALIZED lanes exp_below_zero(lanes x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = kp_exp_bounded_f32_neon(x.part[i]);
  return x;
}

#include "kernels/attention_lanes.h"

void kp_attention_f32_neon(const kp_attention_f32 *args) { attend(args); }

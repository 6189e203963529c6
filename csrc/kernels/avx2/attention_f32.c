#include "kernels/avx2/lanes_avx2.h"

#define ACCUMULATORS 6

KP_SPECIALIZED lanes zero(void) { return (lanes){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
KP_SPECIALIZED lanes exp_below_zero(lanes x) {
  return (lanes){kp_exp_bounded_f32_avx2(x.low), kp_exp_bounded_f32_avx2(x.high)};
}

#include "kernels/attention_lanes.h"

void kp_attention_f32_avx2(const kp_attention_f32 *args) { attend(args); }

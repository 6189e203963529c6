#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

#define QUERIES 4
#define GROUPS 1

typedef struct lanes {
  __m256 low, high;
} lanes;

KP_SPECIALIZED lanes broadcast(float x) { return (lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
KP_SPECIALIZED lanes zero(void) { return broadcast(0.0f); }
KP_SPECIALIZED lanes load(const float *src) { return (lanes){_mm256_loadu_ps(src), _mm256_loadu_ps(src + 8)}; }
KP_SPECIALIZED void store(float *dst, lanes x) {
  _mm256_storeu_ps(dst, x.low);
  _mm256_storeu_ps(dst + 8, x.high);
}
KP_SPECIALIZED lanes multiply_add(lanes a, lanes b, lanes c) {
  return (lanes){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
KP_SPECIALIZED lanes add(lanes a, lanes b) {
  return (lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes mul(lanes a, lanes b) {
  return (lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes max(lanes a, lanes b) {
  return (lanes){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes divide(lanes a, lanes b) {
  return (lanes){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes exp_below_zero(lanes x) {
  return (lanes){kp_exp_bounded_f32_avx2(x.low), kp_exp_bounded_f32_avx2(x.high)};
}
KP_SPECIALIZED float reduce_add(lanes x) { return kp_reduce_add_f32_avx2(x.low, x.high); }
KP_SPECIALIZED float reduce_max(lanes x) { return kp_reduce_max_f32_avx2(x.low, x.high); }

#include "kernels/attention_lanes.h"

void kp_attention_f32_avx2(const kp_attention_f32 *args) { attend_all(args); }

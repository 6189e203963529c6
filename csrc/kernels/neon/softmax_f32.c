#include <math.h>

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

/* One group of 16: exp(x - maximum) to dst, added to the lanes. */
KP_SPECIALIZED void exponentials(float *dst, const float *src, float32x4_t maximum, float32x4_t lanes[4]) {
  KP_UNROLL
  for (size_t l = 0; l < 4; l++) {
    const float32x4_t e = kp_exp_bounded_f32_neon(vsubq_f32(vld1q_f32(src + 4 * l), maximum));
    lanes[l] = vaddq_f32(lanes[l], e);
    vst1q_f32(dst + 4 * l, e);
  }
}

void kp_softmax_f32_neon(float *dst, const float *src, size_t rows, size_t columns) {
  const size_t whole = columns & ~(size_t)15, tail = columns - whole;
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns;
    float *y = dst + r * columns;
    float padded[16];
    kp_pad16_f32_neon(padded, x + whole, tail, -INFINITY);
    float32x4_t lanes[4];
    KP_UNROLL
    for (size_t l = 0; l < 4; l++) {
      lanes[l] = vld1q_f32(padded + 4 * l);
    }
    for (size_t c = 0; c < whole; c += 16) {
      KP_UNROLL
      for (size_t l = 0; l < 4; l++) {
        lanes[l] = vmaxq_f32(lanes[l], vld1q_f32(x + c + 4 * l));
      }
    }
    const float32x4_t maximum = vdupq_n_f32(kp_reduce_max_f32_neon(lanes));
    KP_UNROLL
    for (size_t l = 0; l < 4; l++) {
      lanes[l] = vdupq_n_f32(0.0f);
    }
    for (size_t c = 0; c < whole; c += 16) {
      exponentials(y + c, x + c, maximum, lanes);
    }
    exponentials(padded, padded, maximum, lanes);
    const float32x4_t sum = vdupq_n_f32(kp_reduce_add_f32_neon(lanes));
    for (size_t c = 0; c < whole; c += 4) {
      vst1q_f32(y + c, vdivq_f32(vld1q_f32(y + c), sum));
    }
    for (size_t i = 0; i < tail; i++) {
      y[whole + i] = padded[i] / vgetq_lane_f32(sum, 0);
    }
  }
}

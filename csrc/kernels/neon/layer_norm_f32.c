#include <math.h>

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

KP_SPECIALIZED void add_squares(float32x4_t lanes[4], const float *src, float32x4_t mean) {
  KP_UNROLL
  for (size_t l = 0; l < 4; l++) {
    const float32x4_t d = vsubq_f32(vld1q_f32(src + 4 * l), mean);
    lanes[l] = vaddq_f32(lanes[l], vmulq_f32(d, d));
  }
}

static float variance_of(const float *src, size_t columns, float mean) {
  float32x4_t lanes[4] = {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)};
  size_t c = 0;
  for (; c + 16 <= columns; c += 16) {
    add_squares(lanes, src + c, vdupq_n_f32(mean));
  }
  if (c < columns) {
    float padded[16];
    kp_pad16_f32_neon(padded, src + c, columns - c, mean);
    add_squares(lanes, padded, vdupq_n_f32(mean));
  }
  return kp_reduce_add_f32_neon(lanes) / (float)columns;
}

KP_SPECIALIZED float32x4_t scale_and_shift(float32x4_t y, const float *gamma, const float *beta) {
  if (gamma && beta) return vfmaq_f32(vld1q_f32(beta), y, vld1q_f32(gamma));
  if (gamma) return vmulq_f32(y, vld1q_f32(gamma));
  return beta ? vaddq_f32(y, vld1q_f32(beta)) : y;
}

void kp_layer_norm_f32_neon(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                            size_t columns, float eps) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * columns;
    float *y = dst + r * columns;
    const float mean = kp_sum_f32_neon(x, columns) / (float)columns;
    const float scale = 1.0f / sqrtf(variance_of(x, columns, mean) + eps);
    size_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      const float32x4_t normal = vmulq_f32(vsubq_f32(vld1q_f32(x + c), vdupq_n_f32(mean)), vdupq_n_f32(scale));
      vst1q_f32(y + c, scale_and_shift(normal, gamma ? gamma + c : NULL, beta ? beta + c : NULL));
    }
    for (; c < columns; c++) {
      const float normal = (x[c] - mean) * scale;
      if (gamma && beta) {
        y[c] = fmaf(normal, gamma[c], beta[c]);
      } else if (gamma) {
        y[c] = normal * gamma[c];
      } else {
        y[c] = beta ? normal + beta[c] : normal;
      }
    }
  }
}

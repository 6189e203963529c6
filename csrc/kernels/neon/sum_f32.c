#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

float kp_sum_f32_neon(const float *src, size_t n) {
  float32x4_t lanes[4] = {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)};
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    KP_UNROLL
    for (size_t l = 0; l < 4; l++) {
      lanes[l] = vaddq_f32(lanes[l], vld1q_f32(src + i + 4 * l));
    }
  }
  if (i < n) {
    float padded[16];
    kp_pad16_f32_neon(padded, src + i, n - i, 0.0f);
    KP_UNROLL
    for (size_t l = 0; l < 4; l++) {
      lanes[l] = vaddq_f32(lanes[l], vld1q_f32(padded + 4 * l));
    }
  }
  return kp_reduce_add_f32_neon(lanes);
}

/* Four columns: one register for each lane. */
static float32x4_t sum_columns(const float *src, size_t stride, size_t rows) {
  float32x4_t lanes[16];
  KP_UNROLL
  for (size_t l = 0; l < 16; l++) {
    lanes[l] = vdupq_n_f32(0.0f);
  }
  size_t r = 0;
  for (; r + 16 <= rows; r += 16) {
    KP_UNROLL
    for (size_t l = 0; l < 16; l++) {
      lanes[l] = vaddq_f32(lanes[l], vld1q_f32(src + (r + l) * stride));
    }
  }
  KP_UNROLL
  for (size_t l = 0; l < 15; l++) {
    if (r + l < rows) lanes[l] = vaddq_f32(lanes[l], vld1q_f32(src + (r + l) * stride));
  }
  KP_UNROLL
  for (size_t l = 0; l < 8; l++) {
    lanes[l] = vaddq_f32(lanes[l], lanes[l + 8]);
  }
  KP_UNROLL
  for (size_t l = 0; l < 4; l++) {
    lanes[l] = vaddq_f32(lanes[l], lanes[l + 4]);
  }
  return vaddq_f32(vaddq_f32(lanes[0], lanes[2]), vaddq_f32(lanes[1], lanes[3]));
}

/* One column. */
static float sum_column(const float *src, size_t stride, size_t rows) {
  float lanes[16] = {0};
  for (size_t r = 0; r < rows; r++) {
    lanes[r % 16] += src[r * stride];
  }
  const float32x4_t packed[4] = {vld1q_f32(lanes), vld1q_f32(lanes + 4), vld1q_f32(lanes + 8), vld1q_f32(lanes + 12)};
  return kp_reduce_add_f32_neon(packed);
}

void kp_sum_rows_f32_neon(float *dst, const float *src, size_t stride, size_t rows, size_t columns) {
  size_t c = 0;
  for (; c + 4 <= columns; c += 4) {
    vst1q_f32(dst + c, sum_columns(src + c, stride, rows));
  }
  for (; c < columns; c++) {
    dst[c] = sum_column(src + c, stride, rows);
  }
}

#include <arm_neon.h>

#include "kernels/neon/kernels_neon.h"

void kp_average_pool_f32_neon(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels,
                              float divisor) {
  const float32x4_t over = vdupq_n_f32(divisor);
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    float *out = dst + p * channels;
    size_t c = 0;
    for (; c + 4 <= channels; c += 4) {
      float32x4_t sum = vld1q_f32(pixel[0] + c);
      for (size_t t = 1; t < tap_count; t++) sum = vaddq_f32(sum, vld1q_f32(pixel[t] + c));
      vst1q_f32(out + c, vdivq_f32(sum, over));
    }
    for (; c < channels; c++) {
      float sum = pixel[0][c];
      for (size_t t = 1; t < tap_count; t++) sum += pixel[t][c];
      out[c] = sum / divisor;
    }
  }
}

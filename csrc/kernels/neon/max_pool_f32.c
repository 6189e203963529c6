#include <arm_neon.h>

#include "kernels/neon/kernels_neon.h"

/* Compare and select, since FMAX orders the zeros. */
void kp_max_pool_f32_neon(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    float *out = dst + p * channels;
    size_t c = 0;
    for (; c + 4 <= channels; c += 4) {
      float32x4_t acc = vld1q_f32(pixel[0] + c);
      for (size_t t = 1; t < tap_count; t++) {
        const float32x4_t x = vld1q_f32(pixel[t] + c);
        acc = vbslq_f32(vcgtq_f32(acc, x), acc, x);
      }
      vst1q_f32(out + c, acc);
    }
    for (; c < channels; c++) {
      float acc = pixel[0][c];
      for (size_t t = 1; t < tap_count; t++) acc = acc > pixel[t][c] ? acc : pixel[t][c];
      out[c] = acc;
    }
  }
}

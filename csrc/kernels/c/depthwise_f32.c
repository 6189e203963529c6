#include "kernels/c/kernels_c.h"

#include <math.h>

void kp_depthwise_f32_c(float *dst, const float *const *taps, const float *weights, const float *bias, size_t pixels,
                        size_t tap_count, size_t channels, kp_act act) {
  for (size_t p = 0; p < pixels; p++) {
    for (size_t c = 0; c < channels; c++) {
      float acc = bias ? bias[c] : 0.0f;
      for (size_t t = 0; t < tap_count; t++) {
        acc = fmaf(taps[p * tap_count + t][c], weights[t * channels + c], acc);
      }
      dst[p * channels + c] = acc;
    }
  }
  kp_act_f32_c(dst, dst, pixels * channels, act);
}

#include "kernels/c/kernels_c.h"

void kp_max_pool_f32_c(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    for (size_t c = 0; c < channels; c++) {
      float acc = pixel[0][c];
      for (size_t t = 1; t < tap_count; t++) {
        acc = (acc > pixel[t][c]) ? acc : pixel[t][c];
      }
      dst[p * channels + c] = acc;
    }
  }
}

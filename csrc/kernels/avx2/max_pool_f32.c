#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

void kp_max_pool_f32_avx2(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    for (size_t c = 0; c < channels; c += 8) {
      const size_t n = channels - c < 8 ? channels - c : 8;
      __m256 acc = kp_load_partial_f32_avx2(pixel[0] + c, n);
      for (size_t t = 1; t < tap_count; t++) acc = _mm256_max_ps(acc, kp_load_partial_f32_avx2(pixel[t] + c, n));
      kp_store_partial_f32_avx2(dst + p * channels + c, n, acc);
    }
  }
}

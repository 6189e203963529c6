#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

void kp_average_pool_f32_avx2(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels,
                              float divisor) {
  const __m256 over = _mm256_set1_ps(divisor);
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    for (size_t c = 0; c < channels; c += 8) {
      const size_t n = channels - c < 8 ? channels - c : 8;
      __m256 sum = kp_load_partial_f32_avx2(pixel[0] + c, n);
      for (size_t t = 1; t < tap_count; t++) sum = _mm256_add_ps(sum, kp_load_partial_f32_avx2(pixel[t] + c, n));
      kp_store_partial_f32_avx2(dst + p * channels + c, n, _mm256_div_ps(sum, over));
    }
  }
}

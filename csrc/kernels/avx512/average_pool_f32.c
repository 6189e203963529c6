#include "kernels/avx512/kernels_avx512.h"

#include <immintrin.h>

void kp_average_pool_f32_avx512(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels,
                                float divisor) {
  __m512 over = _mm512_set1_ps(divisor);
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    for (size_t c = 0; c < channels; c += 16) {
      __mmask16 mask = (channels - c < 16) ? (__mmask16)((1u << (channels - c)) - 1) : 0xffff;
      __m512 sum = _mm512_maskz_loadu_ps(mask, pixel[0] + c);
      for (size_t t = 1; t < tap_count; t++) {
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, pixel[t] + c));
      }
      _mm512_mask_storeu_ps(dst + p * channels + c, mask, _mm512_div_ps(sum, over));
    }
  }
}

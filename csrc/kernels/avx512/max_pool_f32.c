#include "kernels/avx512/kernels_avx512.h"

#include <immintrin.h>

void kp_max_pool_f32_avx512(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++) {
    const float *const *pixel = taps + p * tap_count;
    for (size_t c = 0; c < channels; c += 16) {
      __mmask16 mask = (channels - c < 16) ? (__mmask16)((1u << (channels - c)) - 1) : 0xffff;
      __m512 acc = _mm512_maskz_loadu_ps(mask, pixel[0] + c);
      for (size_t t = 1; t < tap_count; t++) {
        acc = _mm512_max_ps(acc, _mm512_maskz_loadu_ps(mask, pixel[t] + c));
      }
      _mm512_mask_storeu_ps(dst + p * channels + c, mask, acc);
    }
  }
}

#include "kernels/avx512/kernels_avx512.h"

#include <immintrin.h>

void kp_bilinear_f32_avx512(float *dst, const float *a, const float *b, const float *e, const float *f, float wx,
                            float wy, size_t channels) {
  __m512 x = _mm512_set1_ps(wx);
  __m512 y = _mm512_set1_ps(wy);
  for (size_t c = 0; c < channels; c += 16) {
    __mmask16 mask = (channels - c < 16) ? (__mmask16)((1u << (channels - c)) - 1) : 0xffff;
    __m512 top_left = _mm512_maskz_loadu_ps(mask, a + c);
    __m512 top_right = _mm512_maskz_loadu_ps(mask, b + c);
    __m512 bottom_left = _mm512_maskz_loadu_ps(mask, e + c);
    __m512 bottom_right = _mm512_maskz_loadu_ps(mask, f + c);
    __m512 top = _mm512_fmadd_ps(_mm512_sub_ps(top_right, top_left), x, top_left);
    __m512 bottom = _mm512_fmadd_ps(_mm512_sub_ps(bottom_right, bottom_left), x, bottom_left);
    _mm512_mask_storeu_ps(dst + c, mask, _mm512_fmadd_ps(_mm512_sub_ps(bottom, top), y, top));
  }
}

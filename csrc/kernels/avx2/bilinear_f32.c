#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

void kp_bilinear_f32_avx2(float *dst, const float *a, const float *b, const float *e, const float *f, float wx,
                          float wy, size_t channels) {
  const __m256 x = _mm256_set1_ps(wx), y = _mm256_set1_ps(wy);
  for (size_t c = 0; c < channels; c += 8) {
    const size_t n = channels - c < 8 ? channels - c : 8;
    const __m256 top_left = kp_load_partial_f32_avx2(a + c, n), top_right = kp_load_partial_f32_avx2(b + c, n);
    const __m256 bottom_left = kp_load_partial_f32_avx2(e + c, n), bottom_right = kp_load_partial_f32_avx2(f + c, n);
    const __m256 top = _mm256_fmadd_ps(_mm256_sub_ps(top_right, top_left), x, top_left);
    const __m256 bottom = _mm256_fmadd_ps(_mm256_sub_ps(bottom_right, bottom_left), x, bottom_left);
    kp_store_partial_f32_avx2(dst + c, n, _mm256_fmadd_ps(_mm256_sub_ps(bottom, top), y, top));
  }
}

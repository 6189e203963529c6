/* The 16 lanes of attention, in float32 and on int8: what ../attention_lanes.h and ../attention_i8_lanes.h both ask
 * for. */
#ifndef KP_KERNELS_AVX2_LANES_AVX2_H
#define KP_KERNELS_AVX2_LANES_AVX2_H

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

typedef struct lanes {
  __m256 low, high;
} lanes;

KP_SPECIALIZED lanes broadcast(float x) { return (lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
KP_SPECIALIZED lanes load(const float *src) { return (lanes){_mm256_loadu_ps(src), _mm256_loadu_ps(src + 8)}; }
KP_SPECIALIZED void store(float *dst, lanes x) {
  _mm256_storeu_ps(dst, x.low);
  _mm256_storeu_ps(dst + 8, x.high);
}
KP_SPECIALIZED lanes multiply_add(lanes a, lanes b, lanes c) {
  return (lanes){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
KP_SPECIALIZED lanes add(lanes a, lanes b) {
  return (lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes subtract(lanes a, lanes b) {
  return (lanes){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes multiply(lanes a, lanes b) {
  return (lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes divide(lanes a, lanes b) {
  return (lanes){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes maximum(lanes a, lanes b) {
  return (lanes){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes select_equal(lanes a, lanes b, lanes x, lanes y) {
  return (lanes){_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_EQ_OQ)),
                 _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_EQ_OQ))};
}
KP_SPECIALIZED void transpose(float *dst, size_t dst_stride, const float *src, size_t src_stride, size_t rows,
                              size_t columns) {
  kp_transpose_32_avx2((uint32_t *)(void *)dst, dst_stride, (const uint32_t *)(const void *)src, src_stride, rows,
                       columns);
}

#endif /* KP_KERNELS_AVX2_LANES_AVX2_H */

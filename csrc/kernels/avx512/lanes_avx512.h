/* The 16 lanes of attention, in float32 and on int8: what ../attention_lanes.h and ../attention_i8_lanes.h both ask
 * for, but for `transpose`. */
#ifndef KP_KERNELS_AVX512_LANES_AVX512_H
#define KP_KERNELS_AVX512_LANES_AVX512_H

#include "kernels/avx512/math_avx512.h"

typedef __m512 lanes;

KP_SPECIALIZED lanes broadcast(float x) { return _mm512_set1_ps(x); }
KP_SPECIALIZED lanes load(const float *src) { return _mm512_loadu_ps(src); }
KP_SPECIALIZED void store(float *dst, lanes x) { _mm512_storeu_ps(dst, x); }
KP_SPECIALIZED lanes multiply_add(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
KP_SPECIALIZED lanes add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
KP_SPECIALIZED lanes subtract(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
KP_SPECIALIZED lanes multiply(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
KP_SPECIALIZED lanes divide(lanes a, lanes b) { return _mm512_div_ps(a, b); }
KP_SPECIALIZED lanes maximum(lanes a, lanes b) { return _mm512_max_ps(a, b); }
KP_SPECIALIZED lanes select_equal(lanes a, lanes b, lanes x, lanes y) {
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), x);
}

#endif /* KP_KERNELS_AVX512_LANES_AVX512_H */

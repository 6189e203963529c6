#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

#define ACCUMULATORS 12

typedef __m512 lanes;

KP_SPECIALIZED lanes zero(void) { return _mm512_setzero_ps(); }
KP_SPECIALIZED lanes broadcast(float x) { return _mm512_set1_ps(x); }
KP_SPECIALIZED lanes load(const float *src) { return _mm512_loadu_ps(src); }
KP_SPECIALIZED void store(float *dst, lanes x) { _mm512_storeu_ps(dst, x); }
KP_SPECIALIZED lanes multiply_add(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
KP_SPECIALIZED lanes add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
KP_SPECIALIZED lanes subtract(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
KP_SPECIALIZED lanes multiply(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
KP_SPECIALIZED lanes divide(lanes a, lanes b) { return _mm512_div_ps(a, b); }
KP_SPECIALIZED lanes maximum(lanes a, lanes b) { return _mm512_max_ps(a, b); }
KP_SPECIALIZED lanes exp_below_zero(lanes x) { return kp_exp_bounded_f32_avx512(x); }
KP_SPECIALIZED lanes select_equal(lanes a, lanes b, lanes x, lanes y) {
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), x);
}
KP_SPECIALIZED void transpose(float *dst, size_t dst_stride, const float *src, size_t src_stride, size_t rows,
                              size_t columns) {
  kp_transpose_32_avx512((uint32_t *)(void *)dst, dst_stride, (const uint32_t *)(const void *)src, src_stride, rows,
                         columns);
}

#include "kernels/attention_lanes.h"

void kp_attention_f32_avx512(const kp_attention_f32 *args) { attend(args); }

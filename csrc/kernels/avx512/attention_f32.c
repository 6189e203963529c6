#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/lanes_avx512.h"

#define ACCUMULATORS 12

KP_SPECIALIZED lanes zero(void) { return _mm512_setzero_ps(); }
KP_SPECIALIZED lanes exp_below_zero(lanes x) { return kp_exp_bounded_f32_avx512(x); }
KP_SPECIALIZED void transpose(float *dst, size_t dst_stride, const float *src, size_t src_stride, size_t rows,
                              size_t columns) {
  kp_transpose_32_avx512((uint32_t *)(void *)dst, dst_stride, (const uint32_t *)(const void *)src, src_stride, rows,
                         columns);
}

#include "kernels/attention_lanes.h"

void kp_attention_f32_avx512(const kp_attention_f32 *args) { attend(args); }

#include <arm_neon.h>

#include "kernels/neon/kernels_neon.h"
#include "kernels/unroll.h"

/* A whole block of 4 by 4. */
static void block(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride) {
  const uint32x4_t a = vld1q_u32(src), b = vld1q_u32(src + src_stride);
  const uint32x4_t c = vld1q_u32(src + 2 * src_stride), d = vld1q_u32(src + 3 * src_stride);
  const uint64x2_t ab_even = vreinterpretq_u64_u32(vtrn1q_u32(a, b)), ab_odd = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
  const uint64x2_t cd_even = vreinterpretq_u64_u32(vtrn1q_u32(c, d)), cd_odd = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
  vst1q_u32(dst, vreinterpretq_u32_u64(vtrn1q_u64(ab_even, cd_even)));
  vst1q_u32(dst + dst_stride, vreinterpretq_u32_u64(vtrn1q_u64(ab_odd, cd_odd)));
  vst1q_u32(dst + 2 * dst_stride, vreinterpretq_u32_u64(vtrn2q_u64(ab_even, cd_even)));
  vst1q_u32(dst + 3 * dst_stride, vreinterpretq_u32_u64(vtrn2q_u64(ab_odd, cd_odd)));
}

void kp_transpose_32_neon(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                          size_t columns) {
  const size_t whole_rows = rows & ~(size_t)3, whole_columns = columns & ~(size_t)3;
  for (size_t r = 0; r < whole_rows; r += 4) {
    for (size_t c = 0; c < whole_columns; c += 4) {
      block(dst + c * dst_stride + r, dst_stride, src + r * src_stride + c, src_stride);
    }
  }
  for (size_t r = 0; r < rows; r++) {
    for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++) {
      dst[c * dst_stride + r] = src[r * src_stride + c];
    }
  }
}

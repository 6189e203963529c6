#include <arm_neon.h>

#include "kernels/clip8.h"
#include "kernels/neon/kernels_neon.h"
#include "kernels/unroll.h"

/* 16 bytes. */
static void block(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count, size_t j) {
  int32x4_t acc[4];
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) acc[v] = vdupq_n_s32(KP_CLIP8_HALF);
  for (size_t i = 0; i < count; i++) {
    const uint8x16_t bytes = vld1q_u8(rows[i] + j);
    const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_u8(vget_high_u8(bytes));
    const int32x4_t weight = vdupq_n_s32(weights[i]);
    acc[0] = vmlaq_s32(acc[0], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), weight);
    acc[1] = vmlaq_s32(acc[1], vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))), weight);
    acc[2] = vmlaq_s32(acc[2], vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), weight);
    acc[3] = vmlaq_s32(acc[3], vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high))), weight);
  }
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) acc[v] = vshrq_n_s32(acc[v], KP_CLIP8_BITS);
  const uint16x8_t low = vcombine_u16(vqmovun_s32(acc[0]), vqmovun_s32(acc[1]));
  const uint16x8_t high = vcombine_u16(vqmovun_s32(acc[2]), vqmovun_s32(acc[3]));
  vst1q_u8(dst + j, vcombine_u8(vqmovn_u16(low), vqmovn_u16(high)));
}

void kp_resize_column_u8_neon(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count,
                              size_t n) {
  size_t j = 0;
  for (; j + 16 <= n; j += 16) block(dst, rows, weights, count, j);
  for (; j < n; j++) {
    int32_t sum = KP_CLIP8_HALF;
    for (size_t i = 0; i < count; i++) sum += rows[i][j] * weights[i];
    dst[j] = kp_clip8(sum);
  }
}

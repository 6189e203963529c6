#include <arm_neon.h>

#include "kernels/c/kernels_c.h"
#include "kernels/clip8.h"
#include "kernels/neon/kernels_neon.h"
#include "kernels/unroll.h"

/* acc += eight pixels of one channel times their weights. */
KP_SPECIALIZED int32x4_t add_eight(int32x4_t acc, uint8x8_t pixels, int32x4_t low, int32x4_t high) {
  const uint16x8_t wide = vmovl_u8(pixels);
  acc = vmlaq_s32(acc, vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide))), low);
  return vmlaq_s32(acc, vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(wide))), high);
}

/* Eight pixels at a time, a vector for each channel. */
KP_SPECIALIZED void resize(uint8_t *dst, const uint8_t *src, size_t width, const int32_t *starts, const int32_t *counts,
                           const int32_t *weights, size_t weight_stride, size_t channels) {
  for (size_t x = 0; x < width; x++) {
    const uint8_t *first = src + (size_t)starts[x] * channels;
    const int32_t *weight = weights + x * weight_stride;
    const size_t count = (size_t)counts[x];
    int32x4_t acc[4];
    KP_UNROLL
    for (size_t c = 0; c < 4; c++) acc[c] = vdupq_n_s32(0);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
      const int32x4_t low = vld1q_s32(weight + i), high = vld1q_s32(weight + i + 4);
      if (channels == 3) {
        const uint8x8x3_t pixels = vld3_u8(first + 3 * i);
        KP_UNROLL
        for (size_t c = 0; c < 3; c++) acc[c] = add_eight(acc[c], pixels.val[c], low, high);
      } else {
        const uint8x8x4_t pixels = vld4_u8(first + 4 * i);
        KP_UNROLL
        for (size_t c = 0; c < 4; c++) acc[c] = add_eight(acc[c], pixels.val[c], low, high);
      }
    }
    KP_UNROLL
    for (size_t c = 0; c < channels; c++) {
      int32_t sum = KP_CLIP8_HALF + vaddvq_s32(acc[c]);
      for (size_t rest = i; rest < count; rest++) sum += first[rest * channels + c] * weight[rest];
      dst[x * channels + c] = kp_clip8(sum);
    }
  }
}

void kp_resize_row_u8_neon(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                           const int32_t *counts, const int32_t *weights, size_t weight_stride) {
  if (channels == 1) {
    kp_resize_row_u8_c(dst, src, width, 1, starts, counts, weights, weight_stride);
  } else if (channels == 3) {
    resize(dst, src, width, starts, counts, weights, weight_stride, 3);
  } else {
    resize(dst, src, width, starts, counts, weights, weight_stride, 4);
  }
}

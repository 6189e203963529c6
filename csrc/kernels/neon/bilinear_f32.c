#include <arm_neon.h>
#include <math.h>

#include "kernels/neon/kernels_neon.h"

void kp_bilinear_f32_neon(float *dst, const float *a, const float *b, const float *e, const float *f, float wx,
                          float wy, size_t channels) {
  const float32x4_t x = vdupq_n_f32(wx), y = vdupq_n_f32(wy);
  size_t c = 0;
  for (; c + 4 <= channels; c += 4) {
    const float32x4_t top_left = vld1q_f32(a + c), bottom_left = vld1q_f32(e + c);
    const float32x4_t top = vfmaq_f32(top_left, vsubq_f32(vld1q_f32(b + c), top_left), x);
    const float32x4_t bottom = vfmaq_f32(bottom_left, vsubq_f32(vld1q_f32(f + c), bottom_left), x);
    vst1q_f32(dst + c, vfmaq_f32(top, vsubq_f32(bottom, top), y));
  }
  for (; c < channels; c++) {
    const float top = fmaf(b[c] - a[c], wx, a[c]), bottom = fmaf(f[c] - e[c], wx, e[c]);
    dst[c] = fmaf(bottom - top, wy, top);
  }
}

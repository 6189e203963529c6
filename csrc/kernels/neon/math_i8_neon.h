/* int8 epilogues on vectors of 4 floats: activations and quantisation, each operation as in c/math_c.h. Minima and
 * maxima are FMINNM and FMAXNM, which return the other operand where one is a quiet NaN, as the comparisons of the
 * definition do with a bound on their right. */
#ifndef KP_KERNELS_NEON_MATH_I8_NEON_H
#define KP_KERNELS_NEON_MATH_I8_NEON_H

#include <string.h>

#include "kernels/neon/math_neon.h"

/* FMLA's addend is its destination, so Horner's rule needs a fresh copy of each coefficient. A copy from a register
 * takes a slot in the vector pipes, which are the bottleneck here; a load takes none. `volatile` keeps compilers from
 * turning the loads into copies. */
#define KP_FOUR(x) \
  { x, x, x, x }

static const volatile float32x4_t kp_silu_i8_addends_neon[8] = {
    KP_FOUR(KP_SILU_I8_C8), KP_FOUR(KP_SILU_I8_C7), KP_FOUR(KP_SILU_I8_C6), KP_FOUR(KP_SILU_I8_C5),
    KP_FOUR(KP_SILU_I8_C4), KP_FOUR(KP_SILU_I8_C3), KP_FOUR(KP_SILU_I8_C2), KP_FOUR(KP_SILU_I8_C1)};
static const volatile float32x4_t kp_gelu_i8_addends_neon[8] = {
    KP_FOUR(KP_GELU_I8_C8), KP_FOUR(KP_GELU_I8_C7), KP_FOUR(KP_GELU_I8_C6), KP_FOUR(KP_GELU_I8_C5),
    KP_FOUR(KP_GELU_I8_C4), KP_FOUR(KP_GELU_I8_C3), KP_FOUR(KP_GELU_I8_C2), KP_FOUR(KP_GELU_I8_C1)};

/* In place, n <= 4 vectors side by side, which hide each other's latencies: max(x, 0) - U(min(|x|, limit)), where U has
 * `first` for its last coefficient and `addends` for those before it. */
KP_SPECIALIZED void kp_relu_less_polynomial_neon(float32x4_t *x, size_t n, float limit, float first,
                                                 const volatile float32x4_t addends[8]) {
  float32x4_t a[4], u[4], sum[4];
  KP_UNROLL
  for (size_t v = 0; v < n; v++) a[v] = vabsq_f32(x[v]);
  KP_UNROLL
  for (size_t v = 0; v < n; v++) {
    a[v] = vminnmq_f32(a[v], vdupq_n_f32(limit));
    u[v] = vdupq_n_f32(first);
    sum[v] = addends[0];
  }
  KP_UNROLL
  for (size_t i = 1; i <= 8; i++) {
    KP_UNROLL
    for (size_t v = 0; v < n; v++) {
      u[v] = vfmaq_f32(sum[v], u[v], a[v]);
      if (i < 8) sum[v] = addends[i];
    }
  }
  KP_UNROLL
  for (size_t v = 0; v < n; v++) x[v] = vmaxnmq_f32(x[v], vdupq_n_f32(0.0f));
  KP_UNROLL
  for (size_t v = 0; v < n; v++) x[v] = vfmsq_f32(x[v], u[v], a[v]);
}

KP_SPECIALIZED void kp_silu_i8_neon(float32x4_t *x, size_t n) {
  kp_relu_less_polynomial_neon(x, n, KP_SILU_I8_LIMIT, KP_SILU_I8_C9, kp_silu_i8_addends_neon);
}

KP_SPECIALIZED void kp_gelu_i8_neon(float32x4_t *x, size_t n) {
  kp_relu_less_polynomial_neon(x, n, KP_GELU_I8_LIMIT, KP_GELU_I8_C9, kp_gelu_i8_addends_neon);
}

/* The activation of an int8 epilogue, in place on n <= 4 vectors. */
KP_SPECIALIZED void kp_apply_act_i8_neon(kp_act act, float32x4_t *x, size_t n) {
  if (act == KP_ACT(KP_SILU)) {
    kp_silu_i8_neon(x, n);
  } else if (act == KP_ACT(KP_GELU)) {
    kp_gelu_i8_neon(x, n);
  } else {
    KP_UNROLL
    for (size_t v = 0; v < n; v++) x[v] = kp_apply_act_f32_neon(act, x[v]);
  }
}

/* q[v] = quantize(y[v], inverse[v], ..) for n <= 4 vectors: the low byte of each lane. */
KP_SPECIALIZED void kp_quantize_f32_neon(uint32x4_t *q, const float32x4_t *y, const float32x4_t *inverse,
                                         const float *shift, size_t n) {
  float32x4_t t[4];
  KP_UNROLL
  for (size_t v = 0; v < n; v++) t[v] = vld1q_f32(shift + 4 * v);
  KP_UNROLL
  for (size_t v = 0; v < n; v++) t[v] = vfmaq_f32(t[v], y[v], inverse[v]);
  KP_UNROLL
  for (size_t v = 0; v < n; v++) t[v] = vmaxnmq_f32(t[v], vdupq_n_f32(KP_ROUNDING_SHIFT - 128.0f));
  KP_UNROLL
  for (size_t v = 0; v < n; v++) {
    q[v] = vreinterpretq_u32_f32(vminnmq_f32(t[v], vdupq_n_f32(KP_ROUNDING_SHIFT + 127.0f)));
  }
}

/* The low bytes of n <= 4 vectors of 32-bit lanes, to 4 n bytes at dst. */
KP_SPECIALIZED void kp_store_low_bytes_neon(int8_t *dst, const uint32x4_t *x, size_t n) {
  if (n == 4) {
    const uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(x[0]), vreinterpretq_u16_u32(x[1]));
    const uint16x8_t high = vuzp1q_u16(vreinterpretq_u16_u32(x[2]), vreinterpretq_u16_u32(x[3]));
    vst1q_s8(dst, vreinterpretq_s8_u8(vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high))));
    return;
  }
  KP_UNROLL
  for (size_t v = 0; v < n; v++) {
    const uint16x4_t halves = vmovn_u32(x[v]);
    const uint8x8_t bytes = vuzp1_u8(vreinterpret_u8_u16(halves), vreinterpret_u8_u16(halves));
    const uint32_t word = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    memcpy(dst + 4 * v, &word, sizeof word);
  }
}

/* n < 16 bytes, then zeros. Overlapping words keep it free of loops. */
KP_SPECIALIZED int8x16_t kp_load_part_s8_neon(const int8_t *src, size_t n) {
  uint64_t low = 0, high = 0;
  if (n >= 8) {
    memcpy(&low, src, 8);
    if (n > 8) {
      memcpy(&high, src + n - 8, 8);
      high >>= 8 * (16 - n);
    }
  } else if (n >= 4) {
    uint32_t first, last;
    memcpy(&first, src, 4);
    memcpy(&last, src + n - 4, 4);
    low = first | (uint64_t)last << 8 * (n - 4);
  } else if (n > 0) {
    low = (uint64_t)(uint8_t)src[0] | (uint64_t)(uint8_t)src[n / 2] << 8 * (n / 2) |
          (uint64_t)(uint8_t)src[n - 1] << 8 * (n - 1);
  }
  return vcombine_s8(vcreate_s8(low), vcreate_s8(high));
}

#endif /* KP_KERNELS_NEON_MATH_I8_NEON_H */

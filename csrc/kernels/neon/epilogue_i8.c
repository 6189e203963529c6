/* The source has vectors side by side, and loads before they are needed. gcc's first scheduler, which runs before
 * registers are allocated, would keep more alive than there are registers. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#include "kernels/neon/epilogue_i8_neon.h"

#include "kernels/neon/math_i8_neon.h"

typedef struct tile {
  const kp_epilogue_i8 *epilogue;
  const int32_t *acc;
  size_t row, column, rows, columns;
} tile;

/* `count` <= 4 floats. */
static float32x4_t load_part(const float *src, size_t count) {
  float padded[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  memcpy(padded, src, count * sizeof *src);
  return vld1q_f32(padded);
}

/* y + residual of `count` columns: 16 in 4 vectors, or up to 4 in one. */
KP_SPECIALIZED void add_residual_f32(float32x4_t *y, const float *residual, size_t vectors, size_t count) {
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const float32x4_t x = count < 4 ? load_part(residual, count) : vld1q_f32(residual + 4 * v);
    y[v] = vaddq_f32(y[v], x);
  }
}

KP_SPECIALIZED void add_residual_i8(float32x4_t *y, const int8_t *residual, const int32_t *zero, const float *scale,
                                    size_t vectors, size_t count) {
  int8x16_t bytes;
  if (vectors == 4) {
    bytes = vld1q_s8(residual);
  } else {
    uint32_t word = 0;
    memcpy(&word, residual, count);
    bytes = vreinterpretq_s8_u32(vdupq_n_u32(word));
  }
  int16x8_t halves[2];
  halves[0] = vmovl_s8(vget_low_s8(bytes));
  halves[1] = vmovl_high_s8(bytes);
  int32x4_t difference[4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const int16x4_t half = v % 2 ? vget_high_s16(halves[v / 2]) : vget_low_s16(halves[v / 2]);
    difference[v] = vmovl_s16(half);
  }
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) difference[v] = vsubq_s32(difference[v], vld1q_s32(zero + 4 * v));
  float32x4_t x[4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) x[v] = vcvtq_f32_s32(difference[v]);
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) y[v] = vfmaq_f32(y[v], x[v], vld1q_f32(scale + 4 * v));
}

KP_SPECIALIZED void store_f32(float *dst, const float32x4_t *y, size_t vectors, size_t count) {
  if (count < 4) {
    memcpy(dst, &y[0], count * sizeof *dst);
    return;
  }
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) vst1q_f32(dst + 4 * v, y[v]);
}

KP_SPECIALIZED void store_i8(int8_t *dst, const uint32x4_t *q, size_t vectors, size_t count) {
  if (count >= 4) {
    kp_store_low_bytes_neon(dst, q, vectors);
    return;
  }
  int8_t word[4];
  kp_store_low_bytes_neon(word, q, 1);
  memcpy(dst, word, count);
}

/* `count` columns of the tile from its column c on: 16 in 4 vectors, or up to 4 in one. */
KP_SPECIALIZED void finish(const tile *t, size_t c, size_t vectors, size_t count, kp_act act) {
  const kp_epilogue_i8 *e = t->epilogue;
  const size_t column = t->column + c;
  float32x4_t scale[4], inverse[4];
  int32x4_t sum[4];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    sum[v] = e->row_scale ? vld1q_s32(e->column_sum + column + 4 * v) : vdupq_n_s32(0);
    scale[v] = vld1q_f32(e->scale + column + 4 * v);
    inverse[v] = e->dst_i8 ? vld1q_f32(e->quantizer.inverse + column + 4 * v) : scale[v];
  }
  for (size_t r = 0; r < t->rows; r++) {
    const size_t row = t->row + r;
    float32x4_t acc[4], y[4];
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      int32x4_t x = vld1q_s32(t->acc + r * KP_TILE_COLUMNS + c + 4 * v);
      if (e->row_scale) x = vmlsq_n_s32(x, sum[v], e->row_zero[row]);
      acc[v] = vcvtq_f32_s32(x);
      y[v] = vld1q_f32(e->bias + column + 4 * v);
    }
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      y[v] = vfmaq_f32(y[v], acc[v], e->row_scale ? vmulq_n_f32(scale[v], e->row_scale[row]) : scale[v]);
    }
    kp_apply_act_i8_neon(act, y, vectors);
    const size_t residual = row * e->residual_stride + column;
    if (e->residual_f32) add_residual_f32(y, e->residual_f32 + residual, vectors, count);
    if (e->residual_i8) {
      add_residual_i8(y, e->residual_i8 + residual, e->residual_zero + column, e->residual_scale + column, vectors,
                      count);
    }
    const size_t dst = row * e->dst_stride + column;
    if (e->dst_f32) {
      store_f32(e->dst_f32 + dst, y, vectors, count);
      continue;
    }
    uint32x4_t q[4];
    kp_quantize_f32_neon(q, y, inverse, e->quantizer.shift + column, vectors);
    store_i8(e->dst_i8 + dst, q, vectors, count);
  }
}

/* The usual epilogues of a whole tile: int8 outputs, as a convolution's, and float32 outputs with row scales, as a
 * linear layer's. A copy in which what is not used is a constant leaves no tests in the loop. Functions of their own,
 * so that each has the registers to itself. */
KP_SPECIALIZED void finish_i8(const tile *t, bool residual, kp_act act) {
  const kp_epilogue_i8 *e = t->epilogue;
  kp_epilogue_i8 copy = {
      .scale = e->scale, .bias = e->bias, .dst_i8 = e->dst_i8, .dst_stride = e->dst_stride, .quantizer = e->quantizer};
  if (residual) {
    copy.residual_i8 = e->residual_i8;
    copy.residual_stride = e->residual_stride;
    copy.residual_zero = e->residual_zero;
    copy.residual_scale = e->residual_scale;
  }
  const tile known = {&copy, t->acc, t->row, t->column, t->rows, t->columns};
  if (copy.dst_i8 && (!residual || copy.residual_i8)) finish(&known, 0, 4, KP_TILE_COLUMNS, act);
}

KP_SPECIALIZED void finish_f32(const tile *t, bool residual, kp_act act) {
  const kp_epilogue_i8 *e = t->epilogue;
  kp_epilogue_i8 copy = {.scale = e->scale,
                         .bias = e->bias,
                         .row_scale = e->row_scale,
                         .row_zero = e->row_zero,
                         .column_sum = e->column_sum,
                         .dst_f32 = e->dst_f32,
                         .dst_stride = e->dst_stride};
  if (residual) {
    copy.residual_f32 = e->residual_f32;
    copy.residual_stride = e->residual_stride;
  }
  const tile known = {&copy, t->acc, t->row, t->column, t->rows, t->columns};
  if (copy.dst_f32 && copy.row_scale && (!residual || copy.residual_f32)) finish(&known, 0, 4, KP_TILE_COLUMNS, act);
}

typedef void finish_usual(const tile *t);

#define USUAL(name, to, residual, act) \
  static __attribute__((noinline)) void name(const tile *t) { to(t, residual, act); }

USUAL(plain_i8, finish_i8, false, KP_ACT_NONE)
USUAL(relu_i8, finish_i8, false, KP_ACT(KP_RELU))
USUAL(hardswish_i8, finish_i8, false, KP_ACT(KP_HARDSWISH))
USUAL(silu_i8, finish_i8, false, KP_ACT(KP_SILU))
USUAL(gelu_i8, finish_i8, false, KP_ACT(KP_GELU))
USUAL(residual_i8, finish_i8, true, KP_ACT_NONE)
USUAL(plain_f32, finish_f32, false, KP_ACT_NONE)
USUAL(silu_f32, finish_f32, false, KP_ACT(KP_SILU))
USUAL(gelu_f32, finish_f32, false, KP_ACT(KP_GELU))
USUAL(residual_f32, finish_f32, true, KP_ACT_NONE)

/* NULL: not a usual one. */
static finish_usual *usual(const tile *t) {
  const kp_epilogue_i8 *e = t->epilogue;
  if (t->columns < KP_TILE_COLUMNS) return NULL;
  if (e->dst_i8 && !e->row_scale && !e->residual_f32) {
    if (e->residual_i8) return e->act == KP_ACT_NONE ? residual_i8 : NULL;
    switch (e->act) {
      case KP_ACT_NONE:
        return plain_i8;
      case KP_ACT(KP_RELU):
        return relu_i8;
      case KP_ACT(KP_HARDSWISH):
        return hardswish_i8;
      case KP_ACT(KP_SILU):
        return silu_i8;
      case KP_ACT(KP_GELU):
        return gelu_i8;
      default:
        return NULL;
    }
  }
  if (e->dst_f32 && e->row_scale && !e->residual_i8) {
    if (e->residual_f32) return e->act == KP_ACT_NONE ? residual_f32 : NULL;
    switch (e->act) {
      case KP_ACT_NONE:
        return plain_f32;
      case KP_ACT(KP_SILU):
        return silu_f32;
      case KP_ACT(KP_GELU):
        return gelu_f32;
      default:
        return NULL;
    }
  }
  return NULL;
}

KP_SPECIALIZED void finish_narrow(const tile *t, kp_act act) {
  for (size_t c = 0; c < t->columns; c += 4) finish(t, c, 1, t->columns - c < 4 ? t->columns - c : 4, act);
}

void kp_epilogue_i8_neon(const kp_epilogue_i8 *epilogue, const int32_t *acc, size_t row, size_t column, size_t rows,
                         size_t columns) {
  const tile t = {epilogue, acc, row, column, rows, columns};
  finish_usual *finish_tile = usual(&t);
  if (finish_tile) {
    finish_tile(&t);
    return;
  }
  switch (epilogue->act) {
    case KP_ACT(KP_RELU):
      finish_narrow(&t, KP_ACT(KP_RELU));
      break;
    case KP_ACT(KP_RELU6):
      finish_narrow(&t, KP_ACT(KP_RELU6));
      break;
    case KP_ACT(KP_HARDSWISH):
      finish_narrow(&t, KP_ACT(KP_HARDSWISH));
      break;
    case KP_ACT(KP_HARDSIGMOID):
      finish_narrow(&t, KP_ACT(KP_HARDSIGMOID));
      break;
    case KP_ACT(KP_SIGMOID):
      finish_narrow(&t, KP_ACT(KP_SIGMOID));
      break;
    case KP_ACT(KP_SILU):
      finish_narrow(&t, KP_ACT(KP_SILU));
      break;
    case KP_ACT(KP_GELU):
      finish_narrow(&t, KP_ACT(KP_GELU));
      break;
    case KP_ACT(KP_GELU_TANH):
      finish_narrow(&t, KP_ACT(KP_GELU_TANH));
      break;
    case KP_ACT(KP_QUICK_GELU):
      finish_narrow(&t, KP_ACT(KP_QUICK_GELU));
      break;
    case KP_ACT(KP_TANH):
      finish_narrow(&t, KP_ACT(KP_TANH));
      break;
    case KP_ACT(KP_EXP):
      finish_narrow(&t, KP_ACT(KP_EXP));
      break;
    case KP_ACT(KP_SQRT):
      finish_narrow(&t, KP_ACT(KP_SQRT));
      break;
    default:
      finish_narrow(&t, KP_ACT_NONE);
      break;
  }
}

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
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    const int16x4_t half = v % 2 ? vget_high_s16(halves[v / 2]) : vget_low_s16(halves[v / 2]);
    const int32x4_t difference = vsubq_s32(vmovl_s16(half), vld1q_s32(zero + 4 * v));
    y[v] = vfmaq_f32(y[v], vcvtq_f32_s32(difference), vld1q_f32(scale + 4 * v));
  }
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
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    scale[v] = vld1q_f32(e->scale + column + 4 * v);
    inverse[v] = e->dst_i8 ? vld1q_f32(e->quantizer.inverse + column + 4 * v) : scale[v];
  }
  for (size_t r = 0; r < t->rows; r++) {
    const size_t row = t->row + r;
    float32x4_t acc[4], y[4];
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      acc[v] = vcvtq_f32_s32(vld1q_s32(t->acc + r * KP_TILE_COLUMNS + c + 4 * v));
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

KP_SPECIALIZED void finish_wide(const tile *t, kp_act act) { finish(t, 0, 4, KP_TILE_COLUMNS, act); }

KP_SPECIALIZED bool finish_wide_by_act(const tile *t) {
  switch (t->epilogue->act) {
    case KP_ACT_NONE:
      finish_wide(t, KP_ACT_NONE);
      return true;
    case KP_ACT(KP_RELU):
      finish_wide(t, KP_ACT(KP_RELU));
      return true;
    case KP_ACT(KP_HARDSWISH):
      finish_wide(t, KP_ACT(KP_HARDSWISH));
      return true;
    case KP_ACT(KP_SILU):
      finish_wide(t, KP_ACT(KP_SILU));
      return true;
    case KP_ACT(KP_GELU):
      finish_wide(t, KP_ACT(KP_GELU));
      return true;
    default:
      return false;
  }
}

/* The usual epilogues of a whole tile; false for any other. A copy in which what is not used is a constant leaves no
 * tests in the loops. */
static bool finish_usual(const tile *t) {
  const kp_epilogue_i8 *e = t->epilogue;
  if (t->columns < KP_TILE_COLUMNS) return false;
  kp_epilogue_i8 copy = {.scale = e->scale,
                         .bias = e->bias,
                         .act = e->act,
                         .residual_stride = e->residual_stride,
                         .dst_stride = e->dst_stride};
  const tile known = {&copy, t->acc, t->row, t->column, t->rows, t->columns};
  if (e->dst_i8 && !e->row_scale && !e->residual_f32) {
    copy.dst_i8 = e->dst_i8;
    copy.quantizer = e->quantizer;
    if (!e->residual_i8) return finish_wide_by_act(&known);
    copy.residual_i8 = e->residual_i8;
    copy.residual_zero = e->residual_zero;
    copy.residual_scale = e->residual_scale;
  } else if (e->dst_f32 && e->row_scale && !e->residual_i8) {
    copy.dst_f32 = e->dst_f32;
    copy.row_scale = e->row_scale;
    if (!e->residual_f32) return finish_wide_by_act(&known);
    copy.residual_f32 = e->residual_f32;
  } else {
    return false;
  }
  if (e->act != KP_ACT_NONE) return false;
  finish_wide(&known, KP_ACT_NONE);
  return true;
}

KP_SPECIALIZED void finish_narrow(const tile *t, kp_act act) {
  for (size_t c = 0; c < t->columns; c += 4) finish(t, c, 1, t->columns - c < 4 ? t->columns - c : 4, act);
}

void kp_epilogue_i8_neon(const kp_epilogue_i8 *epilogue, const int32_t *acc, size_t row, size_t column, size_t rows,
                         size_t columns) {
  const tile t = {epilogue, acc, row, column, rows, columns};
  if (finish_usual(&t)) return;
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

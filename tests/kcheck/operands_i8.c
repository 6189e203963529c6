#include "operands_i8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

size_t kc_padded(size_t n) { return (n + KP_COLUMN_PAD - 1) / KP_COLUMN_PAD * KP_COLUMN_PAD; }

/* `count` 32-bit elements by column: any bits, of which the caller sets the first ones. */
static void *columns_32(kc *k, size_t count) {
  const size_t padded = kc_padded(count);
  uint32_t *data = kc_bytes(k, padded * sizeof *data);
  for (size_t i = 0; i < padded; i++) data[i] = (uint32_t)kc_random(k);
  return data;
}

float *kc_column_floats(kc *k, size_t n, kc_fill fill) {
  float *data = columns_32(k, n);
  kc_fill_floats(k, data, n, fill);
  return data;
}

static int32_t random_int(kc *k, int32_t low, int32_t high) {
  return low + (int32_t)kc_random_size(k, 0, (size_t)((int64_t)high - low));
}

int32_t *kc_zero_points(kc *k, size_t n) {
  int32_t *data = columns_32(k, n);
  for (size_t i = 0; i < n; i++) data[i] = random_int(k, -128, 127);
  return data;
}

/* One of the powers of two from 2^low to 2^high. */
static float power_of_two(kc *k, int low, int high) {
  const int exponent = (int)random_int(k, low, high);
  return exponent < 0 ? 1.0f / (float)(1 << -exponent) : (float)(1 << exponent);
}

/* ---- Operands --------------------------------------------------------------------------------------------------- */

int8_t *kc_random_i8(kc *k, size_t n) {
  int8_t *data = kc_bytes(k, n);
  for (size_t i = 0; i < n; i++) data[i] = (int8_t)random_int(k, -128, 127);
  return data;
}

static int8_t clamp(int32_t x, int32_t low, int32_t high) { return (int8_t)(x < low ? low : x > high ? high : x); }

int8_t *kc_activations(kc *k, kc_values_i8 values, const int8_t *zero_points, size_t rows, size_t stride,
                       size_t columns) {
  const size_t size = rows > 0 ? (rows - 1) * stride + columns : 0;
  int8_t *data = kc_random_i8(k, size);
  const int8_t constant = kc_random(k) & 1 ? 127 : -128;
  for (size_t i = 0; i < size; i++) {
    if (values == KC_ENDS) data[i] = data[i] < 0 ? -128 : 127;
    if (values == KC_ALL_EQUAL) data[i] = constant;
    if (values == KC_TIES && i % stride < columns) {
      data[i] = clamp(zero_points[i % stride] + random_int(k, -1, 1), -128, 127);
    }
  }
  return data;
}

void kc_fill_weights(kc *k, kc_values_i8 values, int8_t *dst, size_t n) {
  const int8_t constant = kc_random(k) & 1 ? 127 : -127;
  for (size_t i = 0; i < n; i++) {
    dst[i] = (int8_t)random_int(k, -127, 127);
    if (values == KC_ENDS) dst[i] = dst[i] < 0 ? -127 : 127;
    if (values == KC_ALL_EQUAL) dst[i] = constant;
    if (values == KC_TIES) dst[i] = (int8_t)random_int(k, -1, 1);
  }
}

const int8_t **kc_taps_i8(kc *k, size_t count, const int8_t *source, size_t rows, size_t stride,
                          const int8_t *padding) {
  const int8_t **taps = kc_bytes(k, count * sizeof *taps);
  for (size_t i = 0; i < count; i++) {
    taps[i] = kc_random(k) % 4 == 0 ? padding : source + kc_random_size(k, 0, rows - 1) * stride;
  }
  return taps;
}

const int8_t **kc_window_i8(kc *k, size_t side, const int8_t *source, size_t channels, const int8_t *padding) {
  const int8_t **taps = kc_bytes(k, side * side * 9 * sizeof *taps);
  for (size_t i = 0; i < side * side * 9; i++) {
    const size_t pixel = i / 9, tap = i % 9;
    /* One more than the position, so that it stays unsigned. */
    const size_t y = pixel / side + tap / 3, x = pixel % side + tap % 3;
    const bool inside = y >= 1 && y <= side && x >= 1 && x <= side;
    taps[i] = inside ? source + ((y - 1) * side + x - 1) * channels : padding;
  }
  return taps;
}

/* ---- Epilogues -------------------------------------------------------------------------------------------------- */

kc_epilogue_plan kc_plan_epilogue(kc *k, size_t index, size_t columns, bool row_scale_allowed) {
  static const char *const value_names[] = {
      "ordinary", "at ties", "near ties", "at the ends", "all as large as can be", "large sums", "adversarial"};
  static const char *const residual_names[] = {"none", "f32", "i8", "in place"};
  const size_t spread = kc_random(k) & 1;
  kc_epilogue_plan plan = {
      .values = (kc_values_i8)(kc_random(k) % KC_VALUES_I8_COUNT),
      .dst_i8 = index % 2,
      .residual = (kc_residual_i8)(index / 2 % KC_RESIDUAL_I8_COUNT),
      .act = (kp_act)(index / (2 * KC_RESIDUAL_I8_COUNT) % (KP_UNARY_COUNT + 1)),
      .row_scale = row_scale_allowed && kc_random(k) & 1,
      .dst_stride = columns + spread * kc_random_size(k, 0, 20),
      .residual_stride = columns + spread * kc_random_size(k, 0, 20),
  };
  if (plan.values == KC_NEAR_TIES && kc_random(k) & 1) plan.act = KP_ACT_NONE; /* which keeps them */
  if (plan.residual == KC_RESIDUAL_IN_PLACE) plan.residual_stride = plan.dst_stride;
  snprintf(plan.name, sizeof plan.name, "%s, act %s, dst %s stride %zu, residual %s stride %zu, row_scale %d",
           value_names[plan.values], kc_act_name(plan.act), plan.dst_i8 ? "i8" : "f32", plan.dst_stride,
           residual_names[plan.residual], plan.residual_stride, plan.row_scale);
  return plan;
}

/* `count` positive scales around `typical`. */
static void fill_scales(kc *k, kc_values_i8 values, float *dst, size_t count, float typical) {
  if (values == KC_ADVERSARIAL) kc_fill_floats(k, dst, count, KC_FINITE);
  for (size_t i = 0; values != KC_ADVERSARIAL && i < count; i++) {
    dst[i] = values == KC_TIES ? power_of_two(k, -2, 1) : kc_random_float(k, 0.25f, 2.0f) * typical;
  }
}

/* Biases and residuals. */
static void fill_terms(kc *k, kc_values_i8 values, float *dst, size_t count) {
  kc_fill_floats(k, dst, count, values == KC_ADVERSARIAL ? KC_FINITE : KC_UNIFORM);
  for (size_t i = 0; i < count; i++) {
    if (values == KC_TIES) dst[i] = 0.5f * (float)random_int(k, -20, 20);
    if (values == KC_ADVERSARIAL && kc_random(k) % 8 == 0) {
      static const float rare[] = {INFINITY, -INFINITY, NAN, -0.0f};
      dst[i] = rare[kc_random(k) % 4];
    }
  }
}

/* The float nearest to the y of a tie. */
static void fill_near_ties(kc *k, float *dst, size_t count, size_t stride, size_t columns, const float *inverse) {
  for (size_t i = 0; i < count; i++) {
    if (i % stride < columns) dst[i] = (float)(((double)random_int(k, -130, 130) + 0.5) / (double)inverse[i % stride]);
  }
}

kp_quantizer kc_quantizer(kc *k, kc_values_i8 values, size_t columns, float high) {
  float *inverse = columns_32(k, columns), *shift = columns_32(k, columns);
  fill_scales(k, values, inverse, columns, 128.0f / high);
  for (size_t c = 0; c < columns; c++) shift[c] = KP_ROUNDING_SHIFT + (float)random_int(k, -128, 127);
  return (kp_quantizer){inverse, shift};
}

/* Zero points of rows, and sums of columns: any that weights could have, whatever the weights. */
static void fill_row_zeros(kc *k, kp_epilogue_i8 *e, kc_values_i8 values, size_t rows, size_t columns,
                           double magnitude) {
  int32_t *row_zero = kc_bytes(k, rows * sizeof *row_zero), *column_sum = columns_32(k, columns);
  const bool ends = values == KC_ENDS || values == KC_ALL_EQUAL;
  const int32_t sum_end = values == KC_LARGE_SUMS ? 127 * 32768 : values == KC_TIES ? 4 : 1 + (int32_t)(magnitude / 64);
  for (size_t r = 0; r < rows; r++) {
    row_zero[r] = values == KC_TIES ? random_int(k, -1, 1) : random_int(k, -128, 127);
    if (ends) row_zero[r] = row_zero[r] < 0 ? -128 : 127;
  }
  for (size_t c = 0; c < columns; c++) column_sum[c] = random_int(k, -sum_end, sum_end);
  e->row_zero = row_zero;
  e->column_sum = column_sum;
}

kc_epilogue_pair kc_epilogues(kc *k, const kc_epilogue_plan *plan, size_t rows, size_t columns, double magnitude) {
  const kc_values_i8 values = plan->values;
  const bool large = values == KC_LARGE_SUMS || (values == KC_ADVERSARIAL && kc_random(k) & 1);
  const int32_t offset_end = large ? 1 << 30 : values == KC_TIES ? 4 : 1 + (int32_t)magnitude;
  const float typical = 3.0f / (float)(large ? 0x1p30 : magnitude);
  const size_t size = rows > 0 ? (rows - 1) * plan->dst_stride + columns : 0;
  const size_t residual_size = rows > 0 ? (rows - 1) * plan->residual_stride + columns : 0;

  kc_epilogue_pair pair = {.size = size};
  int32_t *offset = pair.expected_offset = columns_32(k, columns);
  for (size_t c = 0; c < columns; c++) offset[c] = random_int(k, -offset_end, offset_end);
  pair.got_offset = columns_32(k, columns);
  memcpy(pair.got_offset, offset, kc_padded(columns) * sizeof *offset);

  float *scale = columns_32(k, columns), *bias = columns_32(k, columns);
  fill_scales(k, values, scale, columns, typical);
  fill_terms(k, values, bias, columns);
  if (values == KC_NEAR_TIES) memset(scale, 0, columns * sizeof *scale);
  kp_epilogue_i8 *e = &pair.expected;
  *e = (kp_epilogue_i8){.scale = scale, .bias = bias, .act = plan->act, .dst_stride = plan->dst_stride};
  if (plan->row_scale) {
    float *row_scale = kc_bytes(k, rows * sizeof *row_scale);
    fill_scales(k, values, row_scale, rows, 1.0f);
    e->row_scale = row_scale;
    fill_row_zeros(k, e, values, rows, columns, magnitude);
  }

  void *expected = NULL, *got = NULL;
  if (plan->dst_i8) {
    e->dst_i8 = expected = kc_random_i8(k, size);
    got = kc_bytes(k, size);
    memcpy(got, expected, size);
    e->quantizer = kc_quantizer(k, values, columns, 6.0f);
    if (values == KC_NEAR_TIES) fill_near_ties(k, bias, columns, columns, columns, e->quantizer.inverse);
  } else {
    e->dst_f32 = expected = kc_bytes(k, size * sizeof(float));
    fill_terms(k, values, e->dst_f32, size);
    got = kc_copy_floats(k, e->dst_f32, size);
  }

  const bool in_place = plan->residual == KC_RESIDUAL_IN_PLACE;
  if (plan->residual == KC_RESIDUAL_F32) {
    float *residual = kc_bytes(k, residual_size * sizeof *residual);
    fill_terms(k, values, residual, residual_size);
    e->residual_f32 = residual;
    if (values == KC_NEAR_TIES && plan->dst_i8) {
      fill_near_ties(k, residual, residual_size, plan->residual_stride, columns, e->quantizer.inverse);
      memset(bias, 0, columns * sizeof *bias);
    }
  } else if (plan->residual == KC_RESIDUAL_I8) {
    e->residual_i8 = kc_random_i8(k, residual_size);
  } else if (in_place) {
    e->residual_f32 = e->dst_f32;
    e->residual_i8 = e->dst_i8;
  }
  if (plan->residual != KC_RESIDUAL_NONE) e->residual_stride = plan->residual_stride;
  if (e->residual_i8) {
    float *residual_scale = columns_32(k, columns);
    fill_scales(k, values, residual_scale, columns, 0.02f);
    e->residual_scale = residual_scale;
    e->residual_zero = kc_zero_points(k, columns);
  }

  pair.got = pair.expected;
  pair.expected.offset = pair.expected_offset;
  pair.got.offset = pair.got_offset;
  if (plan->dst_i8) pair.got.dst_i8 = got;
  if (!plan->dst_i8) pair.got.dst_f32 = got;
  if (in_place && plan->dst_i8) pair.got.residual_i8 = got;
  if (in_place && !plan->dst_i8) pair.got.residual_f32 = got;
  return pair;
}

kp_epilogue_i8 kc_act_epilogue(kc *k, kp_act act, const float *x, size_t columns) {
  int32_t *offset = columns_32(k, columns);
  float *scale = columns_32(k, columns);
  for (size_t c = 0; c < columns; c++) {
    offset[c] = 0;
    scale[c] = -1.0f; /* so that an x of -0 stays -0 */
  }
  return (kp_epilogue_i8){.offset = offset,
                          .scale = scale,
                          .bias = x,
                          .act = act,
                          .dst_f32 = kc_floats(k, columns, KC_UNIFORM),
                          .dst_stride = columns};
}

kp_gemm_i8_args kc_act_gemm(kc *k, const kp_gemm_i8 *gemm, kp_act act, const float *x, size_t columns) {
  const size_t bytes = (columns + gemm->nr - 1) / gemm->nr * gemm->nr * gemm->kr;
  int8_t *b = kc_bytes(k, (bytes + 63) / 64 * 64);
  memset(b, 0, bytes);
  return (kp_gemm_i8_args){.rows = 1,
                           .columns = columns,
                           .a = kc_random_i8(k, 1),
                           .a_stride = 1,
                           .tap_count = 1,
                           .depth = 1,
                           .b = b,
                           .epilogue = kc_act_epilogue(k, act, x, columns)};
}

float *kc_sweep(kc *k) {
  float *x = kc_column_floats(k, KC_SWEEP, KC_ANY);
  uint32_t bits = (uint32_t)kc_random(k);
  for (size_t i = KC_SWEEP_SPECIAL; i < KC_SWEEP; i++, bits += 65521) memcpy(&x[i], &bits, sizeof bits);
  return x;
}

bool kc_equal_epilogues(kc *k, const kc_epilogue_pair *pair) {
  if (pair->expected.dst_i8) return kc_equal(k, pair->expected.dst_i8, pair->got.dst_i8, pair->size, 1);
  return kc_equal_floats(k, pair->expected.dst_f32, pair->got.dst_f32, pair->size);
}

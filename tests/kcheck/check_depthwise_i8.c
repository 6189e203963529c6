/* depthwise_i8. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "operands_i8.h"

/* Rows of pixels that share as many taps as chance has it. */
static void check_one(kc *k, size_t most_pixels, size_t tap_count, size_t channels, size_t plan_index) {
  static const size_t columns[] = {3, 5, 1};
  const size_t width = most_pixels > 0 ? kc_random_size(k, 1, most_pixels) : kc_random_size(k, 0, 3);
  const size_t rows = width > 0 ? most_pixels / width : 1, pixels = rows * width;
  const size_t column = columns[kc_random(k) % 3];
  const size_t pixel_step = tap_count % column == 0 && kc_random(k) & 1 ? column : kc_random_size(k, 1, tap_count);
  const size_t row_step = width * pixel_step + tap_count;
  const kc_epilogue_plan plan = kc_plan_epilogue(k, plan_index, channels, false);
  const size_t stride = channels + (kc_random(k) & 1 ? kc_random_size(k, 1, 70) : 0), source_rows = 12;
  kc_case(k, "%zu rows of %zu pixels, %zu taps, %zu apart, %zu channels %zu apart, %s", rows, width, tap_count,
          pixel_step, channels, stride, plan.name);
  const int8_t *zero_points = kc_random_i8(k, channels); /* which is also the padding pixel */
  const int8_t *source = kc_activations(k, plan.values, zero_points, source_rows, stride, channels);
  const size_t weight_stride = kc_padded(channels);
  int8_t *weights = kc_random_i8(k, tap_count * weight_stride);
  for (size_t t = 0; t < tap_count; t++) kc_fill_weights(k, plan.values, weights + t * weight_stride, channels);
  const kc_epilogue_pair pair = kc_epilogues(k, &plan, pixels, channels, 7000.0 * sqrt((double)tap_count));
  for (size_t i = 0; i < tap_count * channels; i++) {
    const int32_t term = zero_points[i % channels] * weights[i / channels * weight_stride + i % channels];
    pair.expected_offset[i % channels] -= term;
    pair.got_offset[i % channels] -= term;
  }
  kp_depthwise_i8_args args = {.rows = rows,
                               .width = width,
                               .tap_count = tap_count,
                               .channels = channels,
                               .taps = kc_taps_i8(k, rows * row_step, source, source_rows, stride, zero_points),
                               .pixel_step = pixel_step,
                               .row_step = row_step,
                               .weights = weights,
                               .weight_stride = weight_stride,
                               .epilogue = pair.expected};
  kc_reference(k)->depthwise_i8(&args);
  args.epilogue = pair.got;
  kc_tested(k)->depthwise_i8(&args);
  kc_equal_epilogues(k, &pair);
}

static void check_sweep(kc *k, kp_act act) {
  kc_case(k, "act %s, a sweep of bit patterns", kc_act_name(act));
  const int8_t *const source = kc_random_i8(k, KC_SWEEP);
  int8_t *weights = kc_bytes(k, kc_padded(KC_SWEEP));
  memset(weights, 0, KC_SWEEP);
  const float *x = kc_sweep(k);
  kp_depthwise_i8_args args = {.rows = 1,
                               .width = 1,
                               .tap_count = 1,
                               .channels = KC_SWEEP,
                               .taps = &source,
                               .pixel_step = 1,
                               .row_step = 1,
                               .weights = weights,
                               .weight_stride = kc_padded(KC_SWEEP),
                               .epilogue = kc_act_epilogue(k, act, x, KC_SWEEP)};
  const float *expected = args.epilogue.dst_f32;
  kc_reference(k)->depthwise_i8(&args);
  args.epilogue.dst_f32 = kc_floats(k, KC_SWEEP, KC_UNIFORM);
  kc_tested(k)->depthwise_i8(&args);
  kc_equal_floats(k, expected, args.epilogue.dst_f32, KC_SWEEP);
}

static void check_depthwise(kc *k) {
  static const size_t tap_counts[] = {9, 9, 1, 2, 3, 4, 5, 6, 7, 8, 10, 16, 25, 49, 63, 64, 65, 66, 67, 121, 130};
  enum { TAP_COUNTS = sizeof tap_counts / sizeof *tap_counts };
  for (kp_act act = KP_ACT_NONE; act <= KP_UNARY_COUNT; act++) check_sweep(k, act);
  size_t plan = 0;
  for (; plan < 3 * KC_EPILOGUE_PLANS; plan++) {
    check_one(k, kc_random_size(k, 1, 9), tap_counts[plan % TAP_COUNTS], kc_random_size(k, 1, 100), plan);
  }
  for (size_t channels = 0; channels <= 130; channels++) {
    check_one(k, kc_random_size(k, 1, 9), tap_counts[kc_random_size(k, 0, TAP_COUNTS - 1)], channels, plan++);
    check_one(k, kc_random_size(k, 1, 9), 9, channels, plan++);
  }
  for (size_t pixels = 0; pixels <= 70; pixels++) {
    check_one(k, pixels, tap_counts[pixels / 2 % TAP_COUNTS], kc_random_size(k, 1, 100), plan++);
  }
  for (size_t i = 0; i < 10; i++) check_one(k, kc_random_size(k, 1, 9), 9, kc_random_size(k, 131, 400), plan++);
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

static void run_depthwise(const kp_kernels *kernels, void *args) { kernels->depthwise_i8(args); }

/* By column, of a window of 3 by 3 over a square picture. */
static const int8_t **taps_by_column(kc *k, size_t side, const int8_t *source, size_t channels, const int8_t *padding) {
  const size_t columns = side + 2;
  const int8_t **taps = kc_bytes(k, side * columns * 3 * sizeof *taps);
  for (size_t i = 0; i < side * columns * 3; i++) {
    /* One more than the position, so that it stays unsigned. */
    const size_t y = i / 3 / columns + i % 3, x = i / 3 % columns;
    const bool inside = y >= 1 && y <= side && x >= 1 && x <= side;
    taps[i] = inside ? source + ((y - 1) * side + x - 1) * channels : padding;
  }
  return taps;
}

static void bench_shape(kc *k, size_t side, size_t channels) {
  const size_t pixels = side * side;
  char label[64];
  snprintf(label, sizeof label, "3x3, %zu pixels of %zu, silu", pixels, channels);
  kc_case(k, "%s", label);
  const kc_epilogue_plan plan = {.values = KC_ORDINARY, .act = KP_ACT(KP_SILU), .dst_i8 = true, .dst_stride = channels};
  const int8_t *source = kc_random_i8(k, pixels * channels);
  int8_t *weights = kc_bytes(k, 9 * kc_padded(channels));
  kc_fill_weights(k, KC_ORDINARY, weights, 9 * kc_padded(channels));
  kp_depthwise_i8_args args = {.rows = side,
                               .width = side,
                               .tap_count = 9,
                               .channels = channels,
                               .taps = taps_by_column(k, side, source, channels, kc_random_i8(k, channels)),
                               .pixel_step = 3,
                               .row_step = 3 * (side + 2),
                               .weights = weights,
                               .weight_stride = kc_padded(channels),
                               .epilogue = kc_epilogues(k, &plan, pixels, channels, 15000.0).got};
  kc_bench_i8(k, label, pixels * channels, 9.0, run_depthwise, &args);
}

static void bench_depthwise(kc *k) {
  bench_shape(k, 128, 32);
  bench_shape(k, 64, 48);
  bench_shape(k, 64, 192);
}

const kc_check kc_depthwise_i8[] = {
    {"depthwise_i8", check_depthwise, bench_depthwise},
    {0},
};

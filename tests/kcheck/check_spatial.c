/* depthwise_f32, average_pool_f32, max_pool_f32, bilinear_f32, transpose_32. */
#include "kcheck.h"

static const size_t channel_counts[] = {1, 3, 4, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 72, 96};
#define CHANNEL_COUNTS (sizeof channel_counts / sizeof *channel_counts)

/* Pointers to random rows of `source_rows` pixels: what an operator's indirection buffer holds. */
static const float **random_taps(kc *k, size_t count, size_t source_rows, size_t channels, kc_fill fill) {
  const float **taps = kc_bytes(k, count * sizeof *taps);
  float *source = kc_floats(k, source_rows * channels, fill);
  for (size_t i = 0; i < count; i++) taps[i] = source + kc_random_size(k, 0, source_rows - 1) * channels;
  return taps;
}

static void check_depthwise(kc *k) {
  static const kp_act acts[] = {KP_ACT_NONE, KP_ACT(KP_SILU), KP_ACT(KP_HARDSWISH), KP_ACT(KP_RELU)};
  for (size_t i = 0; i < 4 * CHANNEL_COUNTS; i++) {
    const size_t channels = channel_counts[i / 4], pixels = kc_random_size(k, 0, 19);
    const size_t tap_count = (const size_t[]){1, 9, 9, 25}[i % 4];
    const kp_act act = acts[kc_random(k) % 4];
    const bool with_bias = kc_random(k) & 1;
    kc_case(k, "%zu pixels, %zu taps, %zu channels, bias %d, act %d", pixels, tap_count, channels, with_bias, (int)act);
    const kc_fill fill = kc_random(k) & 1 ? KC_UNIFORM : KC_FINITE;
    const float **taps = random_taps(k, pixels * tap_count, 30, channels, fill);
    const float *weights = kc_floats(k, tap_count * channels, KC_UNIFORM);
    const float *bias = with_bias ? kc_floats(k, channels, KC_UNIFORM) : NULL;
    float *expected = kc_floats(k, pixels * channels, KC_UNIFORM), *got = kc_floats(k, pixels * channels, KC_UNIFORM);
    kc_reference(k)->depthwise_f32(expected, taps, weights, bias, pixels, tap_count, channels, act);
    kc_tested(k)->depthwise_f32(got, taps, weights, bias, pixels, tap_count, channels, act);
    kc_equal_floats(k, expected, got, pixels * channels);
  }
}

static void check_pools(kc *k, bool maximum) {
  for (size_t i = 0; i < 4 * CHANNEL_COUNTS; i++) {
    const size_t channels = channel_counts[i / 4], pixels = kc_random_size(k, 0, 9);
    const size_t tap_count = (const size_t[]){1, 4, 9, 16}[i % 4];
    kc_case(k, "%zu pixels, %zu taps, %zu channels", pixels, tap_count, channels);
    const float **taps = random_taps(k, pixels * tap_count, 30, channels, kc_random(k) & 1 ? KC_UNIFORM : KC_FINITE);
    float *expected = kc_floats(k, pixels * channels, KC_UNIFORM), *got = kc_floats(k, pixels * channels, KC_UNIFORM);
    if (maximum) {
      kc_reference(k)->max_pool_f32(expected, taps, pixels, tap_count, channels);
      kc_tested(k)->max_pool_f32(got, taps, pixels, tap_count, channels);
    } else {
      kc_reference(k)->average_pool_f32(expected, taps, pixels, tap_count, channels, (float)tap_count);
      kc_tested(k)->average_pool_f32(got, taps, pixels, tap_count, channels, (float)tap_count);
    }
    kc_equal_floats(k, expected, got, pixels * channels);
  }
}

static void check_average_pool(kc *k) { check_pools(k, false); }

static void check_max_pool(kc *k) { check_pools(k, true); }

static void check_bilinear(kc *k) {
  for (size_t i = 0; i < 4 * kc_length_count; i++) {
    const size_t channels = kc_lengths[i / 4];
    const float wx = kc_random_float(k, 0, 1), wy = kc_random_float(k, 0, 1);
    kc_case(k, "%zu channels, weights %a %a", channels, (double)wx, (double)wy);
    const kc_fill fill = kc_random(k) & 1 ? KC_UNIFORM : KC_FINITE;
    const float *a = kc_floats(k, channels, fill), *b = kc_floats(k, channels, fill);
    const float *e = kc_floats(k, channels, fill), *f = kc_floats(k, channels, fill);
    float *expected = kc_floats(k, channels, KC_UNIFORM), *got = kc_floats(k, channels, KC_UNIFORM);
    kc_reference(k)->bilinear_f32(expected, a, b, e, f, wx, wy, channels);
    kc_tested(k)->bilinear_f32(got, a, b, e, f, wx, wy, channels);
    kc_equal_floats(k, expected, got, channels);
  }
}

static void check_transpose(kc *k) {
  for (size_t i = 0; i < 200; i++) {
    const size_t rows = kc_random_size(k, 0, 40), columns = kc_random_size(k, 0, 40);
    const size_t src_stride = columns + kc_random_size(k, 0, 3), dst_stride = rows + kc_random_size(k, 0, 3);
    kc_case(k, "%zu x %zu, strides %zu and %zu", rows, columns, src_stride, dst_stride);
    const size_t src_size = rows > 0 && columns > 0 ? (rows - 1) * src_stride + columns : 0;
    const size_t dst_size = rows > 0 && columns > 0 ? (columns - 1) * dst_stride + rows : 0;
    uint32_t *src = kc_bytes(k, src_size * sizeof *src);
    for (size_t j = 0; j < src_size; j++) src[j] = (uint32_t)kc_random(k);
    uint32_t *expected = kc_bytes(k, dst_size * sizeof *src), *got = kc_bytes(k, dst_size * sizeof *src);
    for (size_t j = 0; j < dst_size; j++) expected[j] = got[j] = 0xA5A5A5A5u; /* the gaps between rows stay */
    kc_reference(k)->transpose_32(expected, dst_stride, src, src_stride, rows, columns);
    kc_tested(k)->transpose_32(got, dst_stride, src, src_stride, rows, columns);
    kc_equal(k, expected, got, dst_size, sizeof *got);
  }
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

typedef struct taps_args {
  float *dst;
  const float **taps;
  const float *weights, *bias;
  size_t pixels, tap_count, channels;
} taps_args;

static void run_depthwise(const kp_kernels *kernels, void *args) {
  const taps_args *a = args;
  kernels->depthwise_f32(a->dst, a->taps, a->weights, a->bias, a->pixels, a->tap_count, a->channels, KP_ACT(KP_SILU));
}

static void run_average_pool(const kp_kernels *kernels, void *args) {
  const taps_args *a = args;
  kernels->average_pool_f32(a->dst, a->taps, a->pixels, a->tap_count, a->channels, (float)a->tap_count);
}

static void run_max_pool(const kp_kernels *kernels, void *args) {
  const taps_args *a = args;
  kernels->max_pool_f32(a->dst, a->taps, a->pixels, a->tap_count, a->channels);
}

/* A 3 x 3 window, or 4 x 4 blocks, over a row of `pixels`. */
static void bench_taps(kc *k, const char *label, size_t pixels, size_t tap_count, size_t channels, double flops,
                       kc_run run) {
  kc_case(k, "%s", label);
  const size_t side = tap_count == 9 ? 3 : 4, width = pixels * (side == 3 ? 1 : 4) + 2;
  taps_args args = {kc_floats(k, pixels * channels, KC_UNIFORM),
                    kc_bytes(k, pixels * tap_count * sizeof(float *)),
                    kc_floats(k, tap_count * channels, KC_UNIFORM),
                    kc_floats(k, channels, KC_UNIFORM),
                    pixels,
                    tap_count,
                    channels};
  const float *source = kc_floats(k, side * width * channels, KC_UNIFORM);
  for (size_t i = 0; i < pixels * tap_count; i++) {
    const size_t p = i / tap_count, t = i % tap_count, x = p * (side == 3 ? 1 : 4) + t % side;
    args.taps[i] = source + (t / side * width + x) * channels;
  }
  kc_bench(k, label, pixels * channels, flops, run, &args);
}

static void bench_depthwise(kc *k) {
  bench_taps(k, "3x3, 128 pixels of 32, silu", 128, 9, 32, 18, run_depthwise);
  bench_taps(k, "3x3, 64 pixels of 192, silu", 64, 9, 192, 18, run_depthwise);
}

static void bench_average_pool(kc *k) { bench_taps(k, "4x4, 16 pixels of 192", 16, 16, 192, 0, run_average_pool); }

static void bench_max_pool(kc *k) { bench_taps(k, "3x3, 64 pixels of 192", 64, 9, 192, 0, run_max_pool); }

typedef struct bilinear_args {
  float *dst;
  const float *corners[4];
} bilinear_args;

static void run_bilinear(const kp_kernels *kernels, void *args) {
  const bilinear_args *a = args;
  kernels->bilinear_f32(a->dst, a->corners[0], a->corners[1], a->corners[2], a->corners[3], 0.25f, 0.75f, 192);
}

static void bench_bilinear(kc *k) {
  kc_case(k, "192 channels");
  bilinear_args args = {.dst = kc_floats(k, 192, KC_UNIFORM)};
  for (size_t i = 0; i < 4; i++) args.corners[i] = kc_floats(k, 192, KC_UNIFORM);
  kc_bench(k, "192 channels", 192, 0, run_bilinear, &args);
}

typedef struct transpose_args {
  uint32_t *dst;
  const uint32_t *src;
  size_t side;
} transpose_args;

static void run_transpose(const kp_kernels *kernels, void *args) {
  const transpose_args *a = args;
  kernels->transpose_32(a->dst, a->side, a->src, a->side, a->side, a->side);
}

static void bench_transpose(kc *k) {
  kc_case(k, "64 x 64");
  transpose_args args = {kc_bytes(k, 64 * 64 * 4), kc_bytes(k, 64 * 64 * 4), 64};
  kc_bench(k, "64 x 64", 64 * 64, 0, run_transpose, &args);
}

const kc_check kc_spatial[] = {
    {"depthwise_f32", check_depthwise, bench_depthwise}, {"average_pool_f32", check_average_pool, bench_average_pool},
    {"max_pool_f32", check_max_pool, bench_max_pool},    {"bilinear_f32", check_bilinear, bench_bilinear},
    {"transpose_32", check_transpose, bench_transpose},  {0},
};

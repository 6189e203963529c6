/* resize_row_u8, resize_column_u8, normalize_u8_f32. */
#include <string.h>

#include "kcheck.h"

static uint8_t *random_bytes(kc *k, size_t n, bool extreme) {
  uint8_t *bytes = kc_bytes(k, n);
  for (size_t i = 0; i < n; i++) bytes[i] = extreme ? (kc_random(k) & 1 ? 255 : 0) : (uint8_t)kc_random(k);
  return bytes;
}

/* `count` weights: of a bilinear filter they are positive and make 1 << 22; others may be negative, and up to one and a
 * half times as large in all, so that sums are clamped at both ends. */
static void random_weights(kc *k, int32_t *weights, size_t count, bool wild) {
  for (size_t i = 0; i < count; i++) {
    const int32_t share = (1 << 22) / (int32_t)count;
    weights[i] = wild ? (int32_t)kc_random_size(k, 0, (size_t)share * 3) - share / 2 * 3 : share;
  }
}

static void check_row(kc *k) {
  for (size_t i = 0; i < 300; i++) {
    const size_t channels = (const size_t[]){1, 3, 4}[i % 3], width = kc_random_size(k, 0, 25);
    const size_t taps = kc_random_size(k, 1, 60), source = taps + kc_random_size(k, 0, 60);
    const size_t stride = (taps + KP_RESIZE_PAD - 1) / KP_RESIZE_PAD * KP_RESIZE_PAD;
    const bool wild = kc_random(k) & 1;
    kc_case(k, "width %zu, %zu channels, %zu source pixels, up to %zu taps, wild %d", width, channels, source, taps,
            wild);
    const uint8_t *src = random_bytes(k, source * channels, kc_random(k) % 4 == 0);
    int32_t *starts = kc_bytes(k, width * sizeof *starts), *counts = kc_bytes(k, width * sizeof *counts);
    int32_t *weights = kc_bytes(k, width * stride * sizeof *weights);
    memset(weights, 0, width * stride * sizeof *weights);
    size_t end = kc_random_size(k, 1, source);
    for (size_t x = 0; x < width; x++) {
      const size_t count = kc_random_size(k, 1, end < taps ? end : taps);
      counts[x] = (int32_t)count;
      starts[x] = (int32_t)(end - count);
      random_weights(k, weights + x * stride, count, wild);
      end = kc_random(k) % 4 == 0 ? kc_random_size(k, end, source) : end + (end < source);
    }
    uint8_t *expected = kc_bytes(k, width * channels), *got = kc_bytes(k, width * channels);
    kc_reference(k)->resize_row_u8(expected, src, width, channels, starts, counts, weights, stride);
    kc_tested(k)->resize_row_u8(got, src, width, channels, starts, counts, weights, stride);
    kc_equal(k, expected, got, width * channels, 1);
  }
}

static void check_column(kc *k) {
  for (size_t i = 0; i < 4 * kc_length_count; i++) {
    const size_t n = kc_lengths[i / 4], count = kc_random_size(k, 1, 40);
    const bool wild = kc_random(k) & 1;
    kc_case(k, "%zu bytes, %zu rows, wild %d", n, count, wild);
    const uint8_t **rows = kc_bytes(k, count * sizeof *rows);
    for (size_t r = 0; r < count; r++) rows[r] = random_bytes(k, n, kc_random(k) % 4 == 0);
    int32_t *weights = kc_bytes(k, count * sizeof *weights);
    random_weights(k, weights, count, wild);
    uint8_t *expected = kc_bytes(k, n), *got = kc_bytes(k, n);
    kc_reference(k)->resize_column_u8(expected, rows, weights, count, n);
    kc_tested(k)->resize_column_u8(got, rows, weights, count, n);
    kc_equal(k, expected, got, n, 1);
  }
}

static void check_normalize(kc *k) {
  float table[3][256];
  kc_fill_floats(k, table[0], 3 * 256, KC_FINITE);
  for (size_t i = 0; i < kc_length_count; i++) {
    const size_t pixels = kc_lengths[i];
    kc_case(k, "%zu pixels", pixels);
    const uint8_t *src = random_bytes(k, 3 * pixels, false);
    float *expected = kc_floats(k, 3 * pixels, KC_UNIFORM), *got = kc_floats(k, 3 * pixels, KC_UNIFORM);
    kc_reference(k)->normalize_u8_f32(expected, src, pixels, (const float(*)[256])table);
    kc_tested(k)->normalize_u8_f32(got, src, pixels, (const float(*)[256])table);
    kc_equal_floats(k, expected, got, 3 * pixels);
  }
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

#define BENCH_TAPS 20
#define BENCH_STRIDE (2 * KP_RESIZE_PAD)

typedef struct resize_args {
  uint8_t *dst;
  const uint8_t *src;
  const uint8_t *rows[BENCH_TAPS];
  int32_t starts[115], counts[115], weights[115 * BENCH_STRIDE];
} resize_args;

static void run_row(const kp_kernels *kernels, void *args) {
  const resize_args *a = args;
  kernels->resize_row_u8(a->dst, a->src, 115, 3, a->starts, a->counts, a->weights, BENCH_STRIDE);
}

static void run_column(const kp_kernels *kernels, void *args) {
  const resize_args *a = args;
  kernels->resize_column_u8(a->dst, a->rows, a->weights, BENCH_TAPS, 3240);
}

static void bench_row(kc *k) {
  kc_case(k, "1080 to 115 pixels");
  resize_args args = {.dst = kc_bytes(k, 3 * 115), .src = random_bytes(k, 3 * 1080, false)};
  for (int32_t x = 0; x < 115; x++) {
    args.starts[x] = x * 9;
    args.counts[x] = BENCH_TAPS;
    random_weights(k, args.weights + x * BENCH_STRIDE, BENCH_TAPS, false);
  }
  kc_bench(k, "1080 to 115 pixels", 3 * 115 * BENCH_TAPS, 0, run_row, &args);
}

static void bench_column(kc *k) {
  kc_case(k, "20 rows of 3240 bytes");
  resize_args args = {.dst = kc_bytes(k, 3240)};
  for (size_t i = 0; i < BENCH_TAPS; i++) args.rows[i] = random_bytes(k, 3240, false);
  random_weights(k, args.weights, BENCH_TAPS, false);
  kc_bench(k, "20 rows of 3240 bytes", 3240 * BENCH_TAPS, 0, run_column, &args);
}

typedef struct normalize_args {
  float *dst;
  const uint8_t *src;
  float table[3][256];
} normalize_args;

static void run_normalize(const kp_kernels *kernels, void *args) {
  const normalize_args *a = args;
  kernels->normalize_u8_f32(a->dst, a->src, 256, a->table);
}

static void bench_normalize(kc *k) {
  kc_case(k, "256 pixels");
  normalize_args args = {.dst = kc_floats(k, 3 * 256, KC_UNIFORM), .src = random_bytes(k, 3 * 256, false)};
  kc_fill_floats(k, args.table[0], 3 * 256, KC_UNIFORM);
  kc_bench(k, "256 pixels", 3 * 256, 0, run_normalize, &args);
}

const kc_check kc_picture[] = {
    {"resize_row_u8", check_row, bench_row},
    {"resize_column_u8", check_column, bench_column},
    {"normalize_u8_f32", check_normalize, bench_normalize},
    {0},
};

/* sum_taps_i8, max_taps_i8. */
#include <string.h>

#include "operands_i8.h"

static void check_one(kc *k, size_t pixels, size_t tap_count, size_t channels, kc_values_i8 kind) {
  const size_t stride = channels + (kc_random(k) & 1 ? kc_random_size(k, 1, 70) : 0), source_rows = 20;
  kc_case(k, "%zu pixels, %zu taps, %zu channels %zu apart%s", pixels, tap_count, channels, stride,
          kind == KC_ALL_EQUAL ? ", all equal" : "");
  const int8_t *source = kc_activations(k, kind, NULL, source_rows, stride, channels);
  const int8_t *padding = kind == KC_ALL_EQUAL ? source : kc_random_i8(k, channels);
  const int8_t **taps = kc_taps_i8(k, pixels * tap_count, source, source_rows, stride, padding);
  const size_t n = pixels * channels;
  int32_t *sums = kc_bytes(k, n * sizeof *sums), *got_sums = kc_bytes(k, n * sizeof *sums);
  kc_reference(k)->sum_taps_i8(sums, taps, pixels, tap_count, channels);
  kc_tested(k)->sum_taps_i8(got_sums, taps, pixels, tap_count, channels);
  kc_equal(k, sums, got_sums, n, sizeof *sums);
  int8_t *maxima = kc_random_i8(k, n), *got_maxima = kc_random_i8(k, n);
  kc_reference(k)->max_taps_i8(maxima, taps, pixels, tap_count, channels);
  kc_tested(k)->max_taps_i8(got_maxima, taps, pixels, tap_count, channels);
  kc_equal(k, maxima, got_maxima, n, 1);
}

static void check_taps(kc *k) {
  static const size_t tap_counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 49, 64};
  static const size_t many[] = {127, 128, 129, 255, 256, 257, 258, 259, 260, 512, 513, 1024, 65540};
  for (size_t channels = 0; channels <= 130; channels++) {
    for (size_t i = 0; i < 3; i++) {
      check_one(k, kc_random_size(k, 0, 9), tap_counts[kc_random_size(k, 0, 10)], channels,
                i == 0 ? KC_ENDS : KC_ORDINARY);
    }
  }
  /* Sums beyond 16 bits. */
  for (size_t i = 0; i < 8 * (sizeof many / sizeof *many); i++) {
    const kc_values_i8 kind = i % 4 == 0 ? KC_ENDS : KC_ALL_EQUAL;
    check_one(k, kc_random_size(k, 1, 2), many[i / 8], kc_random_size(k, 1, 40), kind);
  }
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

typedef struct taps_args {
  int32_t *sums;
  int8_t *maxima;
  const int8_t **taps;
  size_t pixels, tap_count, channels;
} taps_args;

static void run_sum(const kp_kernels *kernels, void *args) {
  const taps_args *a = args;
  kernels->sum_taps_i8(a->sums, a->taps, a->pixels, a->tap_count, a->channels);
}

static void run_max(const kp_kernels *kernels, void *args) {
  const taps_args *a = args;
  kernels->max_taps_i8(a->maxima, a->taps, a->pixels, a->tap_count, a->channels);
}

static void bench_shape(kc *k, const char *label, size_t pixels, size_t tap_count, size_t channels, kc_run run) {
  kc_case(k, "%s", label);
  const int8_t *source = kc_random_i8(k, pixels * channels);
  taps_args args = {kc_bytes(k, pixels * channels * sizeof(int32_t)),
                    kc_bytes(k, pixels * channels),
                    kc_taps_i8(k, pixels * tap_count, source, pixels, channels, source),
                    pixels,
                    tap_count,
                    channels};
  kc_bench_i8(k, label, pixels * channels, 0.0, run, &args);
}

static void bench_sum(kc *k) {
  bench_shape(k, "1 pixel of 64 taps, 320", 1, 64, 320, run_sum);
  bench_shape(k, "64 pixels of 16 taps, 80", 64, 16, 80, run_sum);
}

static void bench_max(kc *k) { bench_shape(k, "1024 pixels of 9 taps, 48", 1024, 9, 48, run_max); }

const kc_check kc_pool_i8[] = {
    {"sum_taps_i8", check_taps, bench_sum},
    {"max_taps_i8", NULL, bench_max},
    {0},
};

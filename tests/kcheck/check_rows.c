/* layer_norm_f32, softmax_f32, sum_f32, sum_rows_f32. */
#include "kcheck.h"

static kc_fill random_fill(kc *k) {
  static const kc_fill fills[] = {KC_UNIFORM, KC_UNIFORM, KC_FINITE, KC_ANY};
  return fills[kc_random(k) % 4];
}

static void check_layer_norm(kc *k) {
  for (size_t i = 0; i < 8 * kc_length_count; i++) {
    const size_t columns = kc_lengths[i / 8], rows = kc_random_size(k, 0, 11);
    if (columns == 0) continue;
    const bool with_gamma = i & 1, with_beta = i >> 1 & 1;
    const float eps = kc_random(k) & 1 ? 1e-5f : 1e-12f;
    kc_case(k, "%zu x %zu, gamma %d, beta %d, eps %g", rows, columns, with_gamma, with_beta, (double)eps);
    float *src = kc_floats(k, rows * columns, random_fill(k));
    float *gamma = with_gamma ? kc_floats(k, columns, KC_UNIFORM) : NULL;
    float *beta = with_beta ? kc_floats(k, columns, KC_UNIFORM) : NULL;
    float *expected = kc_floats(k, rows * columns, KC_UNIFORM), *got = kc_floats(k, rows * columns, KC_UNIFORM);
    kc_reference(k)->layer_norm_f32(expected, src, gamma, beta, rows, columns, eps);
    kc_tested(k)->layer_norm_f32(got, src, gamma, beta, rows, columns, eps);
    kc_equal_floats(k, expected, got, rows * columns);
    kc_tested(k)->layer_norm_f32(src, src, gamma, beta, rows, columns, eps);
    kc_equal_floats(k, expected, src, rows * columns);
  }
}

static void check_softmax(kc *k) {
  for (size_t i = 0; i < 8 * kc_length_count; i++) {
    const size_t columns = kc_lengths[i / 8], rows = kc_random_size(k, 0, 7);
    kc_case(k, "%zu x %zu", rows, columns);
    float *src = kc_floats(k, rows * columns, random_fill(k));
    float *expected = kc_floats(k, rows * columns, KC_UNIFORM), *got = kc_floats(k, rows * columns, KC_UNIFORM);
    kc_reference(k)->softmax_f32(expected, src, rows, columns);
    kc_tested(k)->softmax_f32(got, src, rows, columns);
    kc_equal_floats(k, expected, got, rows * columns);
    kc_tested(k)->softmax_f32(src, src, rows, columns);
    kc_equal_floats(k, expected, src, rows * columns);
  }
}

static void check_sum(kc *k) {
  for (size_t i = 0; i < 8 * kc_length_count; i++) {
    const size_t n = kc_lengths[i / 8];
    kc_case(k, "n %zu", n);
    const float *src = kc_floats(k, n, random_fill(k));
    const float expected = kc_reference(k)->sum_f32(src, n), got = kc_tested(k)->sum_f32(src, n);
    kc_equal_floats(k, &expected, &got, 1);
  }
}

static void check_sum_rows(kc *k) {
  for (size_t i = 0; i < 8 * kc_length_count; i++) {
    const size_t columns = kc_lengths[i / 8], rows = kc_random_size(k, 0, 67);
    const size_t stride = columns + (kc_random(k) & 1 ? kc_random_size(k, 1, 20) : 0);
    kc_case(k, "%zu x %zu, stride %zu", rows, columns, stride);
    const float *src = kc_floats(k, rows > 0 ? (rows - 1) * stride + columns : 0, random_fill(k));
    float *expected = kc_floats(k, columns, KC_UNIFORM), *got = kc_floats(k, columns, KC_UNIFORM);
    kc_reference(k)->sum_rows_f32(expected, src, stride, rows, columns);
    kc_tested(k)->sum_rows_f32(got, src, stride, rows, columns);
    kc_equal_floats(k, expected, got, columns);
  }
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

typedef struct rows_args {
  float *dst;
  const float *src, *gamma, *beta;
  size_t rows, columns;
} rows_args;

static void run_layer_norm(const kp_kernels *kernels, void *args) {
  const rows_args *a = args;
  kernels->layer_norm_f32(a->dst, a->src, a->gamma, a->beta, a->rows, a->columns, 1e-5f);
}

static void run_softmax(const kp_kernels *kernels, void *args) {
  const rows_args *a = args;
  kernels->softmax_f32(a->dst, a->src, a->rows, a->columns);
}

static void run_sum(const kp_kernels *kernels, void *args) {
  const rows_args *a = args;
  for (size_t r = 0; r < a->rows; r++) a->dst[r] = kernels->sum_f32(a->src + r * a->columns, a->columns);
}

static void run_sum_rows(const kp_kernels *kernels, void *args) {
  const rows_args *a = args;
  kernels->sum_rows_f32(a->dst, a->src, a->columns, a->rows, a->columns);
}

static void bench_rows(kc *k, const char *label, size_t rows, size_t columns, kc_run run) {
  kc_case(k, "%s", label);
  const size_t n = rows * columns;
  rows_args args = {kc_floats(k, n, KC_UNIFORM),
                    kc_floats(k, n, KC_UNIFORM),
                    kc_floats(k, columns, KC_UNIFORM),
                    kc_floats(k, columns, KC_UNIFORM),
                    rows,
                    columns};
  kc_bench(k, label, n, 0.0, run, &args);
}

static void bench_layer_norm(kc *k) {
  bench_rows(k, "1024 x 48", 1024, 48, run_layer_norm);
  bench_rows(k, "64 x 72", 64, 72, run_layer_norm);
  bench_rows(k, "64 x 312", 64, 312, run_layer_norm);
}

static void bench_softmax(kc *k) {
  bench_rows(k, "64 x 64", 64, 64, run_softmax);
  bench_rows(k, "256 x 256", 256, 256, run_softmax);
}

static void bench_sum(kc *k) { bench_rows(k, "64 rows of 256", 64, 256, run_sum); }

static void bench_sum_rows(kc *k) { bench_rows(k, "64 x 240", 64, 240, run_sum_rows); }

const kc_check kc_rows[] = {
    {"layer_norm_f32", check_layer_norm, bench_layer_norm},
    {"softmax_f32", check_softmax, bench_softmax},
    {"sum_f32", check_sum, bench_sum},
    {"sum_rows_f32", check_sum_rows, bench_sum_rows},
    {0},
};

/* gemm_f32. */
#include <string.h>

#include "kcheck.h"

/* Rows `stride` apart, of which the last ends with its width: nothing is behind it. */
static size_t extent(size_t rows, size_t stride, size_t width) { return rows > 0 ? (rows - 1) * stride + width : 0; }

static void check_one(kc *k, size_t rows, size_t columns, size_t depth) {
  const bool spread = kc_random(k) & 1;
  const size_t a_stride = depth + spread * kc_random_size(k, 0, 20);
  const size_t b_stride = columns + spread * kc_random_size(k, 0, 20);
  const size_t c_stride = columns + spread * kc_random_size(k, 0, 20);
  kc_case(k, "%zu x %zu x %zu, strides of a %zu, b %zu, c %zu", rows, columns, depth, a_stride, b_stride, c_stride);
  const kc_fill fill = kc_random(k) % 4 == 0 ? KC_FINITE : KC_UNIFORM;
  const float *a = kc_floats(k, extent(rows, a_stride, depth), fill);
  const float *b = kc_floats(k, extent(depth, b_stride, columns), fill);
  const size_t size = extent(rows, c_stride, columns);
  float *expected = kc_floats(k, size, KC_UNIFORM), *got = kc_copy_floats(k, expected, size); /* the gaps stay */
  kc_reference(k)->gemm_f32(expected, c_stride, a, a_stride, b, b_stride, rows, columns, depth);
  kc_tested(k)->gemm_f32(got, c_stride, a, a_stride, b, b_stride, rows, columns, depth);
  kc_equal_floats(k, expected, got, size);
}

static void check_gemm(kc *k) {
  for (size_t columns = 0; columns <= 130; columns++) {
    check_one(k, kc_random_size(k, 1, 9), columns, kc_random_size(k, 1, 30));
  }
  for (size_t rows = 0; rows <= 40; rows++) check_one(k, rows, kc_random_size(k, 1, 70), kc_random_size(k, 1, 30));
  for (size_t depth = 1; depth <= 80; depth++) {
    check_one(k, kc_random_size(k, 1, 17), kc_random_size(k, 1, 70), depth);
  }
  check_one(k, 5, 33, 300);
  check_one(k, 13, 70, 513);
}

typedef struct gemm_args {
  float *c;
  const float *a, *b;
  size_t rows, columns, depth;
} gemm_args;

static void run_gemm(const kp_kernels *kernels, void *args) {
  const gemm_args *g = args;
  kernels->gemm_f32(g->c, g->columns, g->a, g->depth, g->b, g->columns, g->rows, g->columns, g->depth);
}

static void bench_shape(kc *k, const char *label, size_t rows, size_t columns, size_t depth) {
  kc_case(k, "%s", label);
  gemm_args args = {kc_floats(k, rows * columns, KC_UNIFORM),
                    kc_floats(k, rows * depth, KC_UNIFORM),
                    kc_floats(k, depth * columns, KC_UNIFORM),
                    rows,
                    columns,
                    depth};
  kc_bench(k, label, rows * columns, 2.0 * (double)depth, run_gemm, &args);
}

static void bench_gemm(kc *k) {
  bench_shape(k, "64 x 64 x 26", 64, 64, 26);
  bench_shape(k, "64 x 312 x 312", 64, 312, 312);
  bench_shape(k, "9 x 256 x 256", 9, 256, 256);
  bench_shape(k, "1 x 768 x 192", 1, 768, 192);
}

const kc_check kc_gemm_f32[] = {
    {"gemm_f32", check_gemm, bench_gemm},
    {0},
};

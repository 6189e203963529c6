/* quantize_i8, dequantize_i8, quantize_rows_i8. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "operands_i8.h"

/* ---- quantize_i8 ------------------------------------------------------------------------------------------------ */

static const char *const source_names[] = {"uniform", "near ties", "at ties", "any float"};
enum { UNIFORM, NEAR_TIES, AT_TIES, ANY, SOURCES };

static float source_value(kc *k, int source, float inverse) {
  const float tie = (float)kc_random_size(k, 0, 300) - 150.5f;
  switch (source) {
    case NEAR_TIES:
      return (float)((double)tie / (double)inverse);
    case AT_TIES: /* with inverses that are powers of two */
      return tie / inverse;
    default:
      return kc_random_float(k, -160.0f, 160.0f) / inverse;
  }
}

static void check_quantize_one(kc *k, size_t rows, size_t columns, int source) {
  kc_case(k, "%zu x %zu, %s", rows, columns, source_names[source]);
  static const kc_values_i8 values[SOURCES] = {KC_ORDINARY, KC_ORDINARY, KC_TIES, KC_ADVERSARIAL};
  const kp_quantizer quantizer = kc_quantizer(k, values[source], columns, kc_random_float(k, 0.01f, 100.0f));
  float *src = kc_floats(k, rows * columns, KC_ANY);
  for (size_t i = 0; i < rows * columns; i++) {
    if (source != ANY) src[i] = source_value(k, source, quantizer.inverse[i % columns]);
    if (source == ANY && kc_random(k) % 8 == 0) src[i] = NAN;
  }
  int8_t *expected = kc_random_i8(k, rows * columns), *got = kc_random_i8(k, rows * columns);
  kc_reference(k)->quantize_i8(expected, src, rows, columns, &quantizer);
  kc_tested(k)->quantize_i8(got, src, rows, columns, &quantizer);
  kc_equal(k, expected, got, rows * columns, 1);
}

/* NaN becomes -128, as do values below the range; those above it become 127. */
static void check_clamps(kc *k) {
  static const struct {
    float y;
    int8_t q;
  } clamps[] = {{NAN, -128}, {-NAN, -128}, {-INFINITY, -128}, {INFINITY, 127}, {-1e30f, -128}, {1e30f, 127}};
  enum { COLUMNS = 40 };
  for (size_t i = 0; i < sizeof clamps / sizeof *clamps; i++) {
    kc_case(k, "%d columns of %g", COLUMNS, (double)clamps[i].y);
    const kp_quantizer quantizer = kc_quantizer(k, KC_ORDINARY, COLUMNS, 6.0f);
    float *src = kc_floats(k, COLUMNS, KC_UNIFORM);
    int8_t *expected = kc_random_i8(k, COLUMNS), *got = kc_random_i8(k, COLUMNS);
    for (size_t c = 0; c < COLUMNS; c++) {
      src[c] = clamps[i].y;
      expected[c] = clamps[i].q;
    }
    kc_tested(k)->quantize_i8(got, src, 1, COLUMNS, &quantizer);
    kc_equal(k, expected, got, COLUMNS, 1);
  }
}

static void check_quantize(kc *k) {
  check_clamps(k);
  for (size_t i = 0; i < 2 * SOURCES * kc_length_count; i++) {
    check_quantize_one(k, kc_random_size(k, 0, 20), kc_lengths[i / (2 * SOURCES)], (int)(i % SOURCES));
  }
}

/* ---- dequantize_i8 ---------------------------------------------------------------------------------------------- */

static void check_dequantize(kc *k) {
  for (size_t i = 0; i < 4 * kc_length_count; i++) {
    const size_t columns = kc_lengths[i / 4], rows = kc_random_size(k, 0, 20);
    kc_case(k, "%zu x %zu", rows, columns);
    const int8_t *src = kc_random_i8(k, rows * columns);
    const float *scale = kc_column_floats(k, columns, i % 2 ? KC_UNIFORM : KC_FINITE);
    const int32_t *zero_points = kc_zero_points(k, columns);
    float *expected = kc_floats(k, rows * columns, KC_UNIFORM), *got = kc_floats(k, rows * columns, KC_UNIFORM);
    kc_reference(k)->dequantize_i8(expected, src, rows, columns, scale, zero_points);
    kc_tested(k)->dequantize_i8(got, src, rows, columns, scale, zero_points);
    kc_equal_floats(k, expected, got, rows * columns);
  }
}

/* ---- quantize_rows_i8 ------------------------------------------------------------------------------------------- */

enum { ROW_KINDS = 12 };

/* A row of one of these kinds; its extreme lies anywhere in it, with either sign. */
static void fill_row(kc *k, float *x, size_t n) {
  const uint64_t kind = kc_random(k) % ROW_KINDS;
  const size_t at = kc_random_size(k, 0, n - 1);
  const float sign = kc_random(k) & 1 ? 1.0f : -1.0f;
  kc_fill_floats(k, x, n, kind == 0 ? KC_FINITE : KC_UNIFORM);
  if (kind == 1) memset(x, 0, n * sizeof *x);
  if (kind == 2) { /* at the smallest scale that is not taken for zero, or next to it */
    const float edge = KP_ROW_SCALE_MIN / KP_ROW_STEP;
    const float edges[] = {edge, nextafterf(edge, 0.0f), nextafterf(edge, 1.0f)};
    for (size_t i = 0; i < n; i++) x[i] = 0.0f;
    x[at] = sign * edges[kc_random(k) % 3];
  }
  if (kind == 3) { /* the inverse scale is about a power of two: ties, in the row and of its zero point */
    const float low = -0.5f * (float)kc_random_size(k, 0, 510);
    for (size_t i = 0; i < n; i++) x[i] = low + 0.5f * (float)kc_random_size(k, 0, 510);
    x[at] = low;
    if (n > 1) x[(at + 1) % n] = low + 1.0f / KP_ROW_STEP;
  }
  if (kind == 4) { /* near ties of another scale */
    const float largest = kc_random_float(k, 0.01f, 30.0f);
    for (size_t i = 0; i < n; i++) {
      x[i] = (float)(((double)kc_random_size(k, 0, 253) + 0.5) * (double)largest * (double)KP_ROW_STEP) * sign;
    }
    x[at] = sign * largest;
  }
  if (kind == 5) { /* one outlier */
    for (size_t i = 0; i < n; i++) x[i] *= 0.01f;
    x[at] = sign * 50.0f;
  }
  if (kind == 6) {
    for (size_t i = 0; i < n; i++) x[i] *= 0x1p-140f;
  }
  if (kind == 7) { /* all equal */
    for (size_t i = 0; i < n; i++) x[i] = x[0];
  }
  if (kind == 8) { /* one-sided, far from 0 */
    for (size_t i = 0; i < n; i++) x[i] = sign * (100.0f + x[i]);
  }
  if (kind == 9) { /* the range overflows */
    for (size_t i = 0; i < n; i++) x[i] *= 0x1.8p+125f;
    x[at] = sign * FLT_MAX;
    if (n > 1) x[(at + 1) % n] = -sign * FLT_MAX;
  }
  if (kind == 10) { /* as after GELU */
    for (size_t i = 0; i < n; i++) x[i] = x[i] < 0.0f ? 0.04f * x[i] : x[i];
  }
  if (kind == 11) x[at] = sign * INFINITY;
}

/* Every element is within half a step: no rounding led beyond the bytes' range. */
static void check_steps(kc *k, const float *x, const int8_t *q, double scale, double zero_point, size_t n) {
  if (zero_point < -128.0 || zero_point > 127.0) kc_fail(k, "zero point %g", zero_point);
  if (isinf(scale)) return;
  const double bound = scale > 0.0 ? 0.5001 * scale : KP_ROW_SCALE_MIN / KP_ROW_STEP;
  for (size_t i = 0; i < n; i++) {
    const double error = fabs((q[i] - zero_point) * scale - (double)x[i]);
    if (error > bound) kc_fail(k, "%a became %d, zero point %g, scale %a", (double)x[i], q[i], zero_point, scale);
  }
}

static void check_quantize_rows(kc *k) {
  for (size_t i = 0; i < ROW_KINDS * kc_length_count; i++) {
    const size_t columns = kc_lengths[i / ROW_KINDS], rows = kc_random_size(k, 0, 11);
    if (columns == 0) continue;
    const size_t src_stride = columns + (i % 2) * kc_random_size(k, 0, 20);
    const size_t dst_stride = columns + (i % 2) * kc_random_size(k, 0, 20);
    kc_case(k, "%zu x %zu, strides %zu and %zu", rows, columns, src_stride, dst_stride);
    const size_t dst_size = rows > 0 ? (rows - 1) * dst_stride + columns : 0;
    float *src = kc_floats(k, rows > 0 ? (rows - 1) * src_stride + columns : 0, KC_UNIFORM);
    for (size_t j = 0; rows > 0 && j < (rows - 1) * src_stride + columns; j++) src[j] *= 1e30f; /* the gaps */
    for (size_t r = 0; r < rows; r++) fill_row(k, src + r * src_stride, columns);
    int8_t *expected = kc_random_i8(k, dst_size), *got = kc_bytes(k, dst_size);
    if (dst_size > 0) memcpy(got, expected, dst_size); /* the gaps between rows stay */
    float *expected_scales = kc_floats(k, rows, KC_UNIFORM), *scales = kc_floats(k, rows, KC_UNIFORM);
    int32_t *expected_zeros = kc_bytes(k, rows * sizeof(int32_t)), *zeros = kc_bytes(k, rows * sizeof(int32_t));
    kc_reference(k)->quantize_rows_i8(expected, dst_stride, expected_scales, expected_zeros, src, src_stride, rows,
                                      columns);
    kc_tested(k)->quantize_rows_i8(got, dst_stride, scales, zeros, src, src_stride, rows, columns);
    kc_equal_floats(k, expected_scales, scales, rows);
    kc_equal(k, expected_zeros, zeros, rows, sizeof(int32_t));
    kc_equal(k, expected, got, dst_size, 1);
    for (size_t r = 0; r < rows; r++) {
      check_steps(k, src + r * src_stride, expected + r * dst_stride, (double)expected_scales[r], expected_zeros[r],
                  columns);
    }
  }
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

typedef struct quantize_args {
  int8_t *q;
  float *x, *scales;
  size_t rows, columns;
  kp_quantizer quantizer;
  int32_t *zero_points;
} quantize_args;

static void run_quantize(const kp_kernels *kernels, void *args) {
  const quantize_args *a = args;
  kernels->quantize_i8(a->q, a->x, a->rows, a->columns, &a->quantizer);
}

static void run_dequantize(const kp_kernels *kernels, void *args) {
  const quantize_args *a = args;
  kernels->dequantize_i8(a->x, a->q, a->rows, a->columns, a->quantizer.inverse, a->zero_points);
}

static void run_quantize_rows(const kp_kernels *kernels, void *args) {
  const quantize_args *a = args;
  kernels->quantize_rows_i8(a->q, a->columns, a->scales, a->zero_points, a->x, a->columns, a->rows, a->columns);
}

static void bench_shape(kc *k, const char *label, size_t rows, size_t columns, kc_run run) {
  kc_case(k, "%s", label);
  quantize_args args = {.q = kc_random_i8(k, rows * columns),
                        .x = kc_floats(k, rows * columns, KC_UNIFORM),
                        .scales = kc_floats(k, rows, KC_UNIFORM),
                        .rows = rows,
                        .columns = columns,
                        .quantizer = kc_quantizer(k, KC_ORDINARY, columns, 6.0f),
                        .zero_points = kc_zero_points(k, rows > columns ? rows : columns)};
  kc_bench_i8(k, label, rows * columns, 0.0, run, &args);
}

static void bench_quantize(kc *k) {
  bench_shape(k, "65536 x 3", 65536, 3, run_quantize);
  bench_shape(k, "1024 x 48", 1024, 48, run_quantize);
  bench_shape(k, "64 x 80", 64, 80, run_quantize);
}

static void bench_dequantize(kc *k) {
  bench_shape(k, "1024 x 48", 1024, 48, run_dequantize);
  bench_shape(k, "64 x 320", 64, 320, run_dequantize);
}

static void bench_quantize_rows(kc *k) {
  bench_shape(k, "1024 x 48", 1024, 48, run_quantize_rows);
  bench_shape(k, "64 x 312", 64, 312, run_quantize_rows);
}

const kc_check kc_quantize_i8[] = {
    {"quantize_i8", check_quantize, bench_quantize},
    {"dequantize_i8", check_dequantize, bench_dequantize},
    {"quantize_rows_i8", check_quantize_rows, bench_quantize_rows},
    {0},
};

/* gemm_i8. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "operands_i8.h"

/* The weights of one product and their packed form for one kernel. */
typedef struct product {
  size_t columns, tap_count, depth;
  const int8_t *weights; /* (columns, tap_count, depth) */
} product;

static size_t ceil_divide(size_t a, size_t b) { return (a + b - 1) / b; }

/* b[panel][tap][depth / kr][nr][kr], as kernels.h has it. */
static int8_t *pack(kc *k, const product *p, const kp_gemm_i8 *gemm) {
  const size_t nr = gemm->nr, kr = gemm->kr, groups = ceil_divide(p->depth, kr);
  const size_t bytes = ceil_divide(p->columns, nr) * p->tap_count * groups * nr * kr;
  int8_t *b = kc_bytes(k, ceil_divide(bytes, 64) * 64); /* which aligns its start */
  if (bytes > 0) memset(b, 0, bytes);
  for (size_t c = 0; c < p->columns; c++) {
    for (size_t t = 0; t < p->tap_count; t++) {
      for (size_t d = 0; d < p->depth; d++) {
        const size_t group = (c / nr * p->tap_count + t) * groups + d / kr;
        b[(group * nr + c % nr) * kr + d % kr] = p->weights[(c * p->tap_count + t) * p->depth + d];
      }
    }
  }
  return b;
}

/* offset[c] -= the sum of (a_shift + zero point) * weight. */
static void fold_zero_points(const product *p, const int8_t *zero_points, int32_t a_shift, int32_t *offset) {
  const int8_t *w = p->weights;
  for (size_t c = 0; c < p->columns; c++) {
    for (size_t i = 0; i < p->tap_count * p->depth; i++) offset[c] -= (a_shift + zero_points[i % p->depth]) * *w++;
  }
}

static void check_layout(kc *k) {
  const kp_gemm_i8 *gemm = &kc_tested(k)->gemm_i8;
  kc_case(k, "layout nr %d, kr %d, a_shift %d", gemm->nr, gemm->kr, gemm->a_shift);
  if (gemm->nr == 0 || gemm->kr == 0) kc_fail(k, "expected nr and kr of at least 1");
  if (gemm->a_shift != 0 && gemm->a_shift != 128) kc_fail(k, "expected an a_shift of 0 or 128");
}

/* tap_count 0: rows of a, a_stride apart; else taps. */
static void check_one(kc *k, size_t rows, size_t columns, size_t depth, size_t tap_count, size_t plan_index) {
  const kc_epilogue_plan plan = kc_plan_epilogue(k, plan_index, columns, true);
  const size_t a_stride = depth + (kc_random(k) & 1 ? kc_random_size(k, 1, 70) : 0);
  kc_case(k, "%zu x %zu x %zu, %zu taps, a_stride %zu, %s", rows, columns, depth, tap_count, a_stride, plan.name);
  product p = {.columns = columns, .tap_count = tap_count > 0 ? tap_count : 1, .depth = depth};
  const size_t sum_length = p.tap_count * depth;
  int8_t *weights = kc_bytes(k, columns * sum_length);
  kc_fill_weights(k, plan.values, weights, columns * sum_length);
  p.weights = weights;
  const int8_t *zero_points = kc_random_i8(k, depth); /* which is also the padding row */

  kp_gemm_i8_args args = {
      .rows = rows, .columns = columns, .a_stride = a_stride, .tap_count = p.tap_count, .depth = depth};
  const size_t source_rows = tap_count > 0 ? kc_random_size(k, 1, 12) : rows;
  args.a = kc_activations(k, plan.values, zero_points, source_rows, a_stride, depth);
  if (tap_count > 0) {
    args.taps = kc_taps_i8(k, rows * tap_count, args.a, source_rows, a_stride, zero_points);
    args.a = NULL;
  }

  const kc_epilogue_pair pair = kc_epilogues(k, &plan, rows, columns, 7000.0 * sqrt((double)sum_length));
  const kp_gemm_i8 *reference = &kc_reference(k)->gemm_i8, *tested = &kc_tested(k)->gemm_i8;
  fold_zero_points(&p, zero_points, reference->a_shift, pair.expected_offset);
  fold_zero_points(&p, zero_points, tested->a_shift, pair.got_offset);
  args.b = pack(k, &p, reference);
  args.epilogue = pair.expected;
  reference->run(&args);
  args.b = pack(k, &p, tested);
  args.epilogue = pair.got;
  tested->run(&args);
  kc_equal_epilogues(k, &pair);
}

static void check_sweep(kc *k, kp_act act) {
  kc_case(k, "act %s, a sweep of bit patterns", kc_act_name(act));
  const float *x = kc_sweep(k);
  const kp_gemm_i8 *reference = &kc_reference(k)->gemm_i8, *tested = &kc_tested(k)->gemm_i8;
  const kp_gemm_i8_args expected = kc_act_gemm(k, reference, act, x, KC_SWEEP);
  const kp_gemm_i8_args got = kc_act_gemm(k, tested, act, x, KC_SWEEP);
  reference->run(&expected);
  tested->run(&got);
  kc_equal_floats(k, expected.epilogue.dst_f32, got.epilogue.dst_f32, KC_SWEEP);
}

static void check_gemm(kc *k) {
  static const size_t columns_around[] = {1,  2,  7,  8,  9,  12, 15, 16, 17, 23, 24, 25, 31, 32, 33,
                                          40, 47, 48, 49, 56, 63, 64, 65, 72, 79, 80, 81, 95, 96, 100};
  static const size_t depths_around[] = {95, 96, 97, 111, 112, 127, 128, 129, 143, 144, 145, 191, 192, 193, 255, 257};
  enum {
    COLUMNS = sizeof columns_around / sizeof *columns_around,
    DEPTHS = sizeof depths_around / sizeof *depths_around
  };
  static const struct {
    size_t depth, tap_count; /* as check_one's */
  } long_sums[] = {{1023, 0}, {1024, 1}, {1025, 0}, {1535, 0}, {1536, 0}, {1537, 0}, {3071, 0}, {3072, 1},
                   {3074, 0}, {4099, 0}, {341, 9},  {342, 9},  {171, 9},  {96, 16},  {97, 16},  {64, 49},
                   {3, 513},  {1, 1600}, {768, 3},  {769, 3},  {31, 100}, {5000, 0}, {2048, 2}};
  enum { LONG_SUMS = sizeof long_sums / sizeof *long_sums };
  check_layout(k);
  for (kp_act act = KP_ACT_NONE; act <= KP_UNARY_COUNT; act++) check_sweep(k, act);
  size_t plan = 0;
  for (; plan < 6 * KC_EPILOGUE_PLANS; plan++) {
    const size_t columns = columns_around[kc_random_size(k, 0, COLUMNS - 1)];
    check_one(k, kc_random_size(k, 1, 20), columns, kc_random_size(k, 1, 80), kc_random_size(k, 0, 4), plan);
  }
  for (size_t i = 0; i < 3 * (80 + DEPTHS); i++) {
    const size_t depth = i / 3 < 80 ? 1 + i / 3 : depths_around[i / 3 - 80];
    check_one(k, kc_random_size(k, 0, 14), kc_random_size(k, 1, 40), depth, i % 3 * kc_random_size(k, 1, 2), plan++);
  }
  for (size_t columns = 0; columns <= 100; columns++) {
    check_one(k, kc_random_size(k, 1, 9), columns, kc_random_size(k, 1, 20), kc_random_size(k, 0, 2), plan++);
  }
  for (size_t i = 0; i < 4 * 41; i++) {
    check_one(k, i / 4, kc_random_size(k, 1, 70), kc_random_size(k, 1, 40), i % 2 * kc_random_size(k, 1, 9), plan++);
  }
  /* More than kernels keep of a row, of rows and of columns at a time. */
  for (size_t i = 0; i < LONG_SUMS; i++) {
    const size_t depth = long_sums[i].depth, tap_count = long_sums[i].tap_count;
    check_one(k, kc_random_size(k, 1, 14), kc_random_size(k, 1, 40), depth, tap_count, plan++);
  }
  for (size_t i = 0; i < 24; i++) {
    const bool wide = i % 3 == 0;
    check_one(k, kc_random_size(k, wide ? 1 : 41, wide ? 20 : 130), kc_random_size(k, wide ? 101 : 1, wide ? 400 : 50),
              kc_random_size(k, 1, 40), kc_random_size(k, 0, 2), plan++);
  }
  for (size_t i = 0; i < 4 * 9; i++) {
    check_one(k, kc_random_size(k, 1, 17), kc_random_size(k, 1, 40), kc_random_size(k, 1, 100), 1 + i / 4, plan++);
  }
}

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

static void run_gemm(const kp_kernels *kernels, void *args) { kernels->gemm_i8.run(args); }

/* A picture's convolution (dst int8), or a linear with row_scale (dst float32). */
static void bench_shape(kc *k, size_t rows, size_t columns, size_t depth, size_t side, kp_act act, bool linear,
                        bool residual) {
  char label[64];
  const size_t tap_count = side > 0 ? 9 : 1;
  snprintf(label, sizeof label, "%zux%zux%s%zu %s %s%s", rows, columns, side > 0 ? "9*" : "", depth, kc_act_name(act),
           linear ? "f32" : "i8", residual ? " residual" : "");
  kc_case(k, "%s", label);
  int8_t *weights = kc_bytes(k, columns * tap_count * depth);
  kc_fill_weights(k, KC_ORDINARY, weights, columns * tap_count * depth);
  const product p = {columns, tap_count, depth, weights};
  kc_epilogue_plan plan = {.values = KC_ORDINARY,
                           .act = act,
                           .residual = residual ? KC_RESIDUAL_F32 : KC_RESIDUAL_NONE,
                           .dst_i8 = !linear,
                           .row_scale = linear,
                           .dst_stride = columns,
                           .residual_stride = columns};
  kp_gemm_i8_args args = {.rows = rows,
                          .columns = columns,
                          .a = kc_random_i8(k, rows * depth),
                          .a_stride = depth,
                          .tap_count = tap_count,
                          .depth = depth,
                          .b = pack(k, &p, &kc_tested(k)->gemm_i8)};
  if (side > 0) args.taps = kc_window_i8(k, side, args.a, depth, kc_random_i8(k, depth));
  args.epilogue = kc_epilogues(k, &plan, rows, columns, 5000.0 * sqrt((double)(tap_count * depth))).got;
  kc_bench_i8(k, label, rows * columns, (double)(tap_count * depth), run_gemm, &args);
}

static void bench_gemm(kc *k) {
  bench_shape(k, 16384, 32, 16, 0, KP_ACT(KP_SILU), false, false);
  bench_shape(k, 16384, 16, 32, 0, KP_ACT_NONE, false, false);
  bench_shape(k, 4096, 48, 24, 0, KP_ACT(KP_SILU), false, false);
  bench_shape(k, 1024, 40, 80, 32, KP_ACT(KP_SILU), false, false);
  bench_shape(k, 64, 64, 128, 8, KP_ACT(KP_SILU), false, false);
  bench_shape(k, 1024, 144, 48, 0, KP_ACT_NONE, true, false);
  bench_shape(k, 64, 312, 312, 0, KP_ACT_NONE, true, true);
  bench_shape(k, 64, 1248, 312, 0, KP_ACT(KP_GELU), true, false);
  bench_shape(k, 64, 312, 1248, 0, KP_ACT_NONE, true, true);
  bench_shape(k, 9, 256, 256, 0, KP_ACT_NONE, true, false);
  bench_shape(k, 1, 768, 192, 0, KP_ACT_NONE, true, false);
}

const kc_check kc_gemm_i8[] = {
    {"gemm_i8", check_gemm, bench_gemm},
    {0},
};

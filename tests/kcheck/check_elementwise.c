/* unary_f32, binary_f32, epilogue_f32. */
#include <math.h>
#include <string.h>

#include "kcheck.h"

static const char *const unary_names[KP_UNARY_COUNT] = {
    [KP_RELU] = "relu",
    [KP_RELU6] = "relu6",
    [KP_HARDSWISH] = "hardswish",
    [KP_HARDSIGMOID] = "hardsigmoid",
    [KP_SIGMOID] = "sigmoid",
    [KP_SILU] = "silu",
    [KP_GELU] = "gelu",
    [KP_GELU_TANH] = "gelu_tanh",
    [KP_QUICK_GELU] = "quick_gelu",
    [KP_TANH] = "tanh",
    [KP_EXP] = "exp",
    [KP_SQRT] = "sqrt",
};

static const char *const binary_names[KP_BINARY_COUNT] = {
    [KP_ADD] = "add", [KP_SUB] = "sub", [KP_MUL] = "mul", [KP_DIV] = "div", [KP_MIN] = "min", [KP_MAX] = "max",
};

const char *kc_act_name(kp_act act) { return act == KP_ACT_NONE ? "none" : unary_names[act - 1]; }

/* ---- unary_f32 -------------------------------------------------------------------------------------------------- */

/* Every 65,521st bit pattern, NaNs included. */
static void sweep_unary(kc *k, int f) {
  enum { COUNT = 65552 };
  kc_case(k, "%s, a sweep of bit patterns", unary_names[f]);
  float *src = kc_floats(k, COUNT, KC_UNIFORM), *expected = kc_floats(k, COUNT, KC_UNIFORM);
  float *got = kc_floats(k, COUNT, KC_UNIFORM);
  uint32_t bits = (uint32_t)kc_random(k);
  for (size_t i = 0; i < COUNT; i++, bits += 65521) {
    memcpy(&src[i], &bits, sizeof bits);
  }
  kc_reference(k)->unary_f32[f](expected, src, COUNT);
  kc_tested(k)->unary_f32[f](got, src, COUNT);
  kc_equal_floats(k, expected, got, COUNT);
}

static void check_unary(kc *k) {
  for (int f = 0; f < KP_UNARY_COUNT; f++) {
    for (size_t i = 0; i < 2 * kc_length_count; i++) {
      const size_t n = kc_lengths[i / 2];
      kc_case(k, "%s, n %zu", unary_names[f], n);
      float *src = kc_floats(k, n, KC_ANY), *expected = kc_floats(k, n, KC_UNIFORM);
      float *got = kc_floats(k, n, KC_UNIFORM), *in_place = kc_copy_floats(k, src, n);
      kc_reference(k)->unary_f32[f](expected, src, n);
      kc_tested(k)->unary_f32[f](got, src, n);
      kc_equal_floats(k, expected, got, n);
      kc_tested(k)->unary_f32[f](in_place, in_place, n);
      kc_equal_floats(k, expected, in_place, n);
    }
    sweep_unary(k, f);
  }
}

typedef struct unary_args {
  int f;
  float *dst;
  const float *src;
  size_t n;
} unary_args;

static void run_unary(const kp_kernels *kernels, void *args) {
  const unary_args *a = args;
  kernels->unary_f32[a->f](a->dst, a->src, a->n);
}

static void bench_unary(kc *k) {
  for (int f = 0; f < KP_UNARY_COUNT; f++) {
    kc_case(k, "%s", unary_names[f]);
    const size_t n = 4096;
    unary_args args = {f, kc_floats(k, n, KC_UNIFORM), kc_floats(k, n, KC_UNIFORM), n};
    kc_bench(k, unary_names[f], n, 0.0, run_unary, &args);
  }
}

/* ---- binary_f32 ------------------------------------------------------------------------------------------------- */

static void check_binary(kc *k) {
  for (int f = 0; f < KP_BINARY_COUNT; f++) {
    for (size_t i = 0; i < 8 * kc_length_count; i++) {
      const size_t n = kc_lengths[i / 8], a_step = i & 1, b_step = i >> 1 & 1;
      kc_case(k, "%s, n %zu, steps %zu %zu", binary_names[f], n, a_step, b_step);
      const size_t a_size = a_step ? n : n > 0, b_size = b_step ? n : n > 0;
      float *a = kc_floats(k, a_size, KC_ANY), *b = kc_floats(k, b_size, KC_ANY);
      float *expected = kc_floats(k, n, KC_UNIFORM), *got = kc_floats(k, n, KC_UNIFORM);
      kc_reference(k)->binary_f32[f](expected, a, a_step, b, b_step, n);
      kc_tested(k)->binary_f32[f](got, a, a_step, b, b_step, n);
      kc_equal_floats(k, expected, got, n);
      if (a_step) {
        float *in_place = kc_copy_floats(k, a, n);
        kc_tested(k)->binary_f32[f](in_place, in_place, 1, b, b_step, n);
        kc_equal_floats(k, expected, in_place, n);
      }
      if (b_step) {
        float *in_place = kc_copy_floats(k, b, n);
        kc_tested(k)->binary_f32[f](in_place, a, a_step, in_place, 1, n);
        kc_equal_floats(k, expected, in_place, n);
      }
    }
  }
}

typedef struct binary_args {
  int f;
  float *dst;
  const float *a, *b;
  size_t b_step, n;
} binary_args;

static void run_binary(const kp_kernels *kernels, void *args) {
  const binary_args *a = args;
  kernels->binary_f32[a->f](a->dst, a->a, 1, a->b, a->b_step, a->n);
}

static void bench_binary(kc *k) {
  const size_t n = 4096;
  kc_case(k, "n %zu", n);
  binary_args args = {KP_ADD, kc_floats(k, n, KC_UNIFORM), kc_floats(k, n, KC_UNIFORM), kc_floats(k, n, KC_UNIFORM), 1,
                      n};
  kc_bench(k, "add", n, 0.0, run_binary, &args);
  args.b_step = 0;
  kc_bench(k, "add, one scalar", n, 0.0, run_binary, &args);
  args = (binary_args){KP_DIV, args.dst, args.a, args.b, 1, n};
  kc_bench(k, "div", n, 0.0, run_binary, &args);
}

/* ---- epilogue_f32 ----------------------------------------------------------------------------------------------- */

static void check_epilogue(kc *k) {
  for (kp_act act = KP_ACT_NONE; act <= KP_UNARY_COUNT; act++) {
    for (size_t i = 0; i < 6 * kc_length_count; i++) {
      const size_t columns = kc_lengths[i / 6], rows = kc_random_size(k, 0, 9);
      const bool with_bias = kc_random(k) & 1;
      const int residual_kind = (int)(i % 3); /* none, another buffer, y itself */
      const size_t stride = columns + (kc_random(k) & 1 ? kc_random_size(k, 1, 20) : 0);
      const size_t residual_stride = columns + (kc_random(k) & 1 ? kc_random_size(k, 1, 20) : 0);
      kc_case(k, "act %s, %zu x %zu, stride %zu, bias %d, residual %d with stride %zu", kc_act_name(act), rows, columns,
              stride, with_bias, residual_kind, residual_stride);
      /* The last row ends with its last column: no stride is read after it. */
      const size_t size = rows > 0 ? (rows - 1) * stride + columns : 0;
      const size_t residual_size = rows > 0 ? (rows - 1) * residual_stride + columns : 0;
      const kc_fill fill = kc_random(k) & 1 ? KC_ANY : KC_UNIFORM;
      float *expected = kc_floats(k, size, fill), *got = kc_copy_floats(k, expected, size);
      float *bias = with_bias ? kc_floats(k, columns, fill) : NULL;
      float *other = residual_kind == 1 ? kc_floats(k, residual_size, fill) : NULL;
      const float *a = residual_kind == 2 ? expected : other, *b = residual_kind == 2 ? got : other;
      const size_t used_stride = residual_kind == 2 ? stride : residual_stride;
      kc_reference(k)->epilogue_f32(expected, stride, bias, a, used_stride, rows, columns, act);
      kc_tested(k)->epilogue_f32(got, stride, bias, b, used_stride, rows, columns, act);
      kc_equal_floats(k, expected, got, size);
    }
  }
}

typedef struct epilogue_args {
  float *y;
  const float *bias, *residual;
  size_t rows, columns;
  kp_act act;
} epilogue_args;

static void run_epilogue(const kp_kernels *kernels, void *args) {
  const epilogue_args *a = args;
  kernels->epilogue_f32(a->y, a->columns, a->bias, a->residual, a->columns, a->rows, a->columns, a->act);
}

static void bench_epilogue(kc *k) {
  static const struct {
    const char *label;
    size_t rows, columns;
    kp_act act;
    bool residual;
  } shapes[] = {
      {"16384 x 32, silu", 16384, 32, KP_ACT(KP_SILU), false}, {"4096 x 24, none, residual", 4096, 24, 0, true},
      {"1024 x 40, silu", 1024, 40, KP_ACT(KP_SILU), false},   {"256 x 64, silu", 256, 64, KP_ACT(KP_SILU), false},
      {"64 x 1248, gelu", 64, 1248, KP_ACT(KP_GELU), false},   {"64 x 312, none", 64, 312, 0, false},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    const size_t n = shapes[i].rows * shapes[i].columns;
    kc_case(k, "%s", shapes[i].label);
    float *bias = kc_bytes(k, shapes[i].columns * sizeof *bias);
    memset(bias, 0, shapes[i].columns * sizeof *bias);
    /* The functions leave small values small, so that repeats in place do not reach denormals or infinities soon;
     * their speed does not depend on values. */
    epilogue_args args = {kc_floats(k, n, KC_UNIFORM), bias, NULL, shapes[i].rows, shapes[i].columns, shapes[i].act};
    if (shapes[i].residual) {
      float *residual = kc_bytes(k, n * sizeof *residual);
      memset(residual, 0, n * sizeof *residual);
      args.residual = residual;
    }
    kc_bench(k, shapes[i].label, n, 0.0, run_epilogue, &args);
  }
}

const kc_check kc_elementwise[] = {
    {"unary_f32", check_unary, bench_unary},
    {"binary_f32", check_binary, bench_binary},
    {"epilogue_f32", check_epilogue, bench_epilogue},
    {0},
};

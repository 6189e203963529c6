/* The elementary functions against the true ones, in double: the bounds that docs/numerics.md states. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/c/math_c.h"
#include "keypilot/keypilot.h"

#include "operands_i8.h"

static double sigmoid(double x) { return x < 0 ? exp(x) / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x)); }
static double silu(double x) { return x * sigmoid(x); }
static double gelu(double x) { return 0.5 * x * erfc(-x / sqrt(2.0)); }
static double gelu_tanh(double x) { return x * sigmoid(2.0 * sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)); }
static double quick_gelu(double x) { return x * sigmoid(1.702 * x); }
static double hardsigmoid(double x) { return fmin(fmax(x + 3.0, 0.0), 6.0) / 6.0; }
static double hardswish(double x) { return x * hardsigmoid(x); }

/* |error| <= ulp * (spacing of floats at the true value) + absolute, where above < |x| <= up_to. */
typedef struct bound {
  kp_unary unary;
  const char *name;
  double (*truth)(double);
  double ulp, absolute;
  float above, up_to;
} bound;

static const bound bounds[] = {
    {KP_EXP, "exp", exp, 1.1, 0.0, -1.0f, FLT_MAX},
    {KP_SIGMOID, "sigmoid", sigmoid, 2.5, 0.0, -1.0f, FLT_MAX},
    {KP_TANH, "tanh", tanh, 3.0, 0.0, -1.0f, FLT_MAX},
    {KP_SILU, "silu", silu, 4.0, 1e-43, -1.0f, FLT_MAX},
    {KP_GELU, "gelu", gelu, 3.0, 1e-6, -1.0f, FLT_MAX},
    {KP_GELU_TANH, "gelu_tanh", gelu_tanh, 3.0, 5e-8, -1.0f, FLT_MAX},
    {KP_QUICK_GELU, "quick_gelu", quick_gelu, 4.0, 2e-8, -1.0f, FLT_MAX},
    {KP_HARDSIGMOID, "hardsigmoid", hardsigmoid, 1.5, 0.0, -1.0f, FLT_MAX},
    {KP_HARDSWISH, "hardswish", hardswish, 3.0, 0.0, -1.0f, FLT_MAX},
    {KP_SQRT, "sqrt", sqrt, 0.5001, 0.0, -1.0f, FLT_MAX},
};

/* Beyond the limit the tail keeps its value there; large results are rounded once more. */
static const bound bounds_i8[] = {
    {KP_SILU, "silu_i8", silu, 0.0, 2e-4, -1.0f, KP_SILU_I8_LIMIT},
    {KP_SILU, "silu_i8", silu, 0.51, 2.7e-3, KP_SILU_I8_LIMIT, FLT_MAX},
    {KP_GELU, "gelu_i8", gelu, 0.0, 1e-4, -1.0f, KP_GELU_I8_LIMIT},
    {KP_GELU, "gelu_i8", gelu, 0.51, 1.6e-4, KP_GELU_I8_LIMIT, FLT_MAX},
};

/* The spacing of floats at |x|: that of denormals near 0, that below infinity from FLT_MAX up. */
static double spacing(double x) {
  int exponent;
  frexp(fabs(x), &exponent);
  if (x == 0.0 || exponent < FLT_MIN_EXP) exponent = FLT_MIN_EXP;
  if (exponent > FLT_MAX_EXP) exponent = FLT_MAX_EXP;
  return ldexp(1.0, exponent - FLT_MANT_DIG);
}

enum { BLOCK = 1 << 16 };

/* `step`: of the bit patterns that are tried. `product`: of the activation in an int8 epilogue, with x for its bias;
 * NULL: unary_f32. */
static void check_function(kc *k, const bound *f, uint64_t step, float *x, const kp_gemm_i8_args *product) {
  static float result[BLOCK];
  const float *y = product ? product->epilogue.dst_f32 : result;
  double worst = 0.0;
  float worst_at = 0.0f;
  uint64_t bits = kc_exhaustive(k) ? 0 : kc_random(k) % step;
  while (bits < UINT64_C(1) << 32) {
    size_t n = 0;
    for (; n < BLOCK && bits < UINT64_C(1) << 32; bits += step) {
      const uint32_t pattern = (uint32_t)bits;
      memcpy(&x[n], &pattern, sizeof pattern);
      if (isfinite(x[n]) && fabsf(x[n]) > f->above && fabsf(x[n]) <= f->up_to) n++;
    }
    if (product) {
      kc_tested(k)->gemm_i8.run(product);
    } else {
      kc_tested(k)->unary_f32[f->unary](result, x, n);
    }
    for (size_t i = 0; i < n; i++) {
      const double truth = f->truth((double)x[i]);
      if (isnan(truth) && isnan(y[i])) continue;
      /* Beyond the largest float, infinity and the largest float are each right within half a spacing. */
      const double bounded = fmin(truth, ldexp(1.0, FLT_MAX_EXP)), got = fmin((double)y[i], ldexp(1.0, FLT_MAX_EXP));
      const double ratio = fabs(got - bounded) / (f->ulp * spacing(bounded) + f->absolute);
      if (!(ratio <= worst)) {
        worst = ratio;
        worst_at = x[i];
      }
    }
  }
  printf("  %-12s bound %g ulp + %g; worst at %a: %.3f of it\n", f->name, f->ulp, f->absolute, (double)worst_at, worst);
  fflush(stdout);
  if (!(worst <= 1.0)) {
    kc_fail(k, "error %.2f times the bound of %g ulp + %g at %a", worst, f->ulp, f->absolute, (double)worst_at);
  }
}

/* The levels are bit-identical by the slots' checks, so one of them stands for all. */
static void check_accuracy(kc *k) {
  static float x[BLOCK];
  if (kc_isa(k) != kp_cpu_isa()) return;
  const uint64_t step = kc_exhaustive(k) ? 1 : 997;
  for (size_t f = 0; f < sizeof bounds / sizeof bounds[0]; f++) {
    kc_case(k, "%s, every %u. float", bounds[f].name, (unsigned)step);
    check_function(k, &bounds[f], step, x, NULL);
  }
}

static void check_accuracy_i8(kc *k) {
  if (kc_isa(k) != kp_cpu_isa()) return;
  const uint64_t step = kc_exhaustive(k) ? 1 : 997;
  for (size_t f = 0; f < sizeof bounds_i8 / sizeof bounds_i8[0]; f++) {
    kc_case(k, "%s above %g, every %u. float", bounds_i8[f].name, (double)bounds_i8[f].above, (unsigned)step);
    float *x = kc_column_floats(k, BLOCK, KC_UNIFORM);
    const kp_gemm_i8_args product = kc_act_gemm(k, &kc_tested(k)->gemm_i8, KP_ACT(bounds_i8[f].unary), x, BLOCK);
    check_function(k, &bounds_i8[f], step, x, &product);
  }
}

/* An integer within 1/2 of what is within 1e-4 of 2^z, relatively. */
static void check_exp2(kc *k) {
  if (kc_isa(k) != kp_cpu_isa()) return;
  kc_case(k, "a million steps from %g to %g", (double)KP_EXP2_I8_MIN, (double)KP_EXP2_I8_MAX);
  const double step = ((double)KP_EXP2_I8_MAX - (double)KP_EXP2_I8_MIN) * 1e-6;
  for (size_t i = 0; i <= 1000000; i++) {
    const float z = (float)((double)KP_EXP2_I8_MIN + step * (double)i);
    const double truth = exp2((double)z), error = fabs((double)kp_exp2_i8_c(z) - truth);
    if (!(error <= 0.5 + 1e-4 * truth)) {
      kc_fail(k, "expected %g, got %d at %a", truth, kp_exp2_i8_c(z), (double)z);
      return;
    }
  }
  if (kp_exp2_i8_c(-INFINITY) != 0 || kp_exp2_i8_c(-1e30f) != 0) kc_fail(k, "expected 0 below the lower bound");
  if (kp_exp2_i8_c(INFINITY) != 255 || kp_exp2_i8_c(1e30f) != 255) kc_fail(k, "expected 255 above the upper bound");
}

/* FNV-1a over 32-bit results; NaNs are left out. */
static uint64_t digest_floats(uint64_t digest, const float *y, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t result;
    memcpy(&result, &y[i], sizeof result);
    if (!isnan(y[i])) digest = (digest ^ result) * UINT64_C(0x100000001b3);
  }
  return digest;
}

enum { DIGEST_FLOATS = 65552 };

/* Every 65,521st float. */
static void fill_digest_floats(float *x) {
  uint32_t bits = 0;
  for (size_t i = 0; i < DIGEST_FLOATS; i++, bits += 65521) memcpy(&x[i], &bits, sizeof bits);
}

/* The results at these floats, function by function: the same on every architecture. */
static void check_digest(kc *k) {
  static const uint64_t expected = UINT64_C(0x3bda89089bc8bf52);
  static float x[DIGEST_FLOATS], y[DIGEST_FLOATS];
  uint64_t digest = UINT64_C(0xcbf29ce484222325);
  fill_digest_floats(x);
  for (int f = 0; f < KP_UNARY_COUNT; f++) {
    kc_tested(k)->unary_f32[f](y, x, DIGEST_FLOATS);
    digest = digest_floats(digest, y, DIGEST_FLOATS);
  }
  kc_case(k, "every 65521st float");
  if (digest != expected) kc_fail(k, "expected 0x%" PRIx64 ", got 0x%" PRIx64, expected, digest);
}

/* The same for the activations of int8 epilogues, as gemm_i8 computes them, and for the exponential of attention_i8. */
static void check_digest_i8(kc *k) {
  static const uint64_t expected = UINT64_C(0xfd8a23487abaaa13);
  uint64_t digest = UINT64_C(0xcbf29ce484222325);
  for (kp_act act = KP_ACT_NONE; act <= KP_UNARY_COUNT; act++) {
    kc_case(k, "every 65521st float");
    float *x = kc_column_floats(k, DIGEST_FLOATS, KC_UNIFORM);
    fill_digest_floats(x);
    const kp_gemm_i8_args product = kc_act_gemm(k, &kc_tested(k)->gemm_i8, act, x, DIGEST_FLOATS);
    kc_tested(k)->gemm_i8.run(&product);
    digest = digest_floats(digest, product.epilogue.dst_f32, DIGEST_FLOATS);
  }
  for (size_t i = 0; i < DIGEST_FLOATS; i++) {
    const float z = (float)i * 0x1p-12f - 4.0f;
    digest = (digest ^ kp_exp2_i8_c(z)) * UINT64_C(0x100000001b3);
  }
  if (digest != expected) kc_fail(k, "expected 0x%" PRIx64 ", got 0x%" PRIx64, expected, digest);
}

const kc_check kc_accuracy[] = {
    {"elementary_digest", check_digest, NULL},
    {"elementary_digest_i8", check_digest_i8, NULL},
    {"elementary_functions", check_accuracy, NULL},
    {"elementary_functions_i8", check_accuracy_i8, NULL},
    {"exp2_i8", check_exp2, NULL},
    {0},
};

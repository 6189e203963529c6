/* The elementary functions against the true ones, in double: the bounds that docs/numerics.md states. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "keypilot/keypilot.h"

#include "kcheck.h"

static double sigmoid(double x) { return x < 0 ? exp(x) / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x)); }
static double silu(double x) { return x * sigmoid(x); }
static double gelu(double x) { return 0.5 * x * erfc(-x / sqrt(2.0)); }
static double gelu_tanh(double x) { return x * sigmoid(2.0 * sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)); }
static double quick_gelu(double x) { return x * sigmoid(1.702 * x); }
static double hardsigmoid(double x) { return fmin(fmax(x + 3.0, 0.0), 6.0) / 6.0; }
static double hardswish(double x) { return x * hardsigmoid(x); }

/* |error| <= ulp * (spacing of floats at the true value) + absolute. */
static const struct {
  kp_unary unary;
  const char *name;
  double (*truth)(double);
  double ulp, absolute;
} bounds[] = {
    {KP_EXP, "exp", exp, 1.1, 0.0},
    {KP_SIGMOID, "sigmoid", sigmoid, 2.5, 0.0},
    {KP_TANH, "tanh", tanh, 3.0, 0.0},
    {KP_SILU, "silu", silu, 4.0, 1e-43},
    {KP_GELU, "gelu", gelu, 3.0, 1e-6},
    {KP_GELU_TANH, "gelu_tanh", gelu_tanh, 3.0, 5e-8},
    {KP_QUICK_GELU, "quick_gelu", quick_gelu, 4.0, 2e-8},
    {KP_HARDSIGMOID, "hardsigmoid", hardsigmoid, 1.5, 0.0},
    {KP_HARDSWISH, "hardswish", hardswish, 3.0, 0.0},
    {KP_SQRT, "sqrt", sqrt, 0.5001, 0.0},
};

/* The spacing of floats at |x|: that of denormals near 0, that below infinity from FLT_MAX up. */
static double spacing(double x) {
  int exponent;
  frexp(fabs(x), &exponent);
  if (x == 0.0 || exponent < FLT_MIN_EXP) exponent = FLT_MIN_EXP;
  if (exponent > FLT_MAX_EXP) exponent = FLT_MAX_EXP;
  return ldexp(1.0, exponent - FLT_MANT_DIG);
}

static void check_function(kc *k, size_t f) {
  enum { BLOCK = 1 << 16 };
  static float x[BLOCK], y[BLOCK];
  const uint64_t step = kc_exhaustive(k) ? 1 : 997;
  double worst = 0.0;
  float worst_at = 0.0f;
  kc_case(k, "%s, every %u. float", bounds[f].name, (unsigned)step);
  uint64_t bits = kc_exhaustive(k) ? 0 : kc_random(k) % step;
  while (bits < UINT64_C(1) << 32) {
    size_t n = 0;
    for (; n < BLOCK && bits < UINT64_C(1) << 32; bits += step) {
      const uint32_t pattern = (uint32_t)bits;
      memcpy(&x[n], &pattern, sizeof pattern);
      if (isfinite(x[n])) n++;
    }
    kc_tested(k)->unary_f32[bounds[f].unary](y, x, n);
    for (size_t i = 0; i < n; i++) {
      const double truth = bounds[f].truth((double)x[i]);
      if (isnan(truth) && isnan(y[i])) continue;
      /* Beyond the largest float, infinity and the largest float are each right within half a spacing. */
      const double bounded = fmin(truth, ldexp(1.0, FLT_MAX_EXP)), got = fmin((double)y[i], ldexp(1.0, FLT_MAX_EXP));
      const double ratio = fabs(got - bounded) / (bounds[f].ulp * spacing(bounded) + bounds[f].absolute);
      if (!(ratio <= worst)) {
        worst = ratio;
        worst_at = x[i];
      }
    }
  }
  printf("  %-12s bound %g ulp + %g; worst at %a: %.3f of it\n", bounds[f].name, bounds[f].ulp, bounds[f].absolute,
         (double)worst_at, worst);
  fflush(stdout);
  if (!(worst <= 1.0)) {
    kc_fail(k, "error %.2f times the bound of %g ulp + %g at %a", worst, bounds[f].ulp, bounds[f].absolute,
            (double)worst_at);
  }
}

/* The levels are bit-identical by unary_f32's check, so one of them stands for all. */
static void check_accuracy(kc *k) {
  if (kc_isa(k) != kp_cpu_isa()) return;
  for (size_t f = 0; f < sizeof bounds / sizeof bounds[0]; f++) check_function(k, f);
}

/* FNV-1a over the results at every 65,521st float, function by function: the same on every architecture. */
static void check_digest(kc *k) {
  static const uint64_t expected = UINT64_C(0x3bda89089bc8bf52);
  uint64_t digest = UINT64_C(0xcbf29ce484222325);
  for (int f = 0; f < KP_UNARY_COUNT; f++) {
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 65521) {
      const uint32_t pattern = (uint32_t)bits;
      float x, y;
      memcpy(&x, &pattern, sizeof x);
      kc_tested(k)->unary_f32[f](&y, &x, 1);
      if (isnan(y)) continue;
      uint32_t result;
      memcpy(&result, &y, sizeof result);
      digest = (digest ^ result) * UINT64_C(0x100000001b3);
    }
  }
  kc_case(k, "every 65521st float");
  if (digest != expected) kc_fail(k, "expected 0x%" PRIx64 ", got 0x%" PRIx64, expected, digest);
}

const kc_check kc_accuracy[] = {
    {"elementary_digest", check_digest, NULL},
    {"elementary_functions", check_accuracy, NULL},
    {0},
};

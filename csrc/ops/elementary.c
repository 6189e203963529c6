#include "ops/elementary.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LARGEST_ANGLE 0x1p+30

/* pi / 2 as a sum: the products of the first two, of 23 bits each, with an integer below 2^30 are exact. */
#define HALF_PI_HIGH 0x1.921fb4p+0
#define HALF_PI_MIDDLE 0x1.4442d0p-24
#define HALF_PI_LOW 0x1.8469898cc5170p-48
#define TWO_OVER_PI 0x1.45f306dc9c883p-1

/* x = quarters * pi / 2 + rest, |rest| <= pi / 4. */
typedef struct angle {
  unsigned quarters; /* modulo 4 */
  double rest;
} angle;

static angle reduce(float x) {
  double wide = (double)x;
  if (wide > LARGEST_ANGLE) wide = LARGEST_ANGLE;
  if (wide < -LARGEST_ANGLE) wide = -LARGEST_ANGLE;
  double turns = wide * TWO_OVER_PI;
  int64_t n = (int64_t)(turns + (turns < 0 ? -0.5 : 0.5));
  double rest = wide - (double)n * HALF_PI_HIGH;
  rest = rest - (double)n * HALF_PI_MIDDLE;
  return (angle){.quarters = (unsigned)(n & 3), .rest = rest - (double)n * HALF_PI_LOW};
}

/* Taylor's series to r^13 and r^14: what is left out is below 3e-14. */
static double sine(double r) {
  double t = r * r;
  double p = -1.0 / 39916800 + t * (1.0 / 6227020800);
  p = 1.0 / 362880 + t * p;
  p = -1.0 / 5040 + t * p;
  p = 1.0 / 120 + t * p;
  p = -1.0 / 6 + t * p;
  return r + r * (t * p);
}

static double cosine(double r) {
  double t = r * r;
  double p = 1.0 / 479001600 - t * (1.0 / 87178291200);
  p = -1.0 / 3628800 + t * p;
  p = 1.0 / 40320 + t * p;
  p = -1.0 / 720 + t * p;
  p = 1.0 / 24 + t * p;
  p = -1.0 / 2 + t * p;
  return 1 + t * p;
}

/* The sine of an angle and so many quarters of a turn. */
static float turned(angle a, unsigned quarters) {
  quarters = (quarters + a.quarters) & 3;
  double y = quarters & 1 ? cosine(a.rest) : sine(a.rest);
  return (float)(quarters & 2 ? -y : y);
}

float kp_sin_f32(float x) { return isnan(x) ? x : turned(reduce(x), 0); }

float kp_cos_f32(float x) { return isnan(x) ? x : turned(reduce(x), 1); }

/* x = 2^e * m with m in [sqrt(1/2), sqrt 2); with s = (m - 1) / (m + 1), log m = 2 artanh s, by its series to s^15. */
float kp_log_f32(float x) {
  if (isnan(x) || x < 0) return NAN;
  if (x == 0) return -INFINITY;
  if (isinf(x)) return x;
  double m = (double)x; /* normal, though x be subnormal */
  uint64_t bits;
  memcpy(&bits, &m, sizeof bits);
  const uint64_t root_half = UINT64_C(0x3fe6a09e667f3bcd); /* the bits of sqrt(1/2) */
  int64_t exponent = ((int64_t)(bits - root_half)) >> 52;
  bits -= (uint64_t)exponent << 52;
  memcpy(&m, &bits, sizeof m);
  double s = (m - 1) / (m + 1), t = s * s;
  double p = 1.0 / 13 + t * (1.0 / 15);
  p = 1.0 / 11 + t * p;
  p = 1.0 / 9 + t * p;
  p = 1.0 / 7 + t * p;
  p = 1.0 / 5 + t * p;
  p = 1.0 / 3 + t * p;
  return (float)((double)exponent * 0x1.62e42fefa39efp-1 + 2 * (s + s * (t * p)));
}

/* What the checks of the int8 slots share: operands and epilogues with random, and with adversarial, contents. */
#ifndef KCHECK_OPERANDS_I8_H
#define KCHECK_OPERANDS_I8_H

#include "kcheck.h"

typedef enum kc_values_i8 {
  KC_ORDINARY,    /* anything; the results lie around the int8 range, at both ends of it and beyond them */
  KC_TIES,        /* small integers and powers of two: results exactly at rounding ties */
  KC_NEAR_TIES,   /* before the quantiser: within a rounding of y * inverse from a tie */
  KC_ENDS,        /* every operand at an end of its range */
  KC_ALL_EQUAL,   /* one activation, -128 or 127, and one weight, -127 or 127: the largest sums */
  KC_LARGE_SUMS,  /* with offsets up to 2^30: sums that a float does not hold exactly */
  KC_ADVERSARIAL, /* scales, biases and residuals of any exponent; infinities and NaNs among the last two */
  KC_VALUES_I8_COUNT
} kc_values_i8;

typedef enum kc_residual_i8 {
  KC_RESIDUAL_NONE,
  KC_RESIDUAL_F32,
  KC_RESIDUAL_I8,
  KC_RESIDUAL_IN_PLACE, /* dst's own contents */
  KC_RESIDUAL_I8_COUNT
} kc_residual_i8;

/* What an epilogue does, without its buffers. */
typedef struct kc_epilogue_plan {
  kc_values_i8 values;
  kp_act act;
  kc_residual_i8 residual;
  bool dst_i8, row_scale;
  size_t dst_stride, residual_stride;
  char name[128]; /* for kc_case */
} kc_epilogue_plan;

/* The plans of these many consecutive indices have every activation with every kind of residual and of dst. */
#define KC_EPILOGUE_PLANS ((KP_UNARY_COUNT + 1) * KC_RESIDUAL_I8_COUNT * 2)

kc_epilogue_plan kc_plan_epilogue(kc *k, size_t index, size_t columns, bool row_scale_allowed);

/* The same epilogue for the reference and for the tested kernel. The offsets are small, or what KC_LARGE_SUMS says:
 * callers add to them. */
typedef struct kc_epilogue_pair {
  kp_epilogue_i8 expected, got;
  int32_t *expected_offset, *got_offset;
  size_t size; /* elements of dst, from its first to its last */
} kc_epilogue_pair;

/* `magnitude`: of a typical accumulator. */
kc_epilogue_pair kc_epilogues(kc *k, const kc_epilogue_plan *plan, size_t rows, size_t columns, double magnitude);
bool kc_equal_epilogues(kc *k, const kc_epilogue_pair *pair);

/* The epilogue, and the product of one row, that turn sums of 0 into act(x[c]) in float32. x is by column, padded. */
kp_epilogue_i8 kc_act_epilogue(kc *k, kp_act act, const float *x, size_t columns);
kp_gemm_i8_args kc_act_gemm(kc *k, const kp_gemm_i8 *gemm, kp_act act, const float *x, size_t columns);

/* Arguments for an activation, by column, padded: KC_SWEEP_SPECIAL of KC_ANY, then every 65,521st bit pattern, NaNs
 * included. */
enum { KC_SWEEP_SPECIAL = 500, KC_SWEEP = KC_SWEEP_SPECIAL + 65552 };
float *kc_sweep(kc *k);

/* Activations, rows `stride` apart; with KC_TIES around `zero_points` (columns), which else may be NULL. */
int8_t *kc_activations(kc *k, kc_values_i8 values, const int8_t *zero_points, size_t rows, size_t stride,
                       size_t columns);
/* Weights in [-127, 127]. */
void kc_fill_weights(kc *k, kc_values_i8 values, int8_t *dst, size_t n);

/* Any int8. */
int8_t *kc_random_i8(kc *k, size_t n);

/* Pointers to random ones of `rows` rows of `source`, `stride` apart, and, one in four, to `padding`. */
const int8_t **kc_taps_i8(kc *k, size_t count, const int8_t *source, size_t rows, size_t stride, const int8_t *padding);
/* A 3 x 3 window over a picture of side x side pixels, `channels` each; `padding` beyond its border. */
const int8_t **kc_window_i8(kc *k, size_t side, const int8_t *source, size_t channels, const int8_t *padding);

/* n rounded up to a multiple of KP_COLUMN_PAD. */
size_t kc_padded(size_t n);
/* The length of an array by column, padded: the padding holds any bits. */
float *kc_column_floats(kc *k, size_t n, kc_fill fill);
int32_t *kc_zero_points(kc *k, size_t n); /* in [-128, 127] */
/* A quantiser whose range is about [-high, high]. */
kp_quantizer kc_quantizer(kc *k, kc_values_i8 values, size_t columns, float high);

#endif /* KCHECK_OPERANDS_I8_H */

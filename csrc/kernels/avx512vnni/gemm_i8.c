#include <immintrin.h>
#include <string.h>

#include "kernels/avx512/epilogue_i8_avx512.h"
#include "kernels/avx512vnni/kernels_avx512vnni.h"
#include "kernels/unroll.h"

#define NR KP_GEMM_I8_NR_AVX512VNNI
#define KR KP_GEMM_I8_KR_AVX512VNNI
#define STEP (NR * KR) /* bytes of b in a vector */

/* At most 24 of the 32 registers are accumulators, and 8 rows' addresses fit the others. */
#define MAX_PANELS 4
#define MAX_ROWS 8
static const uint8_t max_rows[MAX_PANELS + 1] = {0, 8, 8, 8, 6};

/* vpdpbusd multiplies unsigned by signed: with its sign bit flipped, a is a + 128. */
KP_SPECIALIZED __m512i load_group(const int8_t *a) {
  int32_t group;
  memcpy(&group, a, sizeof group);
  return _mm512_xor_si512(_mm512_set1_epi32(group), _mm512_set1_epi8(-128));
}

/* A group of fewer than KR bytes. */
KP_SPECIALIZED __m512i load_partial_group(const int8_t *a, __mmask16 mask) {
  return _mm512_xor_si512(_mm512_broadcastd_epi32(_mm_maskz_loadu_epi8(mask, a)), _mm512_set1_epi8(-128));
}

/* Where in the operands and the result a tile begins. */
typedef struct tile {
  size_t row, column;
  const int8_t *b;
  size_t panel_stride;
} tile;

/* A tile's accumulators, from their offsets on. */
KP_SPECIALIZED void accumulate(const kp_gemm_i8_args *args, const tile *at, __m512i acc[MAX_ROWS][MAX_PANELS],
                               size_t rows, size_t panels) {
  const size_t whole = args->depth & ~(size_t)(KR - 1);
  const __mmask16 rest = kp_lanes_avx512(args->depth - whole);
  const size_t panel_stride = at->panel_stride;
  const int8_t *b = at->b;
  __m512i w[MAX_PANELS];
  KP_UNROLL
  for (size_t p = 0; p < panels; p++) {
    w[p] = _mm512_loadu_si512(args->epilogue.offset + at->column + NR * p);
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) acc[r][p] = w[p];
  }
  for (size_t t = 0; t < args->tap_count; t++) {
    const int8_t *a[MAX_ROWS];
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      a[r] = args->taps ? args->taps[(at->row + r) * args->tap_count + t] : args->a + (at->row + r) * args->a_stride;
    }
    for (size_t k = 0; k < whole; k += KR, b += STEP) {
      KP_UNROLL
      for (size_t p = 0; p < panels; p++) w[p] = _mm512_load_si512(b + p * panel_stride);
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) {
        const __m512i x = load_group(a[r] + k);
        KP_UNROLL
        for (size_t p = 0; p < panels; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, w[p]);
      }
    }
    if (rest) {
      KP_UNROLL
      for (size_t p = 0; p < panels; p++) w[p] = _mm512_load_si512(b + p * panel_stride);
      b += STEP;
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) {
        const __m512i x = load_partial_group(a[r] + whole, rest);
        KP_UNROLL
        for (size_t p = 0; p < panels; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], x, w[p]);
      }
    }
  }
}

/* ---- Of large depth: large tiles, finished from memory ---------------------------------------------------------- */

/* Into sums[row][panel]. */
KP_SPECIALIZED void multiply(const kp_gemm_i8_args *args, const tile *at, int32_t *sums, size_t rows, size_t panels) {
  __m512i acc[MAX_ROWS][MAX_PANELS];
  accumulate(args, at, acc, rows, panels);
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t p = 0; p < panels; p++) _mm512_store_si512(sums + (r * panels + p) * NR, acc[r][p]);
  }
}

#define CASE(rows, panels)                      \
  case rows:                                    \
    multiply(args, at, sums, (rows), (panels)); \
    break;
#define CASES_TO_6(panels) \
  CASE(1, panels) CASE(2, panels) CASE(3, panels) CASE(4, panels) CASE(5, panels) CASE(6, panels)
#define CASES_TO_8(panels) CASES_TO_6(panels) CASE(7, panels) CASE(8, panels)

static void multiply_1(const kp_gemm_i8_args *args, const tile *at, int32_t *sums, size_t rows) {
  switch (rows) { CASES_TO_8(1) }
}

static void multiply_2(const kp_gemm_i8_args *args, const tile *at, int32_t *sums, size_t rows) {
  switch (rows) { CASES_TO_8(2) }
}

static void multiply_3(const kp_gemm_i8_args *args, const tile *at, int32_t *sums, size_t rows) {
  switch (rows) { CASES_TO_8(3) }
}

static void multiply_4(const kp_gemm_i8_args *args, const tile *at, int32_t *sums, size_t rows) {
  switch (rows) { CASES_TO_6(4) }
}

static void (*const multiply_panels[MAX_PANELS + 1])(const kp_gemm_i8_args *, const tile *, int32_t *, size_t) = {
    NULL, multiply_1, multiply_2, multiply_3, multiply_4};

/* The first of `parts` nearly equal parts of n, none larger than max. */
static size_t first_part(size_t n, size_t max) {
  const size_t parts = (n + max - 1) / max;
  return (n + parts - 1) / parts;
}

/* Rows from at->row on. */
static void multiply_rows(const kp_gemm_i8_args *args, const tile *at, size_t panels, size_t columns) {
  _Alignas(64) int32_t sums[6 * MAX_PANELS * NR];
  tile here = *at;
  for (size_t rows; here.row < args->rows; here.row += rows) {
    rows = first_part(args->rows - here.row, max_rows[panels]);
    multiply_panels[panels](args, &here, sums, rows);
    kp_epilogue_i8_avx512(&args->epilogue, sums, here.row, rows, here.column, columns);
  }
}

/* ---- Of small depth: small tiles, finished in registers --------------------------------------------------------- */

#define SMALL_DEPTH 128 /* up to here the epilogue's share is worth it */
#define SMALL_ROWS 4
#define SMALL_ROWS_1 8 /* of one panel: 4 chains of vpdpbusd would wait for each other */

/* Whole tiles of `rows` rows from at->row on; returns the first row left. */
KP_SPECIALIZED size_t multiply_small(const kp_gemm_i8_args *args, const tile *at, size_t rows, size_t panels,
                                     size_t columns, kp_act act, bool quantized) {
  const kp_gemm_i8_args local = *args; /* the bytes that are stored might alias *args */
  tile here = *at;
  kp_columns_avx512 v[MAX_PANELS];
  KP_UNROLL
  for (size_t p = 0; p < panels; p++) v[p] = kp_load_columns_avx512(&local.epilogue, here.column + p * NR);
  for (; here.row + rows <= local.rows; here.row += rows) {
    __m512i acc[MAX_ROWS][MAX_PANELS];
    accumulate(&local, &here, acc, rows, panels);
    KP_UNROLL
    for (size_t p = 0; p < panels; p++) {
      __m512i sums[SMALL_ROWS_1];
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) sums[r] = acc[r][p];
      kp_finish_rows_avx512(&local.epilogue, &v[p], sums, here.row, here.column + p * NR,
                            p + 1 < panels ? NR : columns - p * NR, rows, act, quantized);
    }
  }
  return here.row;
}

typedef size_t small_multiply(const kp_gemm_i8_args *args, const tile *at, size_t columns);

/* By panels. Each is a function of its own: inlined into one they share a stack frame so large that what they spill
 * falsely depends on the outputs they store, whose addresses have the same low 12 bits. */
#define SMALL_FUNCTION(name, panels, act, quantized)                                                             \
  static __attribute__((noinline))                                                                               \
  size_t name##_##panels(const kp_gemm_i8_args *args, const tile *at, size_t columns) {                          \
    return multiply_small(args, at, (panels) == 1 ? SMALL_ROWS_1 : SMALL_ROWS, panels, columns, act, quantized); \
  }
#define SMALL_FUNCTIONS(name, act, quantized) \
  SMALL_FUNCTION(name, 1, act, quantized)     \
  SMALL_FUNCTION(name, 2, act, quantized)     \
  SMALL_FUNCTION(name, 3, act, quantized)     \
  SMALL_FUNCTION(name, 4, act, quantized)     \
  static small_multiply *const name[MAX_PANELS + 1] = {NULL, name##_1, name##_2, name##_3, name##_4};

SMALL_FUNCTIONS(small_to_f32, KP_ACT_NONE, false)
SMALL_FUNCTIONS(small_silu_to_f32, KP_ACT(KP_SILU), false)
SMALL_FUNCTIONS(small_plain, KP_ACT_NONE, true)
SMALL_FUNCTIONS(small_silu, KP_ACT(KP_SILU), true)
SMALL_FUNCTIONS(small_hardswish, KP_ACT(KP_HARDSWISH), true)
SMALL_FUNCTIONS(small_relu, KP_ACT(KP_RELU), true)

/* The usual epilogues; others are left to multiply_rows. */
static size_t multiply_small_rows(const kp_gemm_i8_args *args, const tile *at, size_t panels, size_t columns) {
  const kp_epilogue_i8 *epilogue = &args->epilogue;
  if (epilogue->dst_f32) {
    if (epilogue->act == KP_ACT_NONE) return small_to_f32[panels](args, at, columns);
    return epilogue->act == KP_ACT(KP_SILU) ? small_silu_to_f32[panels](args, at, columns) : at->row;
  }
  switch (epilogue->act) {
    case KP_ACT_NONE:
      return small_plain[panels](args, at, columns);
    case KP_ACT(KP_SILU):
      return small_silu[panels](args, at, columns);
    case KP_ACT(KP_HARDSWISH):
      return small_hardswish[panels](args, at, columns);
    case KP_ACT(KP_RELU):
      return small_relu[panels](args, at, columns);
    default:
      return at->row;
  }
}

void kp_gemm_i8_avx512vnni(const kp_gemm_i8_args *args) {
  const size_t all_panels = (args->columns + NR - 1) / NR;
  tile at = {.b = args->b, .panel_stride = args->tap_count * ((args->depth + KR - 1) / KR) * STEP};
  for (size_t panel = 0, panels; panel < all_panels; panel += panels) {
    panels = first_part(all_panels - panel, MAX_PANELS);
    at.column = panel * NR;
    at.row = 0;
    const size_t columns = args->columns - at.column < panels * NR ? args->columns - at.column : panels * NR;
    if (args->tap_count * args->depth <= SMALL_DEPTH) at.row = multiply_small_rows(args, &at, panels, columns);
    multiply_rows(args, &at, panels, columns);
    at.b += panels * at.panel_stride;
  }
}

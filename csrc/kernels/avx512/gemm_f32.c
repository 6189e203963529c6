#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

/* At most 24 of the 32 registers are accumulators, and 8 rows' addresses fit the others. */
#define MAX_VECTORS 4
#define MAX_ROWS 8
static const uint8_t max_rows[MAX_VECTORS + 1] = {0, 8, 8, 8, 6};

/* The operands of a tile: up to MAX_VECTORS vectors of 16 columns, the last of `last` of them. */
typedef struct tile {
  float *c;
  size_t c_stride;
  const float *a;
  size_t a_stride;
  const float *b;
  size_t b_stride, depth, last;
} tile;

KP_SPECIALIZED void multiply(const tile *at, size_t rows, size_t vectors) {
  const __mmask16 mask = kp_lanes_avx512(at->last);
  const float *b = at->b, *a[MAX_ROWS];
  __m512 acc[MAX_ROWS][MAX_VECTORS], y[MAX_VECTORS];
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    a[r] = at->a + r * at->a_stride;
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) acc[r][v] = _mm512_setzero_ps();
  }
  for (size_t k = 0; k < at->depth; k++, b += at->b_stride) {
    KP_UNROLL
    for (size_t v = 0; v + 1 < vectors; v++) y[v] = _mm512_loadu_ps(b + 16 * v);
    y[vectors - 1] = _mm512_maskz_loadu_ps(mask, b + 16 * (vectors - 1));
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const __m512 x = _mm512_set1_ps(a[r][k]);
      KP_UNROLL
      for (size_t v = 0; v < vectors; v++) acc[r][v] = _mm512_fmadd_ps(x, y[v], acc[r][v]);
    }
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    float *c = at->c + r * at->c_stride;
    KP_UNROLL
    for (size_t v = 0; v + 1 < vectors; v++) _mm512_storeu_ps(c + 16 * v, acc[r][v]);
    if (at->last == 16) {
      _mm512_storeu_ps(c + 16 * (vectors - 1), acc[r][vectors - 1]);
    } else {
      kp_store_partial_f32_avx512(c + 16 * (vectors - 1), at->last, acc[r][vectors - 1]);
    }
  }
}

#define CASE(rows, vectors)          \
  case rows:                         \
    multiply(at, (rows), (vectors)); \
    break;
#define CASES_TO_6(vectors) \
  CASE(1, vectors) CASE(2, vectors) CASE(3, vectors) CASE(4, vectors) CASE(5, vectors) CASE(6, vectors)
#define CASES_TO_8(vectors) CASES_TO_6(vectors) CASE(7, vectors) CASE(8, vectors)

static void multiply_1(const tile *at, size_t rows) {
  switch (rows) { CASES_TO_8(1) }
}

static void multiply_2(const tile *at, size_t rows) {
  switch (rows) { CASES_TO_8(2) }
}

static void multiply_3(const tile *at, size_t rows) {
  switch (rows) { CASES_TO_8(3) }
}

static void multiply_4(const tile *at, size_t rows) {
  switch (rows) { CASES_TO_6(4) }
}

static void (*const multiply_vectors[MAX_VECTORS + 1])(const tile *, size_t) = {NULL, multiply_1, multiply_2,
                                                                                multiply_3, multiply_4};

/* The first of `parts` nearly equal parts of n, none larger than max. */
static size_t first_part(size_t n, size_t max) {
  const size_t parts = (n + max - 1) / max;
  return (n + parts - 1) / parts;
}

void kp_gemm_f32_avx512(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride,
                        size_t rows, size_t columns, size_t depth) {
  const size_t all_vectors = (columns + 15) / 16;
  tile at = {.c_stride = c_stride, .a_stride = a_stride, .b_stride = b_stride, .depth = depth};
  for (size_t vector = 0, vectors; vector < all_vectors; vector += vectors) {
    vectors = first_part(all_vectors - vector, MAX_VECTORS);
    const size_t end = columns - 16 * (vector + vectors - 1);
    at.last = end < 16 ? end : 16;
    at.b = b + 16 * vector;
    for (size_t row = 0, count; row < rows; row += count) {
      count = first_part(rows - row, max_rows[vectors]);
      at.a = a + row * a_stride;
      at.c = c + row * c_stride + 16 * vector;
      multiply_vectors[vectors](&at, count);
    }
  }
}

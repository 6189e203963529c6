#include <math.h>

#include "kernels/neon/kernels_neon.h"
#include "kernels/neon/math_neon.h"

#define ROWS 4

typedef struct product {
  float *c;
  const float *a, *b;
  size_t c_stride, a_stride, b_stride, depth;
} product;

/* Adds the products of element `lane` of each a[r], that of row k + lane of b, and of 4 `vectors` columns. */
#define ADD_LANE(lane)                                                                               \
  do {                                                                                               \
    KP_UNROLL                                                                                        \
    for (size_t v = 0; v < vectors; v++) {                                                           \
      const float32x4_t columns = vld1q_f32(b + lane * p->b_stride + 4 * v);                         \
      KP_UNROLL                                                                                      \
      for (size_t r = 0; r < rows; r++) acc[r][v] = vfmaq_laneq_f32(acc[r][v], columns, a[r], lane); \
    }                                                                                                \
  } while (0)

/* `rows` <= ROWS rows and 4 `vectors` columns from (row, column) on. */
KP_SPECIALIZED void tile(const product *p, size_t row, size_t column, size_t rows, size_t vectors) {
  const float *b = p->b + column;
  const float *left[ROWS];
  float32x4_t acc[ROWS][4];
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    left[r] = p->a + (row + r) * p->a_stride;
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) acc[r][v] = vdupq_n_f32(0.0f);
  }
  float32x4_t a[ROWS];
  size_t k = 0;
  for (; k + 4 <= p->depth; k += 4, b += 4 * p->b_stride) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) a[r] = vld1q_f32(left[r] + k);
    ADD_LANE(0);
    ADD_LANE(1);
    ADD_LANE(2);
    ADD_LANE(3);
  }
  for (; k < p->depth; k++, b += p->b_stride) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) a[r] = vld1q_dup_f32(left[r] + k);
    ADD_LANE(0);
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) vst1q_f32(p->c + (row + r) * p->c_stride + column + 4 * v, acc[r][v]);
  }
}

KP_SPECIALIZED void all_columns(const product *p, size_t row, size_t rows, size_t columns) {
  size_t n = 0;
  for (; n + 16 <= columns; n += 16) tile(p, row, n, rows, 4);
  for (; n + 4 <= columns; n += 4) tile(p, row, n, rows, 1);
  for (; n < columns; n++) {
    for (size_t r = row; r < row + rows; r++) {
      float sum = 0.0f;
      for (size_t k = 0; k < p->depth; k++) sum = fmaf(p->a[r * p->a_stride + k], p->b[k * p->b_stride + n], sum);
      p->c[r * p->c_stride + n] = sum;
    }
  }
}

void kp_gemm_f32_neon(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride,
                      size_t rows, size_t columns, size_t depth) {
  const product p = {c, a, b, c_stride, a_stride, b_stride, depth};
  size_t r = 0;
  for (; r + ROWS <= rows; r += ROWS) all_columns(&p, r, ROWS, columns);
  for (; r < rows; r++) all_columns(&p, r, 1, columns);
}

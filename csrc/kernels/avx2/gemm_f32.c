#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_avx2.h"

#define ROWS 6
#define VECTORS 4

typedef struct product {
  float *c;
  const float *a, *b;
  size_t c_stride, a_stride, b_stride, columns, depth;
} product;

/* Columns from `column` on, in vectors of which the last has `last` <= 8. Few rows take more vectors, so that there are
 * sums enough to hide the latency of one. */
KP_SPECIALIZED void block(const product *args, size_t row, size_t column, size_t last, size_t rows, size_t vectors) {
  const float *a = args->a + row * args->a_stride, *b = args->b + column;
  __m256 acc[ROWS][VECTORS];
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) acc[r][v] = _mm256_setzero_ps();
  }
  for (size_t k = 0; k < args->depth; k++, b += args->b_stride) {
    __m256 y[VECTORS];
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) y[v] = kp_load_partial_f32_avx2(b + 8 * v, v + 1 < vectors ? 8 : last);
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const __m256 x = _mm256_set1_ps(a[r * args->a_stride + k]);
      KP_UNROLL
      for (size_t v = 0; v < vectors; v++) acc[r][v] = _mm256_fmadd_ps(x, y[v], acc[r][v]);
    }
  }
  float *c = args->c + row * args->c_stride + column;
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t v = 0; v < vectors; v++) {
      kp_store_partial_f32_avx2(c + r * args->c_stride + 8 * v, v + 1 < vectors ? 8 : last, acc[r][v]);
    }
  }
}

KP_SPECIALIZED void all_columns(const product *args, size_t row, size_t rows, size_t vectors) {
  const size_t columns = args->columns;
  size_t c = 0;
  for (; c + 8 * vectors <= columns; c += 8 * vectors) block(args, row, c, 8, rows, vectors);
  for (; c + 8 <= columns; c += 8) block(args, row, c, 8, rows, 1);
  if (c < columns) block(args, row, c, columns - c, rows, 1);
}

void kp_gemm_f32_avx2(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride,
                      size_t rows, size_t columns, size_t depth) {
  const product args = {c, a, b, c_stride, a_stride, b_stride, columns, depth};
  size_t row = 0;
  for (; row + ROWS <= rows; row += ROWS) all_columns(&args, row, ROWS, 2);
  switch (rows - row) {
    case 5:
      all_columns(&args, row, 5, 2);
      break;
    case 4:
      all_columns(&args, row, 4, 2);
      break;
    case 3:
      all_columns(&args, row, 3, VECTORS);
      break;
    case 2:
      all_columns(&args, row, 2, VECTORS);
      break;
    case 1:
      all_columns(&args, row, 1, VECTORS);
      break;
    default:
      break;
  }
}

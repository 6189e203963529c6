#include "kernels/avx2/epilogue_i8_avx2.h"
#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_i8_avx2.h"

#define ROWS KP_BLOCK_I8_ROWS
#define COLUMNS 16 /* nr */
#define PAIRS 768  /* pairs of depth, kr = 2, of a row that are kept widened */

/* ROWS rows of the left operand, or a piece of them, as int16: a pair is broadcast straight from memory. Each tap's
 * depth is rounded up to a pair; the right operand has zeros there. The last elements of a row are room for stores past
 * its end. */
typedef struct left_operand {
  int16_t rows[ROWS][2 * PAIRS + 16];
} left_operand;

/* dst[k] = src[k], k < n; up to 16 elements more are overwritten. */
KP_SPECIALIZED void widen_tap(int16_t *dst, const int8_t *src, size_t n) {
  if (n >= 16) {
    size_t k = 0;
    for (; k + 16 <= n; k += 16) {
      _mm256_storeu_si256((void *)(dst + k), _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(src + k))));
    }
    if (k < n) {
      dst[n] = 0;
      _mm256_storeu_si256((void *)(dst + n - 16), _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(src + n - 16))));
    }
  } else {
    _mm256_storeu_si256((void *)dst, _mm256_cvtepi8_epi16(kp_load_partial_i8_avx2(src, n)));
  }
}

/* The pairs `first` to `first + pairs` of a row, its taps one after another. */
static void widen_taps(int16_t *dst, const kp_gemm_i8_args *args, size_t row, size_t first, size_t pairs) {
  const size_t pairs_per_tap = (args->depth + 1) / 2;
  const int8_t *const *tap = args->taps + row * args->tap_count;
  size_t skipped = 0;
  if (first > 0) {
    tap += first / pairs_per_tap;
    skipped = first % pairs_per_tap;
  }
  while (pairs > 0) {
    const size_t n = pairs_per_tap - skipped < pairs ? pairs_per_tap - skipped : pairs;
    const size_t rest = args->depth - 2 * skipped;
    widen_tap(dst, *tap++ + 2 * skipped, 2 * n < rest ? 2 * n : rest);
    dst += 2 * n;
    pairs -= n;
    skipped = 0;
  }
}

static void widen_rows(left_operand *a, const kp_gemm_i8_args *args, size_t row, size_t rows, size_t first,
                       size_t pairs) {
  if (args->taps) {
    for (size_t r = 0; r < rows; r++) widen_taps(a->rows[r], args, row + r, first, pairs);
    return;
  }
  const int8_t *src = args->a + row * args->a_stride + 2 * first;
  const size_t rest = args->depth - 2 * first, n = 2 * pairs < rest ? 2 * pairs : rest;
  for (size_t r = 0; r < rows; r++, src += args->a_stride) widen_tap(a->rows[r], src, n);
}

typedef struct product {
  const kp_gemm_i8_args *args;
  kp_epilogue_i8_rows epilogue;
  size_t pairs; /* in all taps */
  left_operand a;
} product;

/* `rows` <= ROWS rows of `columns` columns from `column` on, in `vectors` <= 2 vectors. */
KP_SPECIALIZED void run_block(product *p, size_t row, size_t column, size_t rows, size_t columns, size_t vectors) {
  const kp_epilogue_i8 *epilogue = &p->args->epilogue;
  const int8_t *b = p->args->b + column * 2 * p->pairs;
  __m256i acc[2][ROWS];
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) acc[v][r] = _mm256_loadu_si256((const void *)(epilogue->offset + column + 8 * v));
  }
  for (size_t first = 0; first < p->pairs; first += PAIRS) {
    const size_t pairs = p->pairs - first < PAIRS ? p->pairs - first : PAIRS;
    if (column == 0 || p->pairs > PAIRS) {
      widen_rows(&p->a, p->args, row, rows, first, pairs);
    }
    for (size_t k = 0; k < pairs; k++, b += 2 * COLUMNS) {
      __m256i w[2];
      KP_UNROLL
      for (size_t v = 0; v < vectors; v++) w[v] = _mm256_cvtepi8_epi16(_mm_load_si128((const void *)(b + 16 * v)));
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) {
        int32_t pair;
        memcpy(&pair, &p->a.rows[r][2 * k], sizeof pair);
        const __m256i x = _mm256_set1_epi32(pair);
        KP_UNROLL
        for (size_t v = 0; v < vectors; v++) acc[v][r] = _mm256_add_epi32(acc[v][r], _mm256_madd_epi16(x, w[v]));
      }
    }
  }
  kp_block_i8 block; /* acc itself stays in registers, no pointer to it being taken */
  KP_UNROLL
  for (size_t v = 0; v < vectors; v++) {
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) block.acc[v][r] = acc[v][r];
  }
  kp_epilogue_i8_avx2(p->epilogue, epilogue, row, column, rows, columns, &block);
}

KP_SPECIALIZED void all_columns(product *p, size_t row, size_t rows) {
  const size_t columns = p->args->columns;
  size_t column = 0;
  for (; column + 8 < columns; column += COLUMNS) {
    run_block(p, row, column, rows, columns - column < COLUMNS ? columns - column : COLUMNS, 2);
  }
  if (column < columns) run_block(p, row, column, rows, columns - column, 1);
}

static void all_columns_of_1(product *p, size_t row) { all_columns(p, row, 1); }
static void all_columns_of_2(product *p, size_t row) { all_columns(p, row, 2); }
static void all_columns_of_3(product *p, size_t row) { all_columns(p, row, 3); }
static void all_columns_of_4(product *p, size_t row) { all_columns(p, row, 4); }
static void all_columns_of_5(product *p, size_t row) { all_columns(p, row, 5); }
static void all_columns_of_6(product *p, size_t row) { all_columns(p, row, 6); }

void kp_gemm_i8_avx2(const kp_gemm_i8_args *args) {
  product p;
  p.args = args;
  p.epilogue = kp_epilogue_i8_for_act_avx2(args->epilogue.act);
  p.pairs = args->tap_count * ((args->depth + 1) / 2);
  size_t row = 0;
  for (; row + ROWS <= args->rows; row += ROWS) all_columns_of_6(&p, row);
  switch (args->rows - row) {
    case 5:
      all_columns_of_5(&p, row);
      break;
    case 4:
      all_columns_of_4(&p, row);
      break;
    case 3:
      all_columns_of_3(&p, row);
      break;
    case 2:
      all_columns_of_2(&p, row);
      break;
    case 1:
      all_columns_of_1(&p, row);
      break;
    default:
      break;
  }
}

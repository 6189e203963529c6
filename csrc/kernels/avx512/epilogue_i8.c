#include "kernels/avx512/epilogue_i8_avx512.h"

#include "kernels/avx512/kernels_avx512.h"

#define ROWS 6 /* that advance together: the rows of a tile of 4 panels, and half of those of 1 or 2 */

void kp_store_partial_rows_i8_avx512(int8_t *dst, size_t stride, const __m128i *rows, size_t count, size_t n) {
  for (size_t i = 0; i < count; i++) kp_store_partial_i8_avx512(dst + i * stride, n, rows[i]);
}

void kp_store_partial_rows_f32_avx512(float *dst, size_t stride, const __m512 *rows, size_t count, size_t n) {
  for (size_t i = 0; i < count; i++) kp_store_partial_f32_avx512(dst + i * stride, n, rows[i]);
}

/* A block of accumulators, rows `stride` apart, and where it lies in the result. */
typedef struct block {
  const int32_t *acc;
  size_t stride, row, column;
} block;

void kp_act_i8_avx512(kp_act act, __m512 *x, size_t count) {
  if (act == KP_ACT_NONE) return;
  if (act == KP_ACT(KP_SILU)) {
    for (size_t i = 0; i < count; i++) kp_silu_i8_avx512(x + i, 1);
  } else if (act == KP_ACT(KP_GELU)) {
    for (size_t i = 0; i < count; i++) kp_gelu_i8_avx512(x + i, 1);
  } else {
    kp_act_f32_avx512((float *)x, (const float *)x, 16 * count, act);
  }
}

/* `count` rows from r on of n <= 16 columns from c on. */
KP_SPECIALIZED void finish_rows(const kp_epilogue_i8 *epilogue, const block *b, const kp_columns_avx512 *v, size_t r,
                                size_t c, size_t n, size_t count, kp_act act, bool quantized) {
  __m512i acc[ROWS];
  KP_UNROLL
  for (size_t i = 0; i < count; i++) acc[i] = _mm512_load_si512(b->acc + (r + i) * b->stride + c);
  kp_finish_rows_avx512(epilogue, v, acc, b->row + r, b->column + c, n, count, act, quantized);
}

KP_SPECIALIZED void finish_as(const kp_epilogue_i8 *epilogue, const block *b, size_t rows, size_t columns, kp_act act,
                              bool quantized) {
  for (size_t c = 0; c < columns; c += 16) {
    const size_t n = columns - c < 16 ? columns - c : 16;
    const kp_columns_avx512 v = kp_load_columns_avx512(epilogue, b->column + c);
    size_t r = 0;
    for (; r + ROWS <= rows && rows - r != 8; r += ROWS) finish_rows(epilogue, b, &v, r, c, n, ROWS, act, quantized);
    for (; r + 4 <= rows; r += 4) finish_rows(epilogue, b, &v, r, c, n, 4, act, quantized);
    for (; r < rows; r++) finish_rows(epilogue, b, &v, r, c, n, 1, act, quantized);
  }
}

KP_SPECIALIZED void finish(const kp_epilogue_i8 *epilogue, const block *b, size_t rows, size_t columns, kp_act act) {
  if (epilogue->dst_i8) {
    finish_as(epilogue, b, rows, columns, act, true);
  } else {
    finish_as(epilogue, b, rows, columns, act, false);
  }
}

void kp_epilogue_i8_avx512(const kp_epilogue_i8 *epilogue, const int32_t *acc, size_t row, size_t rows, size_t column,
                           size_t columns) {
  const block b = {acc, (columns + 15) & ~(size_t)15, row, column};
  switch (epilogue->act) {
    case KP_ACT_NONE:
      finish(epilogue, &b, rows, columns, KP_ACT_NONE);
      break;
    case KP_ACT(KP_SILU):
      finish(epilogue, &b, rows, columns, KP_ACT(KP_SILU));
      break;
    case KP_ACT(KP_GELU):
      finish(epilogue, &b, rows, columns, KP_ACT(KP_GELU));
      break;
    case KP_ACT(KP_RELU):
      finish(epilogue, &b, rows, columns, KP_ACT(KP_RELU));
      break;
    case KP_ACT(KP_HARDSWISH):
      finish(epilogue, &b, rows, columns, KP_ACT(KP_HARDSWISH));
      break;
    default:
      finish(epilogue, &b, rows, columns, KP_ACT_ANY);
      break;
  }
}

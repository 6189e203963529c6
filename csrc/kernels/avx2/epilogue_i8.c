#include "kernels/avx2/epilogue_i8_avx2.h"

#include "kernels/avx2/math_i8_avx2.h"

#define ROWS KP_BLOCK_I8_ROWS
#define COLUMNS (8 * KP_BLOCK_I8_VECTORS)

KP_SPECIALIZED void activate(const kp_epilogue_i8 *epilogue, size_t row, size_t column, const __m256i *acc, kp_act act,
                             __m256 *y) {
  const __m256 scale = _mm256_loadu_ps(epilogue->scale + column), bias = _mm256_loadu_ps(epilogue->bias + column);
  if (epilogue->row_scale) {
    const float *row_scale = epilogue->row_scale + row;
    const int32_t *row_zero = epilogue->row_zero + row;
    const __m256i sum = _mm256_loadu_si256((const void *)(epilogue->column_sum + column));
    KP_UNROLL
    for (size_t r = 0; r < ROWS; r++) {
      const __m256 m = _mm256_mul_ps(_mm256_set1_ps(row_scale[r]), scale);
      const __m256i shift = _mm256_mullo_epi32(_mm256_set1_epi32(row_zero[r]), sum);
      y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(acc[r], shift)), m, bias);
    }
  } else {
    KP_UNROLL
    for (size_t r = 0; r < ROWS; r++) y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r]), scale, bias);
  }
  kp_apply_act_i8_avx2(act, y, ROWS);
}

KP_SPECIALIZED void add_residual(const kp_epilogue_i8 *epilogue, size_t row, size_t column, __m256 *y) {
  const size_t stride = epilogue->residual_stride;
  if (epilogue->residual_f32) {
    const float *residual = epilogue->residual_f32 + row * stride + column;
    KP_UNROLL
    for (size_t r = 0; r < ROWS; r++, residual += stride) y[r] = _mm256_add_ps(y[r], _mm256_loadu_ps(residual));
  }
  if (epilogue->residual_i8) {
    const int8_t *residual = epilogue->residual_i8 + row * stride + column;
    const __m256i zero = _mm256_loadu_si256((const void *)(epilogue->residual_zero + column));
    const __m256 scale = _mm256_loadu_ps(epilogue->residual_scale + column);
    KP_UNROLL
    for (size_t r = 0; r < ROWS; r++, residual += stride) {
      const __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)residual));
      y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero)), scale, y[r]);
    }
  }
}

KP_SPECIALIZED void store_i8(const kp_epilogue_i8 *epilogue, size_t row, size_t column, const __m256 *y) {
  const size_t stride = epilogue->dst_stride;
  int8_t *dst = epilogue->dst_i8 + row * stride + column;
  const __m256 inverse = _mm256_loadu_ps(epilogue->quantizer.inverse + column);
  const __m256 shift = _mm256_loadu_ps(epilogue->quantizer.shift + column);
  __m256i q[ROWS];
  KP_UNROLL
  for (size_t r = 0; r < ROWS; r++) q[r] = kp_quantize_f32_avx2(y[r], inverse, shift);
  const __m256i four = kp_pack_i8_avx2(q[0], q[1], q[2], q[3]), two = kp_pack_i8_avx2(q[4], q[5], q[4], q[5]);
  const __m128i pairs[3] = {_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1),
                            _mm256_castsi256_si128(two)};
  KP_UNROLL
  for (size_t r = 0; r < ROWS; r += 2, dst += 2 * stride) {
    _mm_storel_epi64((void *)dst, pairs[r / 2]);
    _mm_storeh_pd((void *)(dst + stride), _mm_castsi128_pd(pairs[r / 2]));
  }
}

KP_SPECIALIZED void run(const kp_epilogue_i8 *epilogue, size_t row, size_t column, size_t vectors,
                        const kp_block_i8 *block, kp_act act) {
  for (size_t v = 0; v < vectors; v++, column += 8) {
    __m256 y[ROWS];
    activate(epilogue, row, column, block->acc[v], act, y);
    add_residual(epilogue, row, column, y);
    if (epilogue->dst_f32) {
      float *dst = epilogue->dst_f32 + row * epilogue->dst_stride + column;
      KP_UNROLL
      for (size_t r = 0; r < ROWS; r++, dst += epilogue->dst_stride) _mm256_storeu_ps(dst, y[r]);
    } else {
      store_i8(epilogue, row, column, y);
    }
  }
}

#define DEFINE(name, act)                                                                     \
  static void name(const kp_epilogue_i8 *epilogue, size_t row, size_t column, size_t vectors, \
                   const kp_block_i8 *block) {                                                \
    run(epilogue, row, column, vectors, block, act);                                          \
  }

DEFINE(none, KP_ACT_NONE)
DEFINE(relu, KP_ACT(KP_RELU))
DEFINE(relu6, KP_ACT(KP_RELU6))
DEFINE(hardswish, KP_ACT(KP_HARDSWISH))
DEFINE(hardsigmoid, KP_ACT(KP_HARDSIGMOID))
DEFINE(sigmoid, KP_ACT(KP_SIGMOID))
DEFINE(silu, KP_ACT(KP_SILU))
DEFINE(gelu, KP_ACT(KP_GELU))
DEFINE(gelu_tanh, KP_ACT(KP_GELU_TANH))
DEFINE(quick_gelu, KP_ACT(KP_QUICK_GELU))
DEFINE(hyperbolic_tangent, KP_ACT(KP_TANH))
DEFINE(exponential, KP_ACT(KP_EXP))
DEFINE(square_root, KP_ACT(KP_SQRT))

kp_epilogue_i8_rows kp_epilogue_i8_for_act_avx2(kp_act act) {
  static const kp_epilogue_i8_rows functions[] = {
      [KP_ACT_NONE] = none,
      [KP_ACT(KP_RELU)] = relu,
      [KP_ACT(KP_RELU6)] = relu6,
      [KP_ACT(KP_HARDSWISH)] = hardswish,
      [KP_ACT(KP_HARDSIGMOID)] = hardsigmoid,
      [KP_ACT(KP_SIGMOID)] = sigmoid,
      [KP_ACT(KP_SILU)] = silu,
      [KP_ACT(KP_GELU)] = gelu,
      [KP_ACT(KP_GELU_TANH)] = gelu_tanh,
      [KP_ACT(KP_QUICK_GELU)] = quick_gelu,
      [KP_ACT(KP_TANH)] = hyperbolic_tangent,
      [KP_ACT(KP_EXP)] = exponential,
      [KP_ACT(KP_SQRT)] = square_root,
  };
  return functions[act];
}

/* Copies a row of n <= COLUMNS elements of `size` bytes. */
KP_SPECIALIZED void copy_row(void *dst, const void *src, size_t n, size_t size) {
  if (n == COLUMNS) {
    memcpy(dst, src, COLUMNS * size);
  } else {
    memcpy(dst, src, n * size);
  }
}

/* Less than a whole block goes by way of blocks of memory, at whose beginning the arrays by column, which are padded,
 * are made to begin. */
static void run_edge(kp_epilogue_i8_rows whole, const kp_epilogue_i8 *epilogue, size_t row, size_t column, size_t rows,
                     size_t columns, const kp_block_i8 *block) {
  int32_t row_zero[ROWS];
  float row_scale[ROWS], residual_f32[ROWS * COLUMNS], dst_f32[ROWS * COLUMNS];
  int8_t residual_i8[ROWS * COLUMNS], dst_i8[ROWS * COLUMNS];
  kp_epilogue_i8 edge = *epilogue;
  edge.scale += column;
  edge.bias += column;
  if (edge.row_scale) {
    for (size_t r = 0; r < ROWS; r++) {
      const size_t from = row + (r < rows ? r : 0);
      row_scale[r] = epilogue->row_scale[from];
      row_zero[r] = epilogue->row_zero[from];
    }
    edge.row_scale = row_scale;
    edge.row_zero = row_zero;
    edge.column_sum += column;
  }
  if (edge.residual_f32) {
    memset(residual_f32, 0, sizeof residual_f32);
    edge.residual_f32 = residual_f32;
  }
  if (edge.residual_i8) {
    memset(residual_i8, 0, sizeof residual_i8);
    edge.residual_i8 = residual_i8;
    edge.residual_zero += column;
    edge.residual_scale += column;
  }
  if (edge.dst_f32) edge.dst_f32 = dst_f32;
  if (edge.dst_i8) {
    edge.dst_i8 = dst_i8;
    edge.quantizer.inverse += column;
    edge.quantizer.shift += column;
  }
  edge.residual_stride = edge.dst_stride = COLUMNS;
  const size_t from = row * epilogue->residual_stride + column, to = row * epilogue->dst_stride + column;
  for (size_t r = 0; r < rows; r++) {
    const size_t at = from + r * epilogue->residual_stride;
    if (edge.residual_f32) copy_row(residual_f32 + r * COLUMNS, epilogue->residual_f32 + at, columns, sizeof(float));
    if (edge.residual_i8) copy_row(residual_i8 + r * COLUMNS, epilogue->residual_i8 + at, columns, 1);
  }
  whole(&edge, 0, 0, (columns + 7) / 8, block);
  for (size_t r = 0; r < rows; r++) {
    const size_t at = to + r * epilogue->dst_stride;
    if (edge.dst_f32) copy_row(epilogue->dst_f32 + at, dst_f32 + r * COLUMNS, columns, sizeof(float));
    if (edge.dst_i8) copy_row(epilogue->dst_i8 + at, dst_i8 + r * COLUMNS, columns, 1);
  }
}

void kp_epilogue_i8_avx2(kp_epilogue_i8_rows whole, const kp_epilogue_i8 *epilogue, size_t row, size_t column,
                         size_t rows, size_t columns, const kp_block_i8 *block) {
  if (rows == ROWS && columns % 8 == 0) {
    whole(epilogue, row, column, columns / 8, block);
  } else {
    run_edge(whole, epilogue, row, column, rows, columns, block);
  }
}

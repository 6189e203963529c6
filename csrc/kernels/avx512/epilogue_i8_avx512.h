/* The epilogue of int8 matrix products and depthwise convolutions (kernels.h, kp_epilogue_i8). */
#ifndef KP_KERNELS_AVX512_EPILOGUE_I8_AVX512_H
#define KP_KERNELS_AVX512_EPILOGUE_I8_AVX512_H

#include "kernels/avx512/math_i8_avx512.h"

/* Finishes the block of `rows` rows from `row` on and `columns` columns from `column` on, a multiple of 16. `acc` has
 * its accumulators, offsets added, in rows of `columns` rounded up to 16; aligned to 64 bytes. */
void kp_epilogue_i8_avx512(const kp_epilogue_i8 *epilogue, const int32_t *acc, size_t row, size_t rows, size_t column,
                           size_t columns);

/* x = act(x) for `count` <= KP_GROUP_AVX512 vectors, SiLU and GELU as in kp_silu_i8 and kp_gelu_i8. */
void kp_act_i8_avx512(kp_act act, __m512 *x, size_t count);

/* Stores the first n < 16 elements of `count` <= KP_GROUP_AVX512 rows. */
void kp_store_partial_rows_i8_avx512(int8_t *dst, size_t stride, const __m128i *rows, size_t count, size_t n);
void kp_store_partial_rows_f32_avx512(float *dst, size_t stride, const __m512 *rows, size_t count, size_t n);

/* The same inline for the usual activations, where `act` is a constant or KP_ACT_ANY: then it is `any`. */
#define KP_ACT_ANY (-1)
KP_SPECIALIZED void kp_apply_act_i8_avx512(kp_act act, kp_act any, __m512 *x, size_t count) {
  if (act == KP_ACT(KP_SILU)) {
    kp_silu_i8_avx512(x, count);
  } else if (act == KP_ACT(KP_GELU)) {
    kp_gelu_i8_avx512(x, count);
  } else if (act == KP_ACT(KP_RELU) || act == KP_ACT(KP_HARDSWISH)) {
    KP_UNROLL
    for (size_t i = 0; i < count; i++) x[i] = kp_apply_act_f32_avx512(act, x[i]);
  } else if (act == KP_ACT_ANY) {
    __m512 y[KP_GROUP_AVX512];
    KP_UNROLL
    for (size_t i = 0; i < count; i++) y[i] = x[i];
    kp_act_i8_avx512(any, y, count);
    KP_UNROLL
    for (size_t i = 0; i < count; i++) x[i] = y[i];
  }
}

/* The vectors of 16 columns. */
typedef struct kp_columns_avx512 {
  __m512 scale, bias, inverse, shift;
} kp_columns_avx512;

KP_SPECIALIZED kp_columns_avx512 kp_load_columns_avx512(const kp_epilogue_i8 *epilogue, size_t column) {
  kp_columns_avx512 v = {.scale = _mm512_loadu_ps(epilogue->scale + column),
                         .bias = _mm512_loadu_ps(epilogue->bias + column)};
  if (epilogue->dst_i8) {
    v.inverse = _mm512_loadu_ps(epilogue->quantizer.inverse + column);
    v.shift = _mm512_loadu_ps(epilogue->quantizer.shift + column);
  }
  return v;
}

KP_SPECIALIZED void kp_store_rows_i8_avx512(int8_t *dst, size_t stride, const __m128i *q, size_t count, size_t n) {
  if (n == 16) {
    KP_UNROLL
    for (size_t i = 0; i < count; i++) _mm_storeu_si128((__m128i *)(dst + i * stride), q[i]);
  } else if (n == 8) {
    KP_UNROLL
    for (size_t i = 0; i < count; i++) _mm_storel_epi64((__m128i *)(dst + i * stride), q[i]);
  } else {
    __m128i rows[KP_GROUP_AVX512];
    KP_UNROLL
    for (size_t i = 0; i < count; i++) rows[i] = q[i];
    kp_store_partial_rows_i8_avx512(dst, stride, rows, count, n);
  }
}

KP_SPECIALIZED void kp_store_rows_f32_avx512(float *dst, size_t stride, const __m512 *x, size_t count, size_t n) {
  if (n == 16) {
    KP_UNROLL
    for (size_t i = 0; i < count; i++) _mm512_storeu_ps(dst + i * stride, x[i]);
  } else if (n == 8) {
    KP_UNROLL
    for (size_t i = 0; i < count; i++) _mm256_storeu_ps(dst + i * stride, _mm512_castps512_ps256(x[i]));
  } else {
    __m512 rows[KP_GROUP_AVX512];
    KP_UNROLL
    for (size_t i = 0; i < count; i++) rows[i] = x[i];
    kp_store_partial_rows_f32_avx512(dst, stride, rows, count, n);
  }
}

KP_SPECIALIZED void kp_add_residual_avx512(__m512 *x, const kp_epilogue_i8 *epilogue, size_t row, size_t column,
                                           size_t count, __mmask16 mask) {
  const size_t stride = epilogue->residual_stride, first = row * stride + column;
  if (epilogue->residual_f32) {
    const float *residual = epilogue->residual_f32 + first;
    KP_UNROLL
    for (size_t i = 0; i < count; i++) x[i] = _mm512_add_ps(x[i], _mm512_maskz_loadu_ps(mask, residual + i * stride));
  } else if (epilogue->residual_i8) {
    const int8_t *residual = epilogue->residual_i8 + first;
    const __m512i zero = _mm512_loadu_si512(epilogue->residual_zero + column);
    const __m512 scale = _mm512_loadu_ps(epilogue->residual_scale + column);
    KP_UNROLL
    for (size_t i = 0; i < count; i++) {
      const __m512i q = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, residual + i * stride));
      x[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(q, zero)), scale, x[i]);
    }
  }
}

/* Finishes n <= 16 columns from `column` on of `count` <= KP_GROUP_AVX512 rows from `row` on: their accumulators,
 * offsets added, to dst_i8 where `quantized`, else dst_f32. `act` as in kp_apply_act_i8_avx512. */
KP_SPECIALIZED void kp_finish_rows_avx512(const kp_epilogue_i8 *epilogue, const kp_columns_avx512 *v,
                                          const __m512i *acc, size_t row, size_t column, size_t n, size_t count,
                                          kp_act act, bool quantized) {
  __m512 x[KP_GROUP_AVX512];
  const size_t stride = epilogue->dst_stride;
  if (epilogue->row_scale) {
    const __m512i sum = _mm512_loadu_si512(epilogue->column_sum + column);
    KP_UNROLL
    for (size_t i = 0; i < count; i++) {
      const __m512i shift = _mm512_mullo_epi32(_mm512_set1_epi32(epilogue->row_zero[row + i]), sum);
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(epilogue->row_scale[row + i]), v->scale);
      x[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(acc[i], shift)), scale, v->bias);
    }
  } else {
    KP_UNROLL
    for (size_t i = 0; i < count; i++) x[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i]), v->scale, v->bias);
  }
  kp_apply_act_i8_avx512(act, epilogue->act, x, count);
  kp_add_residual_avx512(x, epilogue, row, column, count, kp_lanes_avx512(n));
  if (quantized) {
    __m128i q[KP_GROUP_AVX512];
    KP_UNROLL
    for (size_t i = 0; i < count; i++) q[i] = _mm512_cvtsepi32_epi8(kp_quantize_f32_avx512(x[i], v->inverse, v->shift));
    kp_store_rows_i8_avx512(epilogue->dst_i8 + row * stride + column, stride, q, count, n);
  } else {
    kp_store_rows_f32_avx512(epilogue->dst_f32 + row * stride + column, stride, x, count, n);
  }
}

#endif /* KP_KERNELS_AVX512_EPILOGUE_I8_AVX512_H */

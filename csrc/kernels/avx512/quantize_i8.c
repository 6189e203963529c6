#include <string.h>

#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_i8_avx512.h"
#include "kernels/row_quantizer.h"

/* Rows shorter than this, and not of whole vectors, are taken 16 at a time: those are whole vectors. */
#define SHORT_ROW 64
#define REPEATS 16

KP_SPECIALIZED void store_lowest_bytes(int8_t *dst, size_t n, __m512i x) {
  const __m128i bytes = _mm512_cvtepi32_epi8(x);
  if (n >= 16) {
    _mm_storeu_si128((__m128i *)dst, bytes);
  } else {
    kp_store_partial_i8_avx512(dst, n, bytes);
  }
}

/* dst[r * columns + c] = src[r * src_columns + c] for REPEATS rows of an array by column. */
static void repeat_columns(void *dst, const void *src, size_t columns) {
  for (size_t r = 0; r < REPEATS; r++) memcpy((char *)dst + r * columns * 4, src, columns * 4);
}

static bool is_short(size_t rows, size_t columns) { return rows > 1 && columns < SHORT_ROW && columns % 16 != 0; }

static void quantize_row(int8_t *dst, const float *src, size_t n, const float *inverse, const float *shift) {
  size_t c = 0;
  for (; c + 16 <= n; c += 16) {
    const __m512i q =
        kp_quantize_f32_avx512(_mm512_loadu_ps(src + c), _mm512_loadu_ps(inverse + c), _mm512_loadu_ps(shift + c));
    _mm_storeu_si128((__m128i *)(dst + c), _mm512_cvtsepi32_epi8(q));
  }
  if (c < n) {
    const __m512 x = _mm512_maskz_loadu_ps(kp_lanes_avx512(n - c), src + c);
    const __m512i q = kp_quantize_f32_avx512(x, _mm512_loadu_ps(inverse + c), _mm512_loadu_ps(shift + c));
    kp_store_partial_i8_avx512(dst + c, n - c, _mm512_cvtsepi32_epi8(q));
  }
}

static void quantize_rows_of(int8_t *dst, const float *src, size_t n, size_t columns, const kp_quantizer *quantizer) {
  for (size_t i = 0; i < n; i += columns) {
    quantize_row(dst + i, src + i, n - i < columns ? n - i : columns, quantizer->inverse, quantizer->shift);
  }
}

void kp_quantize_i8_avx512(int8_t *dst, const float *src, size_t rows, size_t columns, const kp_quantizer *quantizer) {
  if (columns == 0) return;
  if (is_short(rows, columns)) {
    float inverse[REPEATS * SHORT_ROW], shift[REPEATS * SHORT_ROW];
    repeat_columns(inverse, quantizer->inverse, columns);
    repeat_columns(shift, quantizer->shift, columns);
    quantize_rows_of(dst, src, rows * columns, REPEATS * columns, &(kp_quantizer){inverse, shift});
  } else {
    quantize_rows_of(dst, src, rows * columns, columns, quantizer);
  }
}

static void dequantize_row(float *dst, const int8_t *src, size_t n, const float *scale, const int32_t *zero_point) {
  size_t c = 0;
  for (; c + 16 <= n; c += 16) {
    const __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(src + c)));
    const __m512i difference = _mm512_sub_epi32(q, _mm512_loadu_si512(zero_point + c));
    _mm512_storeu_ps(dst + c, _mm512_mul_ps(_mm512_cvtepi32_ps(difference), _mm512_loadu_ps(scale + c)));
  }
  if (c < n) {
    const __m512i q = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(kp_lanes_avx512(n - c), src + c));
    const __m512i difference = _mm512_sub_epi32(q, _mm512_loadu_si512(zero_point + c));
    kp_store_partial_f32_avx512(dst + c, n - c,
                                _mm512_mul_ps(_mm512_cvtepi32_ps(difference), _mm512_loadu_ps(scale + c)));
  }
}

static void dequantize_rows_of(float *dst, const int8_t *src, size_t n, size_t columns, const float *scale,
                               const int32_t *zero_point) {
  for (size_t i = 0; i < n; i += columns) {
    dequantize_row(dst + i, src + i, n - i < columns ? n - i : columns, scale, zero_point);
  }
}

void kp_dequantize_i8_avx512(float *dst, const int8_t *src, size_t rows, size_t columns, const float *scale,
                             const int32_t *zero_point) {
  if (columns == 0) return;
  if (is_short(rows, columns)) {
    float scales[REPEATS * SHORT_ROW];
    int32_t zero_points[REPEATS * SHORT_ROW];
    repeat_columns(scales, scale, columns);
    repeat_columns(zero_points, zero_point, columns);
    dequantize_rows_of(dst, src, rows * columns, REPEATS * columns, scales, zero_points);
  } else {
    dequantize_rows_of(dst, src, rows * columns, columns, scale, zero_point);
  }
}

/* min and max return their second operand where one is a NaN. */
static kp_row_quantizer quantizer_of(const float *src, size_t n) {
  __m512 low[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, high[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    KP_UNROLL
    for (size_t v = 0; v < 2; v++) {
      const __m512 x = _mm512_loadu_ps(src + i + 16 * v);
      low[v] = _mm512_min_ps(x, low[v]);
      high[v] = _mm512_max_ps(x, high[v]);
    }
  }
  for (; i < n; i += 16) {
    const __m512 x = _mm512_maskz_loadu_ps(n - i < 16 ? kp_lanes_avx512(n - i) : 0xffff, src + i);
    low[0] = _mm512_min_ps(x, low[0]);
    high[0] = _mm512_max_ps(x, high[0]);
  }
  const __m512 lowest = _mm512_min_ps(low[0], low[1]);
  return kp_row_quantizer_of(-kp_reduce_max_f32_avx512(_mm512_sub_ps(_mm512_setzero_ps(), lowest)),
                             kp_reduce_max_f32_avx512(_mm512_max_ps(high[0], high[1])));
}

void kp_quantize_rows_i8_avx512(int8_t *dst, size_t dst_stride, float *scales, int32_t *zero_points, const float *src,
                                size_t src_stride, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r++) {
    const float *x = src + r * src_stride;
    int8_t *q = dst + r * dst_stride;
    const kp_row_quantizer row = quantizer_of(x, columns);
    scales[r] = row.scale;
    zero_points[r] = row.zero_point;
    const __m512 inverse = _mm512_set1_ps(row.inverse), shift = _mm512_set1_ps(row.shift);
    for (size_t c = 0; c < columns; c += 16) {
      const size_t n = columns - c;
      const __m512 y = n >= 16 ? _mm512_loadu_ps(x + c) : _mm512_maskz_loadu_ps(kp_lanes_avx512(n), x + c);
      store_lowest_bytes(q + c, n, _mm512_castps_si512(_mm512_fmadd_ps(y, inverse, shift)));
    }
  }
}

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx2/math_i8_avx2.h"
#include "kernels/row_quantizer.h"

KP_SPECIALIZED __m256i quantize_8(const float *src, const float *inverse, const float *shift) {
  return kp_quantize_f32_avx2(_mm256_loadu_ps(src), _mm256_loadu_ps(inverse), _mm256_loadu_ps(shift));
}

static void quantize_row(int8_t *dst, const float *src, size_t n, const float *inverse, const float *shift) {
  size_t c = 0;
  for (; c + 32 <= n; c += 32) {
    const __m256i packed = kp_pack_i8_avx2(quantize_8(src + c, inverse + c, shift + c),
                                           quantize_8(src + c + 8, inverse + c + 8, shift + c + 8),
                                           quantize_8(src + c + 16, inverse + c + 16, shift + c + 16),
                                           quantize_8(src + c + 24, inverse + c + 24, shift + c + 24));
    _mm256_storeu_si256((void *)(dst + c), packed);
  }
  for (; c < n; c += 8) {
    const size_t rest = n - c < 8 ? n - c : 8;
    const __m256i q = kp_quantize_f32_avx2(kp_load_partial_f32_avx2(src + c, rest), _mm256_loadu_ps(inverse + c),
                                           _mm256_loadu_ps(shift + c));
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    kp_store_bytes_avx2(dst + c, rest, (uint64_t)_mm_cvtsi128_si64(_mm_packs_epi16(words, words)));
  }
}

void kp_quantize_i8_avx2(int8_t *dst, const float *src, size_t rows, size_t columns, const kp_quantizer *quantizer) {
  for (size_t r = 0; r < rows; r++) {
    quantize_row(dst + r * columns, src + r * columns, columns, quantizer->inverse, quantizer->shift);
  }
}

static void dequantize_row(float *dst, const int8_t *src, size_t n, const float *scale, const int32_t *zero_point) {
  for (size_t c = 0; c < n; c += 8) {
    const size_t rest = n - c < 8 ? n - c : 8;
    const __m128i bytes = _mm_cvtsi64_si128((long long)kp_load_bytes_avx2(src + c, rest));
    const __m256i zero = _mm256_loadu_si256((const void *)(zero_point + c));
    const __m256 difference = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepi8_epi32(bytes), zero));
    kp_store_partial_f32_avx2(dst + c, rest, _mm256_mul_ps(difference, _mm256_loadu_ps(scale + c)));
  }
}

void kp_dequantize_i8_avx2(float *dst, const int8_t *src, size_t rows, size_t columns, const float *scale,
                           const int32_t *zero_point) {
  for (size_t r = 0; r < rows; r++) dequantize_row(dst + r * columns, src + r * columns, columns, scale, zero_point);
}

/* min and max return their second operand where one is a NaN. */
static kp_row_quantizer quantizer_of(const float *src, size_t n) {
  __m256 low[4], high[4];
  KP_UNROLL
  for (size_t v = 0; v < 4; v++) low[v] = high[v] = _mm256_setzero_ps();
  size_t c = 0;
  for (; c + 32 <= n; c += 32) {
    KP_UNROLL
    for (size_t v = 0; v < 4; v++) {
      const __m256 x = _mm256_loadu_ps(src + c + 8 * v);
      low[v] = _mm256_min_ps(x, low[v]);
      high[v] = _mm256_max_ps(x, high[v]);
    }
  }
  for (; c < n; c += 8) {
    const __m256 x = kp_load_partial_f32_avx2(src + c, n - c < 8 ? n - c : 8);
    low[0] = _mm256_min_ps(x, low[0]);
    high[0] = _mm256_max_ps(x, high[0]);
  }
  const __m256 zero = _mm256_setzero_ps();
  const __m256 lowest[2] = {_mm256_min_ps(low[0], low[1]), _mm256_min_ps(low[2], low[3])};
  return kp_row_quantizer_of(-kp_reduce_max_f32_avx2(_mm256_sub_ps(zero, lowest[0]), _mm256_sub_ps(zero, lowest[1])),
                             kp_reduce_max_f32_avx2(_mm256_max_ps(high[0], high[1]), _mm256_max_ps(high[2], high[3])));
}

/* The result in the lowest byte of each lane, the others 0. */
KP_SPECIALIZED __m256i scale_8(__m256 x, __m256 inverse, __m256 shift) {
  const __m256 t = _mm256_fmadd_ps(x, inverse, shift);
  return _mm256_and_si256(_mm256_castps_si256(t), _mm256_set1_epi32(0xFF));
}

static void scale_row(int8_t *dst, const float *src, size_t n, const kp_row_quantizer *row) {
  const __m256 inverse = _mm256_set1_ps(row->inverse), shift = _mm256_set1_ps(row->shift);
  size_t c = 0;
  for (; c + 32 <= n; c += 32) {
    __m256i q[4];
    KP_UNROLL
    for (size_t v = 0; v < 4; v++) q[v] = scale_8(_mm256_loadu_ps(src + c + 8 * v), inverse, shift);
    const __m256i packed = _mm256_packus_epi16(_mm256_packus_epi32(q[0], q[1]), _mm256_packus_epi32(q[2], q[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256((void *)(dst + c), _mm256_permutevar8x32_epi32(packed, order));
  }
  for (; c < n; c += 8) {
    const size_t rest = n - c < 8 ? n - c : 8;
    const __m256i q = scale_8(kp_load_partial_f32_avx2(src + c, rest), inverse, shift);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    kp_store_bytes_avx2(dst + c, rest, (uint64_t)_mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
  }
}

void kp_quantize_rows_i8_avx2(int8_t *dst, size_t dst_stride, float *scales, int32_t *zero_points, const float *src,
                              size_t src_stride, size_t rows, size_t columns) {
  for (size_t r = 0; r < rows; r++) {
    const kp_row_quantizer row = quantizer_of(src + r * src_stride, columns);
    scales[r] = row.scale;
    zero_points[r] = row.zero_point;
    scale_row(dst + r * dst_stride, src + r * src_stride, columns, &row);
  }
}

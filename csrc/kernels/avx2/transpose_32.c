#include <immintrin.h>

#include "kernels/avx2/kernels_avx2.h"
#include "kernels/unroll.h"

/* A whole block of 8 by 8. */
static void block(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride) {
  __m256 r[8], pairs[8], quads[8];
  KP_UNROLL
  for (size_t i = 0; i < 8; i++) r[i] = _mm256_loadu_ps((const float *)(const void *)(src + i * src_stride));
  KP_UNROLL
  for (size_t i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  /* 128-bit part n of quads[i + k] is column 4 n + k of rows i to i + 3. */
  KP_UNROLL
  for (size_t i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
  }
  KP_UNROLL
  for (size_t k = 0; k < 4; k++) {
    const __m256 low = _mm256_permute2f128_ps(quads[k], quads[4 + k], 0x20);
    const __m256 high = _mm256_permute2f128_ps(quads[k], quads[4 + k], 0x31);
    _mm256_storeu_ps((float *)(void *)(dst + k * dst_stride), low);
    _mm256_storeu_ps((float *)(void *)(dst + (4 + k) * dst_stride), high);
  }
}

void kp_transpose_32_avx2(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                          size_t columns) {
  const size_t whole_rows = rows & ~(size_t)7, whole_columns = columns & ~(size_t)7;
  for (size_t r = 0; r < whole_rows; r += 8) {
    for (size_t c = 0; c < whole_columns; c += 8) {
      block(dst + c * dst_stride + r, dst_stride, src + r * src_stride + c, src_stride);
    }
  }
  for (size_t r = 0; r < rows; r++) {
    for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; c++) {
      dst[c * dst_stride + r] = src[r * src_stride + c];
    }
  }
}

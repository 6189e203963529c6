#include "kernels/avx512/kernels_avx512.h"
#include "kernels/unroll.h"

#include <immintrin.h>

/* A block of `rows` <= 16 by `columns` <= 16. */
KP_SPECIALIZED void block(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                          size_t columns) {
  __mmask16 row_mask = (__mmask16)((1u << rows) - 1);
  __mmask16 column_mask = (__mmask16)((1u << columns) - 1);
  __m512i r[16], pairs[16], quads[16], columns_out[16];
  KP_UNROLL
  for (size_t i = 0; i < 16; i++) {
    r[i] = (i < rows) ? _mm512_maskz_loadu_epi32(column_mask, src + i * src_stride) : _mm512_setzero_si512();
  }
  KP_UNROLL
  for (size_t i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  /* 128-bit part n of quads[i + k] is column 4 n + k of rows i to i + 3. */
  KP_UNROLL
  for (size_t i = 0; i < 16; i += 4) {
    quads[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    quads[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    quads[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    quads[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  KP_UNROLL
  for (size_t k = 0; k < 4; k++) {
    __m512i even_top = _mm512_shuffle_i32x4(quads[k], quads[4 + k], 0x88);
    __m512i even_bottom = _mm512_shuffle_i32x4(quads[8 + k], quads[12 + k], 0x88);
    __m512i odd_top = _mm512_shuffle_i32x4(quads[k], quads[4 + k], 0xdd);
    __m512i odd_bottom = _mm512_shuffle_i32x4(quads[8 + k], quads[12 + k], 0xdd);
    columns_out[k] = _mm512_shuffle_i32x4(even_top, even_bottom, 0x88);
    columns_out[4 + k] = _mm512_shuffle_i32x4(odd_top, odd_bottom, 0x88);
    columns_out[8 + k] = _mm512_shuffle_i32x4(even_top, even_bottom, 0xdd);
    columns_out[12 + k] = _mm512_shuffle_i32x4(odd_top, odd_bottom, 0xdd);
  }
  KP_UNROLL
  for (size_t i = 0; i < 16; i++) {
    if (i < columns) {
      _mm512_mask_storeu_epi32(dst + i * dst_stride, row_mask, columns_out[i]);
    }
  }
}

void kp_transpose_32_avx512(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                            size_t columns) {
  for (size_t r = 0; r < rows; r += 16) {
    size_t block_rows = (rows - r < 16) ? rows - r : 16;
    for (size_t c = 0; c < columns; c += 16) {
      size_t block_columns = (columns - c < 16) ? columns - c : 16;
      uint32_t *to = dst + c * dst_stride + r;
      const uint32_t *from = src + r * src_stride + c;
      if (block_rows == 16 && block_columns == 16) {
        block(to, dst_stride, from, src_stride, 16, 16);
      } else {
        block(to, dst_stride, from, src_stride, block_rows, block_columns);
      }
    }
  }
}

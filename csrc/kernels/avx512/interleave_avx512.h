/* Rearrangements that stay within, or move, 128 bits. */
#ifndef KP_KERNELS_AVX512_INTERLEAVE_AVX512_H
#define KP_KERNELS_AVX512_INTERLEAVE_AVX512_H

#include <immintrin.h>

#include "kernels/unroll.h"

/* 4 vectors of bytes to 4 of lanes of 4 bytes, one of each: first in pairs, then in fours. Within each 128 bits, the
 * j-th result has the lanes of bytes 4 j to 4 j + 3. */
KP_SPECIALIZED void kp_interleave_bytes_avx512(__m512i *pairs, __m512i a, __m512i b, __m512i c, __m512i d) {
  pairs[0] = _mm512_unpacklo_epi8(a, b);
  pairs[1] = _mm512_unpackhi_epi8(a, b);
  pairs[2] = _mm512_unpacklo_epi8(c, d);
  pairs[3] = _mm512_unpackhi_epi8(c, d);
}

KP_SPECIALIZED void kp_interleave_pairs_avx512(__m512i *lanes, const __m512i *pairs) {
  lanes[0] = _mm512_unpacklo_epi16(pairs[0], pairs[2]);
  lanes[1] = _mm512_unpackhi_epi16(pairs[0], pairs[2]);
  lanes[2] = _mm512_unpacklo_epi16(pairs[1], pairs[3]);
  lanes[3] = _mm512_unpackhi_epi16(pairs[1], pairs[3]);
}

/* 4 x 4 times 128 bits: between 4 vectors of 16 channels and the interleaved order, either way. */
KP_SPECIALIZED void kp_transpose_128_avx512(__m512i *x) {
  const __m512i a = _mm512_shuffle_i32x4(x[0], x[1], 0x88), b = _mm512_shuffle_i32x4(x[0], x[1], 0xdd);
  const __m512i c = _mm512_shuffle_i32x4(x[2], x[3], 0x88), d = _mm512_shuffle_i32x4(x[2], x[3], 0xdd);
  x[0] = _mm512_shuffle_i32x4(a, c, 0x88);
  x[1] = _mm512_shuffle_i32x4(b, d, 0x88);
  x[2] = _mm512_shuffle_i32x4(a, c, 0xdd);
  x[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

#endif /* KP_KERNELS_AVX512_INTERLEAVE_AVX512_H */

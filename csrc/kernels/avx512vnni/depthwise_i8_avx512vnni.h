/* What the depthwise kernels share: the order of channels in vectors, loads and stores.
 *
 * A vector of bytes is 4 pieces of 16 channels: 64 channels of a pixel, 32 of two or 16 of four. Interleaved with those
 * of 3 other taps it becomes 4 vectors for vpdpbusd, 4 bytes a lane: the j-th has channels 4 j to 4 j + 3 of piece i in
 * its i-th 128 bits. Packing their results into bytes puts the channels in order again, so that up to there everything
 * stays in this interleaved order. `pieces` is how many of the 4 are one pixel's. */
#ifndef KP_KERNELS_AVX512VNNI_DEPTHWISE_I8_AVX512VNNI_H
#define KP_KERNELS_AVX512VNNI_DEPTHWISE_I8_AVX512VNNI_H

#include "kernels/avx512/epilogue_i8_avx512.h"
#include "kernels/avx512/interleave_avx512.h"
#include "kernels/avx512vnni/kernels_avx512vnni.h"

#define KP_PIECES 4
#define KP_PIECE 16
#define KP_DEPTHWISE_GROUPS 16

/* `count` <= 64 channels from `first` on, their weights and vectors in the interleaved order. */
typedef struct kp_channel_block {
  size_t first, count;
  __mmask16 mask; /* of the piece, where it is one */
  __m512i weights[KP_DEPTHWISE_GROUPS][4];
  __m512i offset[4];
  __m512 scale[4], bias[4], inverse[4], shift[4];
} kp_channel_block;

/* Where the taps of a vector's pixels are, and where its outputs go. */
typedef struct kp_vector_pixels {
  const int8_t *const *taps[KP_PIECES];
  int8_t *dst[KP_PIECES];
} kp_vector_pixels;

/* 3 by 3 taps, to int8 without a residual, where pixels side by side share two columns of taps. */
void kp_depthwise_sliding(const kp_depthwise_i8_args *args, const kp_channel_block *block, size_t pieces);

KP_SPECIALIZED __m128i kp_load_piece(const int8_t *src, __mmask16 mask) {
  return mask == 0xffff ? _mm_loadu_si128((const __m128i *)src) : _mm_maskz_loadu_epi8(mask, src);
}

KP_SPECIALIZED __m512i kp_load_tap(const kp_vector_pixels *at, size_t t, const kp_channel_block *block, size_t pieces) {
  const size_t first = block->first;
  __m512i x;
  if (pieces == 4) {
    x = _mm512_loadu_si512(at->taps[0][t] + first);
  } else if (pieces == 2) {
    x = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(at->taps[0][t] + first)));
    x = _mm512_inserti64x4(x, _mm256_loadu_si256((const __m256i *)(at->taps[1][t] + first)), 1);
  } else {
    x = _mm512_castsi128_si512(kp_load_piece(at->taps[0][t] + first, block->mask));
    x = _mm512_inserti32x4(x, kp_load_piece(at->taps[1][t] + first, block->mask), 1);
    x = _mm512_inserti32x4(x, kp_load_piece(at->taps[2][t] + first, block->mask), 2);
    x = _mm512_inserti32x4(x, kp_load_piece(at->taps[3][t] + first, block->mask), 3);
  }
  return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}

KP_SPECIALIZED void kp_load_offsets(__m512i *acc, const kp_channel_block *block) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) acc[j] = block->offset[j];
}

KP_SPECIALIZED void kp_add_products(__m512i *acc, const __m512i *lanes, const __m512i *weights) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) acc[j] = _mm512_dpbusd_epi32(acc[j], lanes[j], weights[j]);
}

KP_SPECIALIZED void kp_scale_sums(__m512 *x, const __m512i *acc, const kp_channel_block *block) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) x[j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[j]), block->scale[j], block->bias[j]);
}

KP_SPECIALIZED void kp_store_piece(int8_t *dst, __m128i q, size_t count) {
  if (count >= KP_PIECE) {
    _mm_storeu_si128((__m128i *)dst, q);
  } else {
    kp_store_partial_i8_avx512(dst, count, q);
  }
}

/* Quantises and stores a vector, of the first of its `pixels` pixels. */
KP_SPECIALIZED void kp_store_vector(const kp_vector_pixels *at, const kp_channel_block *block, const __m512 *x,
                                    size_t pieces, size_t pixels) {
  __m512i lanes[4];
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) lanes[j] = kp_quantize_f32_avx512(x[j], block->inverse[j], block->shift[j]);
  const __m512i q = _mm512_packs_epi16(_mm512_packs_epi32(lanes[0], lanes[1]), _mm512_packs_epi32(lanes[2], lanes[3]));
  if (pieces == 4) {
    _mm512_storeu_si512(at->dst[0] + block->first, q);
  } else if (pieces == 2) {
    _mm256_storeu_si256((__m256i *)(at->dst[0] + block->first), _mm512_castsi512_si256(q));
    if (pixels > 1) _mm256_storeu_si256((__m256i *)(at->dst[1] + block->first), _mm512_extracti64x4_epi64(q, 1));
  } else {
    kp_store_piece(at->dst[0] + block->first, _mm512_castsi512_si128(q), block->count);
    if (pixels > 1) kp_store_piece(at->dst[1] + block->first, _mm512_extracti32x4_epi32(q, 1), block->count);
    if (pixels > 2) kp_store_piece(at->dst[2] + block->first, _mm512_extracti32x4_epi32(q, 2), block->count);
    if (pixels > 3) kp_store_piece(at->dst[3] + block->first, _mm512_extracti32x4_epi32(q, 3), block->count);
  }
}

/* SiLU of 4 vectors as in kp_rectified_polynomial_avx512, in steps that something else can go between: the polynomial
 * keeps the multipliers busy, the next vector's taps the shuffles. */
typedef struct kp_silu_avx512vnni {
  __m512 a[4], u[4], rectified[4];
} kp_silu_avx512vnni;

KP_SPECIALIZED void kp_silu_begin(kp_silu_avx512vnni *silu, const __m512 *x) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) {
    silu->a[j] = kp_bounded_magnitude_avx512(x[j], KP_SILU_I8_LIMIT);
    silu->u[j] = _mm512_set1_ps(kp_silu_i8_coefficients_avx512[8]);
    silu->rectified[j] = _mm512_max_ps(x[j], _mm512_setzero_ps());
  }
}

KP_SPECIALIZED void kp_silu_step(kp_silu_avx512vnni *silu, size_t power) {
  kp_horner_step_avx512(silu->u, silu->a, 4, kp_silu_i8_coefficients_avx512[power]);
}

KP_SPECIALIZED void kp_silu_end(__m512 *x, const kp_silu_avx512vnni *silu) {
  KP_UNROLL
  for (size_t j = 0; j < 4; j++) x[j] = _mm512_fnmadd_ps(silu->u[j], silu->a[j], silu->rectified[j]);
}

/* Nothing; but a compiler takes the steps of the two computations no further apart than this. */
KP_SPECIALIZED void kp_keep_beside(__m512 *x, __m512i *y) {
  __asm__("" : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3]), "+v"(y[0]), "+v"(y[1]), "+v"(y[2]), "+v"(y[3]));
}

#endif /* KP_KERNELS_AVX512VNNI_DEPTHWISE_I8_AVX512VNNI_H */

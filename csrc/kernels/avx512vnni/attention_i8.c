#include "kernels/avx2/kernels_avx2.h"
#include "kernels/avx512/lanes_avx512.h"
#include "kernels/avx512vnni/kernels_avx512vnni.h"

/* vpdpbusd multiplies unsigned bytes by signed ones: probabilities are unsigned, and keys become k + 128. */
#define GROUP 4
#define KEY_OFFSET 128
#define PROBABILITY_OFFSET 0
#define ACCUMULATORS 16

typedef int32_t word;
typedef __m512i packed;
typedef __m512i sums;

KP_SPECIALIZED lanes load_partial(const float *src, size_t n) {
  return n < 16 ? _mm512_maskz_loadu_ps(kp_lanes_avx512(n), src) : _mm512_loadu_ps(src);
}
KP_SPECIALIZED lanes absolute(lanes x) { return _mm512_abs_ps(x); }
KP_SPECIALIZED lanes minimum(lanes a, lanes b) { return _mm512_min_ps(a, b); }
KP_SPECIALIZED lanes select_less(lanes a, lanes b, lanes x, lanes y) {
  return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), x);
}
KP_SPECIALIZED lanes power(lanes x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23)); }
KP_SPECIALIZED lanes fraction(lanes x, lanes nearest) {
  (void)nearest;
  return _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT);
}
/* On Zen 4 the AVX2 kernel transposes 16 by 16 in two thirds of the AVX-512 kernel's time. */
KP_SPECIALIZED void transpose(float *dst, size_t dst_stride, const float *src, size_t src_stride, size_t rows,
                              size_t columns) {
  kp_transpose_32_avx2((uint32_t *)(void *)dst, dst_stride, (const uint32_t *)(const void *)src, src_stride, rows,
                       columns);
}

KP_SPECIALIZED packed load_packed(const word *src) { return _mm512_loadu_si512(src); }
KP_SPECIALIZED void store_packed(word *dst, packed x) { _mm512_storeu_si512(dst, x); }
/* Byte e of each word from x[e]. */
KP_SPECIALIZED packed pack(const lanes x[GROUP]) {
  const __m512i low_bytes = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
  packed p = _mm512_castps_si512(x[0]);
  p = _mm512_mask_shuffle_epi8(p, 0x2222222222222222u, _mm512_castps_si512(x[1]), low_bytes);
  p = _mm512_mask_shuffle_epi8(p, 0x4444444444444444u, _mm512_castps_si512(x[2]), low_bytes);
  return _mm512_mask_shuffle_epi8(p, 0x8888888888888888u, _mm512_castps_si512(x[3]), low_bytes);
}
KP_SPECIALIZED packed key(packed x) { return _mm512_xor_si512(x, _mm512_set1_epi8(-128)); }
KP_SPECIALIZED packed probability(packed x) { return x; }

KP_SPECIALIZED sums repeat(int32_t x) { return _mm512_set1_epi32(x); }
KP_SPECIALIZED lanes to_float(sums x) { return _mm512_cvtepi32_ps(x); }
KP_SPECIALIZED sums multiply_sums(sums x, int32_t factor) { return _mm512_mullo_epi32(x, repeat(factor)); }
KP_SPECIALIZED void store_sums(int32_t *dst, sums x) { _mm512_storeu_si512(dst, x); }
KP_SPECIALIZED void dot_keys(sums *acc, size_t count, packed a, const word *b) {
  KP_UNROLL
  for (size_t j = 0; j < count; j++) acc[j] = _mm512_dpbusd_epi32(acc[j], repeat(b[j]), a);
}
KP_SPECIALIZED void dot_values(sums *acc, size_t count, packed a, const word *b) {
  KP_UNROLL
  for (size_t j = 0; j < count; j++) acc[j] = _mm512_dpbusd_epi32(acc[j], a, repeat(b[j]));
}
KP_SPECIALIZED sums add_words(sums acc, packed x) { return _mm512_dpbusd_epi32(acc, _mm512_set1_epi8(1), x); }
KP_SPECIALIZED sums add_probabilities(sums acc, packed x) { return _mm512_dpbusd_epi32(acc, x, _mm512_set1_epi8(1)); }

#include "kernels/attention_i8_lanes.h"

void kp_attention_i8_avx512vnni(const kp_attention_i8 *args) { attend(args); }

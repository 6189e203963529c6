#include "kernels/avx2/lanes_avx2.h"

/* vpmaddwd multiplies 16-bit numbers and adds pairs of products: exact, where vpmaddubsw saturates. */
#define GROUP 2
#define KEY_OFFSET 0
#define PROBABILITY_OFFSET 0
#define ACCUMULATORS 4

typedef int32_t word;
typedef struct packed {
  __m256i low, high;
} packed;
typedef packed sums;

KP_SPECIALIZED lanes load_partial(const float *src, size_t n) {
  if (n >= 16) return load(src);
  if (n <= 8) return (lanes){kp_load_partial_f32_avx2(src, n), _mm256_setzero_ps()};
  return (lanes){_mm256_loadu_ps(src), kp_load_partial_f32_avx2(src + 8, n - 8)};
}
KP_SPECIALIZED lanes absolute(lanes x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return (lanes){_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
}
KP_SPECIALIZED lanes minimum(lanes a, lanes b) {
  return (lanes){_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
KP_SPECIALIZED lanes select_less(lanes a, lanes b, lanes x, lanes y) {
  return (lanes){_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
                 _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
KP_SPECIALIZED __m256 power_8(__m256 x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 23)); }
KP_SPECIALIZED lanes power(lanes x) { return (lanes){power_8(x.low), power_8(x.high)}; }
KP_SPECIALIZED lanes fraction(lanes x, lanes nearest) { return subtract(x, nearest); }

KP_SPECIALIZED packed load_packed(const word *src) {
  return (packed){_mm256_loadu_si256((const __m256i *)(const void *)src),
                  _mm256_loadu_si256((const __m256i *)(const void *)(src + 8))};
}
KP_SPECIALIZED void store_packed(word *dst, packed x) {
  _mm256_storeu_si256((__m256i *)(void *)dst, x.low);
  _mm256_storeu_si256((__m256i *)(void *)(dst + 8), x.high);
}
/* The bits of KP_ROUNDING_SHIFT + n end with n in 16 bits. */
KP_SPECIALIZED __m256i pack_8(__m256 even, __m256 odd) {
  return _mm256_blend_epi16(_mm256_castps_si256(even), _mm256_slli_epi32(_mm256_castps_si256(odd), 16), 0xaa);
}
KP_SPECIALIZED packed pack(const lanes x[GROUP]) {
  return (packed){pack_8(x[0].low, x[1].low), pack_8(x[0].high, x[1].high)};
}
KP_SPECIALIZED packed key(packed x) { return x; }
KP_SPECIALIZED packed probability(packed x) { return x; }

KP_SPECIALIZED sums repeat(int32_t x) { return (sums){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
KP_SPECIALIZED lanes to_float(sums x) { return (lanes){_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
KP_SPECIALIZED sums multiply_sums(sums x, int32_t factor) {
  const __m256i by = _mm256_set1_epi32(factor);
  return (sums){_mm256_mullo_epi32(x.low, by), _mm256_mullo_epi32(x.high, by)};
}
KP_SPECIALIZED void store_sums(int32_t *dst, sums x) { store_packed(dst, x); }
KP_SPECIALIZED sums multiply_words(sums acc, packed a, __m256i b) {
  return (sums){_mm256_add_epi32(acc.low, _mm256_madd_epi16(a.low, b)),
                _mm256_add_epi32(acc.high, _mm256_madd_epi16(a.high, b))};
}
/* The asm is nothing, but gcc would else compute all products before it adds one, and spill the sums for them. */
KP_SPECIALIZED void dot_keys(sums *acc, size_t count, packed a, const word *b) {
  KP_UNROLL
  for (size_t j = 0; j < count; j++) {
    acc[j] = multiply_words(acc[j], a, _mm256_set1_epi32(b[j]));
    __asm__("" : "+x"(acc[j].low), "+x"(acc[j].high));
  }
}
KP_SPECIALIZED void dot_values(sums *acc, size_t count, packed a, const word *b) { dot_keys(acc, count, a, b); }
KP_SPECIALIZED sums add_words(sums acc, packed x) { return multiply_words(acc, x, _mm256_set1_epi16(1)); }
KP_SPECIALIZED sums add_probabilities(sums acc, packed x) { return add_words(acc, x); }

#include "kernels/attention_i8_lanes.h"

void kp_attention_i8_avx2(const kp_attention_i8 *args) { attend(args); }

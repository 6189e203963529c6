#include "kernels/neon/attention_i8_neon.h"

#include "kernels/dotprod/kernels_dotprod.h"

/* sdot by element: signed bytes, so probabilities become p - 128. */
#define GROUP 4
#define KEY_OFFSET 0
#define PROBABILITY_OFFSET (-128)
#define ACCUMULATORS 4

typedef int32_t word;
typedef struct packed {
  int8x16_t part[4];
} packed;

KP_SPECIALIZED packed load_packed(const word *src) {
  packed x;
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = vreinterpretq_s8_s32(vld1q_s32(src + 4 * i));
  return x;
}
KP_SPECIALIZED void store_packed(word *dst, packed x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) vst1q_s32(dst + 4 * i, vreinterpretq_s32_s8(x.part[i]));
}
/* Byte e of each word from x[e]. */
KP_SPECIALIZED packed pack(const lanes x[GROUP]) {
  packed p;
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) {
    int32x4_t words = vreinterpretq_s32_f32(x[0].part[i]);
    words = vsliq_n_s32(words, vreinterpretq_s32_f32(x[1].part[i]), 8);
    words = vsliq_n_s32(words, vreinterpretq_s32_f32(x[2].part[i]), 16);
    words = vsliq_n_s32(words, vreinterpretq_s32_f32(x[3].part[i]), 24);
    p.part[i] = vreinterpretq_s8_s32(words);
  }
  return p;
}
KP_SPECIALIZED packed key(packed x) { return x; }
KP_SPECIALIZED packed probability(packed x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) x.part[i] = veorq_s8(x.part[i], vdupq_n_s8(-128));
  return x;
}

/* acc += a . b[lane]; the lane is an immediate. */
#define DOT_LANE(acc, a, b, lane)                                           \
  do {                                                                      \
    (acc)->part[0] = vdotq_laneq_s32((acc)->part[0], (a).part[0], b, lane); \
    (acc)->part[1] = vdotq_laneq_s32((acc)->part[1], (a).part[1], b, lane); \
    (acc)->part[2] = vdotq_laneq_s32((acc)->part[2], (a).part[2], b, lane); \
    (acc)->part[3] = vdotq_laneq_s32((acc)->part[3], (a).part[3], b, lane); \
  } while (0)

KP_SPECIALIZED void dot_keys(sums *acc, size_t count, packed a, const word *b) {
  KP_UNROLL
  for (size_t j = 0; j < count; j += 4) {
    const int8x16_t words = vreinterpretq_s8_s32(vld1q_s32(b + j));
    DOT_LANE(acc + j, a, words, 0);
    if (j + 1 < count) DOT_LANE(acc + j + 1, a, words, 1);
    if (j + 2 < count) DOT_LANE(acc + j + 2, a, words, 2);
    if (j + 3 < count) DOT_LANE(acc + j + 3, a, words, 3);
  }
}
KP_SPECIALIZED void dot_values(sums *acc, size_t count, packed a, const word *b) { dot_keys(acc, count, a, b); }
KP_SPECIALIZED sums add_words(sums acc, packed x) {
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) acc.part[i] = vdotq_s32(acc.part[i], x.part[i], vdupq_n_s8(1));
  return acc;
}
KP_SPECIALIZED sums add_probabilities(sums acc, packed x) { return add_words(acc, x); }

#include "kernels/attention_i8_lanes.h"

void kp_attention_i8_dotprod(const kp_attention_i8 *args) { attend(args); }

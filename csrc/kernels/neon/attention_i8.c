#include "kernels/neon/attention_i8_neon.h"

/* smlal by element multiplies 16-bit numbers of the lanes by one of eight, into 32 bits. */
#define GROUP 1
#define KEY_OFFSET 0
#define PROBABILITY_OFFSET 0
#define ACCUMULATORS 4

typedef int16_t word;
typedef struct packed {
  int16x8_t low, high;
} packed;

KP_SPECIALIZED packed load_packed(const word *src) { return (packed){vld1q_s16(src), vld1q_s16(src + 8)}; }
KP_SPECIALIZED void store_packed(word *dst, packed x) {
  vst1q_s16(dst, x.low);
  vst1q_s16(dst + 8, x.high);
}
/* The bits of KP_ROUNDING_SHIFT + n end with n in 16 bits. */
KP_SPECIALIZED int16x8_t pack_8(float32x4_t a, float32x4_t b) {
  return vuzp1q_s16(vreinterpretq_s16_f32(a), vreinterpretq_s16_f32(b));
}
KP_SPECIALIZED packed pack(const lanes x[GROUP]) {
  return (packed){pack_8(x->part[0], x->part[1]), pack_8(x->part[2], x->part[3])};
}
KP_SPECIALIZED packed key(packed x) { return x; }
KP_SPECIALIZED packed probability(packed x) { return x; }

/* acc += a * b[lane]; the lane is an immediate. */
#define MULTIPLY_LANE(acc, a, b, lane)                                                \
  do {                                                                                \
    (acc)->part[0] = vmlal_lane_s16((acc)->part[0], vget_low_s16((a).low), b, lane);  \
    (acc)->part[1] = vmlal_high_lane_s16((acc)->part[1], (a).low, b, lane);           \
    (acc)->part[2] = vmlal_lane_s16((acc)->part[2], vget_low_s16((a).high), b, lane); \
    (acc)->part[3] = vmlal_high_lane_s16((acc)->part[3], (a).high, b, lane);          \
  } while (0)

KP_SPECIALIZED void dot_keys(sums *acc, size_t count, packed a, const word *b) {
  KP_UNROLL
  for (size_t j = 0; j < count; j += 4) {
    const int16x4_t words = vld1_s16(b + j);
    MULTIPLY_LANE(acc + j, a, words, 0);
    if (j + 1 < count) MULTIPLY_LANE(acc + j + 1, a, words, 1);
    if (j + 2 < count) MULTIPLY_LANE(acc + j + 2, a, words, 2);
    if (j + 3 < count) MULTIPLY_LANE(acc + j + 3, a, words, 3);
  }
}
KP_SPECIALIZED void dot_values(sums *acc, size_t count, packed a, const word *b) { dot_keys(acc, count, a, b); }
KP_SPECIALIZED sums add_words(sums acc, packed x) {
  acc.part[0] = vaddw_s16(acc.part[0], vget_low_s16(x.low));
  acc.part[1] = vaddw_high_s16(acc.part[1], x.low);
  acc.part[2] = vaddw_s16(acc.part[2], vget_low_s16(x.high));
  acc.part[3] = vaddw_high_s16(acc.part[3], x.high);
  return acc;
}
KP_SPECIALIZED sums add_probabilities(sums acc, packed x) { return add_words(acc, x); }

#include "kernels/attention_i8_lanes.h"

void kp_attention_i8_neon(const kp_attention_i8 *args) { attend(args); }

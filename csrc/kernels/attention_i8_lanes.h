/* Attention on int8 with a query in each of 16 lanes, included by one file of each instruction set. Queries, scores and
 * outputs are kept transposed, so that every step runs along the lanes and none across them, and no head_dim leaves a
 * lane empty. Quantised numbers are kept in words of GROUP neighbours along the dimension that is summed over: depths
 * of a query or a key, keys of a probability or a value. Products are of a word in each lane with one word for all.
 *
 * Before it is included, the file defines
 *   GROUP               1, 2 or 4
 *   word                GROUP quantised numbers
 *   KEY_OFFSET          what key() adds to a quantised key
 *   PROBABILITY_OFFSET  what probability() adds to a probability
 *   ACCUMULATORS        how many sums, at most 16, the registers hold beside what a step reads
 *   lanes               16 floats, with broadcast, load, load_partial (the first n, then zeros), store, multiply_add
 *                       (fma: a * b + c), add, subtract, multiply, divide, absolute, maximum and minimum (a > b ? a : b
 *                       and a < b ? a : b), select_equal and select_less (a == b ? x : y, a < b ? x : y), power (the
 *                       lanes whose bits are those of x, shifted left by 23) and fraction (x minus the nearest integer,
 *                       ties to even, which `nearest` is)
 *   transpose           its instruction set's transpose_32, on floats
 *   packed              16 words, with load_packed, store_packed, key, probability and pack (of GROUP lanes of
 *                       KP_ROUNDING_SHIFT + n, the n)
 *   sums                16 int32, with repeat, to_float, multiply_sums, store_sums, add_words and add_probabilities
 *                       (acc += the sum of the GROUP numbers, from pack() or from probability()), and for j < count
 *                       dot_keys (acc[j] += a * b[j], with b from key()) and dot_values (with a from probability()),
 *                       which may read b up to a multiple of 4. */
#ifndef KP_KERNELS_ATTENTION_I8_LANES_H
#define KP_KERNELS_ATTENTION_I8_LANES_H

#include <math.h>

#include "kernels/attention_i8_layout.h"
#include "kernels/elementary.h"
#include "kernels/kernels.h"
#include "kernels/unroll.h"

typedef struct work {
  float *transposed;
  word *queries; /* (groups, 16) */
  word *keys;    /* (keys / 16, groups, 16) */
  word *values;  /* (keys / GROUP, head_dim) */
  float *key_scales;
  float *value_scales;
  int32_t *value_starts; /* -PROBABILITY_OFFSET * the sum of the column */
  float *scores;         /* (keys, 16) */
  word *probabilities;   /* (keys / GROUP, 16) */
  size_t groups;         /* of head_dim */
  size_t key_groups;
} work;

static work lay_out(const kp_attention_i8 *args) {
  const kp_attention_i8_layout at = kp_attention_i8_lay_out(args->keys, args->head_dim, sizeof(word) / GROUP);
  char *base = args->scratch;
  return (work){.transposed = (void *)(base + at.transposed),
                .queries = (void *)(base + at.queries),
                .keys = (void *)(base + at.keys),
                .values = (void *)(base + at.values),
                .key_scales = (void *)(base + at.key_scales),
                .value_scales = (void *)(base + at.value_scales),
                .value_starts = (void *)(base + at.value_starts),
                .scores = (void *)(base + at.scores),
                .probabilities = (void *)(base + at.probabilities),
                .groups = (args->head_dim + GROUP - 1) / GROUP,
                .key_groups = (args->keys + GROUP - 1) / GROUP};
}

/* 1 / scale. The scale of zeros does not matter: whatever it is, what it multiplies is 0. */
KP_SPECIALIZED lanes quantizer_inverse(lanes largest) {
  return select_less(largest, broadcast(KP_ROW_ABSMAX_MIN), broadcast(0.0f), divide(broadcast(127.0f), largest));
}

KP_SPECIALIZED lanes quantizer_scale(lanes largest) { return divide(largest, broadcast(127.0f)); }

KP_SPECIALIZED lanes maximum_of_4(const lanes x[4]) { return maximum(maximum(x[0], x[1]), maximum(x[2], x[3])); }

/* Quantises `count` <= 16 rows, one in each lane, to (groups, 16) words. Returns their scales. In the other lanes, here
 * and below, is what the scratch held; nothing of it is stored. */
KP_SPECIALIZED lanes quantize_rows(const work *w, word *dst, const float *src, size_t stride, size_t count,
                                   size_t head_dim, bool keys) {
  const size_t depth = (head_dim + 3) / 4 * 4;
  const lanes shift = broadcast(KP_ROUNDING_SHIFT);
  for (size_t d = head_dim; d < depth; d++) store(w->transposed + 16 * d, broadcast(0.0f));
  transpose(w->transposed, 16, src, stride, count, head_dim);
  lanes largest[4];
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) largest[i] = broadcast(0.0f);
  for (size_t d = 0; d < depth; d += 4) {
    KP_UNROLL
    for (size_t i = 0; i < 4; i++) largest[i] = maximum(absolute(load(w->transposed + 16 * (d + i))), largest[i]);
  }
  const lanes absmax = maximum_of_4(largest), inverse = quantizer_inverse(absmax);
  for (size_t g = 0; g < w->groups; g++) {
    lanes x[GROUP];
    KP_UNROLL
    for (size_t e = 0; e < GROUP; e++) x[e] = multiply_add(load(w->transposed + 16 * (g * GROUP + e)), inverse, shift);
    const packed row = pack(x);
    store_packed(dst + 16 * g, keys ? key(row) : row);
  }
  return quantizer_scale(absmax);
}

static void quantize_keys(const kp_attention_i8 *args, const work *w) {
  for (size_t j = 0; j < args->keys; j += 16) {
    const size_t count = args->keys - j < 16 ? args->keys - j : 16;
    const float *keys = args->k + j * args->k_stride;
    store(w->key_scales + j,
          quantize_rows(w, w->keys + j * w->groups, keys, args->k_stride, count, args->head_dim, true));
  }
}

/* The largest magnitudes of up to 16 columns from d on. */
static lanes value_absmax(const kp_attention_i8 *args, size_t d) {
  lanes largest[4];
  KP_UNROLL
  for (size_t i = 0; i < 4; i++) largest[i] = broadcast(0.0f);
  for (size_t j = 0; j < args->keys; j += 4) {
    KP_UNROLL
    for (size_t i = 0; i < 4; i++) {
      const size_t row = j + i < args->keys ? j + i : args->keys - 1;
      const lanes x = load_partial(args->v + row * args->v_stride + d, args->head_dim - d);
      largest[i] = maximum(absolute(x), largest[i]);
    }
  }
  return maximum_of_4(largest);
}

/* 16 columns at a time. The last ones' vectors reach into the next row, so the others are stored after them. */
static void quantize_values(const kp_attention_i8 *args, const work *w) {
  for (size_t chunk = (args->head_dim + 15) / 16; chunk-- > 0;) {
    const size_t d = 16 * chunk;
    const lanes largest = value_absmax(args, d), inverse = quantizer_inverse(largest);
    sums total = repeat(0);
    for (size_t g = 0; g < w->key_groups; g++) {
      lanes x[GROUP];
      KP_UNROLL
      for (size_t e = 0; e < GROUP; e++) {
        const size_t j = g * GROUP + e;
        x[e] = broadcast(KP_ROUNDING_SHIFT);
        if (j < args->keys) {
          x[e] = multiply_add(load_partial(args->v + j * args->v_stride + d, args->head_dim - d), inverse, x[e]);
        }
      }
      const packed row = pack(x);
      store_packed(w->values + g * args->head_dim + d, row);
      if (PROBABILITY_OFFSET != 0) total = add_words(total, row);
    }
    store(w->value_scales + d, quantizer_scale(largest));
    store_sums(w->value_starts + d, multiply_sums(total, -PROBABILITY_OFFSET));
  }
}

/* scores[j] = q . k_j * key_scales[j], for `count` keys from `first` on, which lie in one block of 16. Returns the
 * maximum of these and `largest`. `start` is -KEY_OFFSET * the sum of the query. */
KP_SPECIALIZED lanes score(const work *w, sums start, lanes largest, size_t first, size_t count) {
  const word *keys = w->keys + first / 16 * 16 * w->groups + first % 16;
  sums acc[ACCUMULATORS];
  KP_UNROLL
  for (size_t j = 0; j < count; j++) acc[j] = start;
  for (size_t g = 0; g < w->groups; g++) dot_keys(acc, count, load_packed(w->queries + 16 * g), keys + 16 * g);
  KP_UNROLL
  for (size_t j = 0; j < count; j++) {
    const lanes y = multiply(to_float(acc[j]), broadcast(w->key_scales[first + j]));
    largest = maximum(y, largest);
    store(w->scores + 16 * (first + j), y);
  }
  return largest;
}

/* Scores of all keys. Returns their maximum. */
static lanes score_keys(const kp_attention_i8 *args, const work *w) {
  sums start = repeat(0);
  for (size_t g = 0; KEY_OFFSET != 0 && g < w->groups; g++) start = add_words(start, load_packed(w->queries + 16 * g));
  if (KEY_OFFSET != 0) start = multiply_sums(start, -KEY_OFFSET);
  lanes largest = broadcast(-INFINITY);
  for (size_t first = 0; first < args->keys; first += 16) {
    const size_t n = args->keys - first < 16 ? args->keys - first : 16, step = kp_pass_size(n, ACCUMULATORS);
    for (size_t j = 0; j < n; j += step) {
#define SCORE(count) largest = score(w, start, largest, first + j, count)
      KP_WITH_CONSTANT(n - j < step ? n - j : step, ACCUMULATORS, SCORE)
#undef SCORE
    }
  }
  return largest;
}

/* scores[j] = fma(scores[j], scale, mask[j]), for `count` queries from `first` on. Returns the maximum. */
static lanes mask_scores(const kp_attention_i8 *args, const work *w, lanes scale, size_t first, size_t count) {
  lanes largest = broadcast(-INFINITY);
  for (size_t key = 0; key < args->keys; key += 16) {
    const size_t n = args->keys - key < 16 ? args->keys - key : 16;
    const float *mask = args->mask + first * args->mask_stride + key;
    if (args->mask_stride != 0) transpose(w->transposed, 16, mask, args->mask_stride, count, n);
    for (size_t j = 0; j < n; j++) {
      float *y = w->scores + 16 * (key + j);
      const lanes term = args->mask_stride != 0 ? load(w->transposed + 16 * j) : broadcast(mask[j]);
      const lanes masked = multiply_add(load(y), scale, term);
      largest = maximum(masked, largest);
      store(y, masked);
    }
  }
  return largest;
}

/* The softmax of a block of queries: probability = 2^(slope * score + intercept). */
typedef struct softmax {
  lanes slope, intercept;
} softmax;

/* KP_ROUNDING_SHIFT + kp_exp2_i8_c(z). Another 128 in the number that rounds z, to 128 + n, makes it the exponent of
 * 2^(n + 1); the polynomial is halved for that. Halving and 2^(n + 1) times it are exact, so that one fma rounds as the
 * definition's addition does. */
KP_SPECIALIZED lanes shifted_exp2(lanes z) {
  const lanes shift = broadcast(KP_ROUNDING_SHIFT + 128.0f);
  z = minimum(maximum(z, broadcast(KP_EXP2_I8_MIN)), broadcast(KP_EXP2_I8_MAX));
  const lanes shifted = add(z, shift), f = fraction(z, subtract(shifted, shift));
  lanes p = multiply_add(broadcast(0.5f * KP_EXP2_I8_C3), f, broadcast(0.5f * KP_EXP2_I8_C2));
  p = multiply_add(p, f, broadcast(0.5f * KP_EXP2_I8_C1));
  p = multiply_add(p, f, broadcast(0.5f * KP_EXP2_I8_C0));
  return multiply_add(p, power(shifted), broadcast(KP_ROUNDING_SHIFT));
}

/* Turns the scores of group g, of which `count` are keys, into probabilities, and adds these to `total`. */
KP_SPECIALIZED sums soften(const work *w, const softmax *s, sums total, size_t g, size_t count) {
  lanes p[GROUP];
  KP_UNROLL
  for (size_t e = 0; e < GROUP; e++) {
    p[e] = broadcast(KP_ROUNDING_SHIFT);
    if (e < count) p[e] = shifted_exp2(multiply_add(load(w->scores + 16 * (g * GROUP + e)), s->slope, s->intercept));
  }
  const packed row = probability(pack(p));
  store_packed(w->probabilities + 16 * g, row);
  return add_probabilities(total, row);
}

/* Turns all scores into probabilities. Returns 1 / their sum, or 0 where that is 0. It is where every key is masked:
 * then the intercept is infinite or a NaN, the exponents are NaNs, and maximum() takes these for small ones. */
static lanes soften_keys(const kp_attention_i8 *args, const work *w, const softmax *s) {
  sums total = repeat(-PROBABILITY_OFFSET * (int32_t)(w->key_groups * GROUP));
  size_t g = 0;
  for (; g < args->keys / GROUP; g++) total = soften(w, s, total, g, GROUP);
  if (g < w->key_groups) total = soften(w, s, total, g, args->keys % GROUP);
  const lanes zero = broadcast(0.0f), sum = to_float(total);
  return select_equal(sum, zero, zero, divide(broadcast(1.0f), sum));
}

/* transposed[d] = (p v) * value_scales[d] * inverse, for `count` columns from `first` on. */
KP_SPECIALIZED void accumulate(const kp_attention_i8 *args, const work *w, lanes inverse, size_t first, size_t count) {
  sums acc[ACCUMULATORS];
  KP_UNROLL
  for (size_t d = 0; d < count; d++) acc[d] = repeat(PROBABILITY_OFFSET != 0 ? w->value_starts[first + d] : 0);
  for (size_t g = 0; g < w->key_groups; g++) {
    dot_values(acc, count, load_packed(w->probabilities + 16 * g), w->values + g * args->head_dim + first);
  }
  KP_UNROLL
  for (size_t d = 0; d < count; d++) {
    const lanes total = multiply(to_float(acc[d]), broadcast(w->value_scales[first + d]));
    store(w->transposed + 16 * (first + d), multiply(total, inverse));
  }
}

static void attend_block(const kp_attention_i8 *args, const work *w, size_t first, size_t count) {
  const float *queries = args->q + first * args->q_stride;
  const lanes q_scale = quantize_rows(w, w->queries, queries, args->q_stride, count, args->head_dim, false);
  const lanes scale = multiply(q_scale, broadcast(args->scale)), log2_e = broadcast(KP_LOG2_E);
  lanes largest = score_keys(args, w), slope = multiply(scale, log2_e);
  if (args->mask) {
    largest = mask_scores(args, w, scale, first, count);
    slope = log2_e;
  }
  const softmax s = {slope, subtract(broadcast(KP_EXP2_I8_MAX), multiply(largest, slope))};
  const lanes inverse = soften_keys(args, w, &s);
  const size_t step = kp_pass_size(args->head_dim, ACCUMULATORS);
  for (size_t d = 0; d < args->head_dim; d += step) {
#define ACCUMULATE(count) accumulate(args, w, inverse, d, count)
    KP_WITH_CONSTANT(args->head_dim - d < step ? args->head_dim - d : step, ACCUMULATORS, ACCUMULATE)
#undef ACCUMULATE
  }
  transpose(args->out + first * args->out_stride, args->out_stride, w->transposed, 16, args->head_dim, count);
}

static void attend(const kp_attention_i8 *args) {
  const work w = lay_out(args);
  quantize_keys(args, &w);
  quantize_values(args, &w);
  for (size_t i = 0; i < args->queries; i += 16) {
    attend_block(args, &w, i, args->queries - i < 16 ? args->queries - i : 16);
  }
}

#endif /* KP_KERNELS_ATTENTION_I8_LANES_H */

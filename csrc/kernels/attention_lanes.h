/* Attention with a query in each of 16 lanes, included by one file of each instruction set. Queries, scores and outputs
 * are kept transposed, so that every step runs along the lanes and none across them: keys and values are read in place,
 * as scalars, and no head_dim leaves a lane empty. The order of operations is that of kernels.h, whatever the blocks.
 *
 * Before it is included, the file defines
 *   lanes         16 floats, with zero, broadcast, load, store, multiply_add (fma: a * b + c), add, subtract, multiply,
 *                 divide, maximum (a > b ? a : b), exp_below_zero and select_equal (a == b ? x : y);
 *   transpose     its instruction set's transpose_32, on floats;
 *   ACCUMULATORS  how many lanes, at most 12, the registers hold beside what a step reads. */
#ifndef KP_KERNELS_ATTENTION_LANES_H
#define KP_KERNELS_ATTENTION_LANES_H

#include <math.h>

#include "kernels/kernels.h"
#include "kernels/unroll.h"

#define TILE KP_ATTENTION_KEY_TILE

/* Up to 16 queries: matrices in scratch, a row of 16 queries for each depth or key. */
typedef struct block {
  float *queries; /* (head_dim, 16) */
  float *outputs; /* (head_dim, 16) */
  float *scores;  /* (keys of a tile, 16): at first the mask, where each query has its own; in the end, probabilities */
  lanes largest, sum;
} block;

/* The keys of a tile. */
typedef struct tile {
  const float *keys, *values;
  const float *shared_mask; /* a mask for all queries, or NULL */
  bool masked_scores;       /* the scores hold a mask */
  size_t n;
} tile;

/* scores[j] = q . k_j * scale + mask, for `count` keys from `first` on. Returns the maximum of these and `largest`. */
KP_SPECIALIZED lanes score(const kp_attention_f32 *args, const block *b, const tile *t, lanes largest, size_t first,
                           size_t count) {
  const float *keys = t->keys + first * args->k_stride;
  lanes acc[ACCUMULATORS];
  KP_UNROLL
  for (size_t j = 0; j < count; j++) acc[j] = zero();
  for (size_t d = 0; d < args->head_dim; d++) {
    const lanes query = load(b->queries + 16 * d);
    KP_UNROLL
    for (size_t j = 0; j < count; j++) acc[j] = multiply_add(query, broadcast(keys[j * args->k_stride + d]), acc[j]);
  }
  const lanes scale = broadcast(args->scale);
  KP_UNROLL
  for (size_t j = 0; j < count; j++) {
    float *to = b->scores + 16 * (first + j);
    acc[j] = multiply(acc[j], scale);
    if (t->shared_mask) acc[j] = add(acc[j], broadcast(t->shared_mask[first + j]));
    if (t->masked_scores) acc[j] = add(acc[j], load(to));
    largest = maximum(largest, acc[j]);
    store(to, acc[j]);
  }
  return largest;
}

/* Turns the scores into probabilities relative to `largest`. Returns their sum, by 16 strided sums over the keys. */
KP_SPECIALIZED lanes soften(const block *b, const tile *t, lanes largest) {
  lanes partial[16];
  for (size_t l = 0; l < 16; l++) {
    partial[l] = zero();
    for (size_t j = l; j < t->n; j += 16) {
      const lanes p = exp_below_zero(subtract(load(b->scores + 16 * j), largest));
      store(b->scores + 16 * j, p);
      partial[l] = add(partial[l], p);
    }
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t l = 0; l < half; l++) partial[l] = add(partial[l], partial[l + half]);
  }
  return partial[0];
}

/* outputs[d] = outputs[d] * decay + p v, for `count` depths from `first` on; unchanged where `largest` is -inf. */
KP_SPECIALIZED void accumulate(const kp_attention_f32 *args, const block *b, const tile *t, lanes decay, lanes largest,
                               size_t first, size_t count) {
  float *outputs = b->outputs + 16 * first;
  lanes acc[ACCUMULATORS];
  KP_UNROLL
  for (size_t d = 0; d < count; d++) acc[d] = multiply(load(outputs + 16 * d), decay);
  for (size_t j = 0; j < t->n; j++) {
    const float *value = t->values + j * args->v_stride + first;
    const lanes p = load(b->scores + 16 * j);
    KP_UNROLL
    for (size_t d = 0; d < count; d++) acc[d] = multiply_add(p, broadcast(value[d]), acc[d]);
  }
  KP_UNROLL
  for (size_t d = 0; d < count; d++) {
    store(outputs + 16 * d, select_equal(largest, broadcast(-INFINITY), load(outputs + 16 * d), acc[d]));
  }
}

static void attend_tile(const kp_attention_f32 *args, block *b, const tile *t) {
  lanes largest = b->largest;
  const size_t keys = kp_pass_size(t->n, ACCUMULATORS);
  for (size_t j = 0; j < t->n; j += keys) {
#define SCORE(count) largest = score(args, b, t, largest, j, count)
    KP_WITH_CONSTANT(t->n - j < keys ? t->n - j : keys, ACCUMULATORS, SCORE)
#undef SCORE
  }
  const lanes nothing = broadcast(-INFINITY);
  const lanes decay = select_equal(b->largest, nothing, zero(), exp_below_zero(subtract(b->largest, largest)));
  const lanes sum = soften(b, t, largest);
  b->sum = select_equal(largest, nothing, b->sum, multiply_add(b->sum, decay, sum));
  b->largest = largest;
  const size_t depths = kp_pass_size(args->head_dim, ACCUMULATORS);
  for (size_t d = 0; d < args->head_dim; d += depths) {
#define ACCUMULATE(count) accumulate(args, b, t, decay, largest, d, count)
    KP_WITH_CONSTANT(args->head_dim - d < depths ? args->head_dim - d : depths, ACCUMULATORS, ACCUMULATE)
#undef ACCUMULATE
  }
}

static void attend_block(const kp_attention_f32 *args, size_t first, size_t count) {
  const size_t depth = args->head_dim;
  block b = {.queries = args->scratch,
             .outputs = args->scratch + 16 * depth,
             .scores = args->scratch + 32 * depth,
             .largest = broadcast(-INFINITY),
             .sum = zero()};
  for (size_t d = 0; d < depth; d++) {
    store(b.queries + 16 * d, zero());
    store(b.outputs + 16 * d, zero());
  }
  transpose(b.queries, 16, args->q + first * args->q_stride, args->q_stride, count, depth);
  for (size_t key = 0; key < args->keys; key += TILE) {
    tile t = {.keys = args->k + key * args->k_stride,
              .values = args->v + key * args->v_stride,
              .n = args->keys - key < TILE ? args->keys - key : TILE};
    if (args->mask && args->mask_stride == 0) {
      t.shared_mask = args->mask + key;
    } else if (args->mask) {
      t.masked_scores = true;
      for (size_t j = 0; count < 16 && j < t.n; j++) store(b.scores + 16 * j, zero());
      transpose(b.scores, 16, args->mask + first * args->mask_stride + key, args->mask_stride, count, t.n);
    }
    attend_tile(args, &b, &t);
  }
  for (size_t d = 0; d < depth; d++) {
    float *o = b.outputs + 16 * d;
    store(o, select_equal(b.sum, zero(), zero(), divide(load(o), b.sum)));
  }
  transpose(args->out + first * args->out_stride, args->out_stride, b.outputs, 16, depth, count);
}

static void attend(const kp_attention_f32 *args) {
  for (size_t query = 0; query < args->queries; query += 16) {
    attend_block(args, query, args->queries - query < 16 ? args->queries - query : 16);
  }
}

#endif /* KP_KERNELS_ATTENTION_LANES_H */

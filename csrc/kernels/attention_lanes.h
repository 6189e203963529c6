/* Attention on vectors of 16 lanes, included by one file of each instruction set. Before it is included, that file
 * defines the type `lanes` and, on it, zero, broadcast, load, store, multiply_add (fma: a * b + c), add, mul, max,
 * divide, exp_below_zero, reduce_add and reduce_max, and the constants QUERIES, at most 8, and GROUPS, 1 or 2: the
 * block of scores (QUERIES queries by 16 * GROUPS keys) that lives in registers. The order of operations is that of
 * kernels.h, whatever the block. */
#ifndef KP_KERNELS_ATTENTION_LANES_H
#define KP_KERNELS_ATTENTION_LANES_H

#include <math.h>

#include "kernels/c/math_c.h"
#include "kernels/kernels.h"
#include "kernels/unroll.h"

#define TILE KP_ATTENTION_KEY_TILE

/* Scratch: the keys, each tile transposed to (head_dim, TILE); the values, (keys, depth); the block's outputs,
 * (QUERIES, depth). What is past the last key, or past head_dim, is 0. */
typedef struct packed {
  float *keys, *values, *outputs;
  size_t depth; /* head_dim, rounded up to 16 */
} packed;

static packed pack(const kp_attention_f32 *args) {
  const size_t padded_keys = (args->keys + TILE - 1) / TILE * TILE;
  packed p = {.keys = args->scratch, .depth = (args->head_dim + 15) / 16 * 16};
  p.values = p.keys + padded_keys * args->head_dim;
  p.outputs = p.values + args->keys * p.depth;
  for (size_t j = 0; j < padded_keys; j++) {
    float *column = p.keys + j / TILE * TILE * args->head_dim + j % TILE;
    const float *key = args->k + j * args->k_stride;
    for (size_t d = 0; d < args->head_dim; d++) {
      column[d * TILE] = j < args->keys ? key[d] : 0.0f;
    }
  }
  for (size_t j = 0; j < args->keys; j++) {
    for (size_t d = 0; d < p.depth; d++) {
      p.values[j * p.depth + d] = d < args->head_dim ? args->v[j * args->v_stride + d] : 0.0f;
    }
  }
  return p;
}

/* scores[r][j] = scale * (q_r . k_j) for a whole tile. */
KP_SPECIALIZED void score_tile(const kp_attention_f32 *args, const float *q, const float *tile_keys,
                               float scores[][TILE], size_t rows) {
  const lanes scale = broadcast(args->scale);
  for (size_t first = 0; first < TILE; first += 16 * GROUPS) {
    lanes acc[QUERIES][GROUPS];
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      KP_UNROLL
      for (size_t g = 0; g < GROUPS; g++) acc[r][g] = zero();
    }
    for (size_t d = 0; d < args->head_dim; d++) {
      lanes key[GROUPS];
      KP_UNROLL
      for (size_t g = 0; g < GROUPS; g++) key[g] = load(tile_keys + d * TILE + first + 16 * g);
      KP_UNROLL
      for (size_t r = 0; r < rows; r++) {
        const lanes query = broadcast(q[r * args->q_stride + d]);
        KP_UNROLL
        for (size_t g = 0; g < GROUPS; g++) acc[r][g] = multiply_add(query, key[g], acc[r][g]);
      }
    }
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      KP_UNROLL
      for (size_t g = 0; g < GROUPS; g++) store(scores[r] + first + 16 * g, mul(acc[r][g], scale));
    }
  }
}

/* Turns a row of n scores into probabilities relative to the new maximum, and updates the running maximum and sum.
 * Returns the factor for what was accumulated before. */
static float soften(float scores[TILE], size_t n, float *maximum, float *sum) {
  for (size_t j = n; j < TILE; j++) scores[j] = -INFINITY;
  lanes largest = broadcast(-INFINITY);
  for (size_t j = 0; j < TILE; j += 16) largest = max(largest, load(scores + j));
  const float tile_maximum = reduce_max(largest);
  const float next = *maximum > tile_maximum ? *maximum : tile_maximum;
  if (next == -INFINITY) {
    for (size_t j = 0; j < TILE; j++) scores[j] = 0.0f;
    return 1.0f;
  }
  const float decay = *maximum == -INFINITY ? 0.0f : kp_exp_f32_c(*maximum - next);
  const lanes shift = broadcast(-next);
  lanes total = zero();
  for (size_t j = 0; j < TILE; j += 16) {
    const lanes p = exp_below_zero(add(load(scores + j), shift));
    store(scores + j, p);
    total = add(total, p);
  }
  *sum = fmaf(*sum, decay, reduce_add(total));
  *maximum = next;
  return decay;
}

/* outputs[r] = outputs[r] * decay[r] + p_r v over `groups` vectors of the head from d on. */
KP_SPECIALIZED void accumulate(const packed *p, const float *values, float scores[][TILE], size_t n, const float *decay,
                               size_t d, size_t rows, size_t groups) {
  lanes acc[QUERIES][GROUPS];
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t g = 0; g < groups; g++) {
      acc[r][g] = mul(load(p->outputs + r * p->depth + d + 16 * g), broadcast(decay[r]));
    }
  }
  for (size_t j = 0; j < n; j++) {
    lanes value[GROUPS];
    KP_UNROLL
    for (size_t g = 0; g < groups; g++) value[g] = load(values + j * p->depth + d + 16 * g);
    KP_UNROLL
    for (size_t r = 0; r < rows; r++) {
      const lanes probability = broadcast(scores[r][j]);
      KP_UNROLL
      for (size_t g = 0; g < groups; g++) acc[r][g] = multiply_add(probability, value[g], acc[r][g]);
    }
  }
  KP_UNROLL
  for (size_t r = 0; r < rows; r++) {
    KP_UNROLL
    for (size_t g = 0; g < groups; g++) store(p->outputs + r * p->depth + d + 16 * g, acc[r][g]);
  }
}

KP_SPECIALIZED void attend(const kp_attention_f32 *args, const packed *p, size_t query, size_t rows) {
  float scores[QUERIES][TILE], maximum[QUERIES], sum[QUERIES], decay[QUERIES];
  for (size_t r = 0; r < rows; r++) {
    maximum[r] = -INFINITY;
    sum[r] = 0.0f;
  }
  for (size_t i = 0; i < rows * p->depth; i++) p->outputs[i] = 0.0f;
  const float *q = args->q + query * args->q_stride;
  for (size_t first = 0; first < args->keys; first += TILE) {
    const size_t n = args->keys - first < TILE ? args->keys - first : TILE;
    score_tile(args, q, p->keys + first * args->head_dim, scores, rows);
    for (size_t r = 0; r < rows; r++) {
      if (args->mask) {
        const float *mask = args->mask + (query + r) * args->mask_stride + first;
        for (size_t j = 0; j < n; j++) scores[r][j] += mask[j];
      }
      decay[r] = soften(scores[r], n, &maximum[r], &sum[r]);
    }
    const float *values = p->values + first * p->depth;
    size_t d = 0;
    for (; d + 16 * GROUPS <= p->depth; d += 16 * GROUPS) {
      accumulate(p, values, scores, n, decay, d, rows, GROUPS);
    }
    if (d < p->depth) accumulate(p, values, scores, n, decay, d, rows, 1);
  }
  for (size_t r = 0; r < rows; r++) {
    float *row = p->outputs + r * p->depth;
    for (size_t d = 0; d < p->depth && sum[r] != 0.0f; d += 16) {
      store(row + d, divide(load(row + d), broadcast(sum[r])));
    }
    float *out = args->out + (query + r) * args->out_stride;
    for (size_t d = 0; d < args->head_dim; d++) out[d] = sum[r] == 0.0f ? 0.0f : row[d];
  }
}

static void attend_all(const kp_attention_f32 *args) {
  const packed p = pack(args);
  size_t query = 0;
  for (; query + QUERIES <= args->queries; query += QUERIES) attend(args, &p, query, QUERIES);
  for (; query + QUERIES / 2 <= args->queries; query += QUERIES / 2) attend(args, &p, query, QUERIES / 2);
  for (; query < args->queries; query++) attend(args, &p, query, 1);
}

#undef TILE

#endif /* KP_KERNELS_ATTENTION_LANES_H */

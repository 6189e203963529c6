#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"

#include <math.h>

#define TILE KP_ATTENTION_KEY_TILE

/* The maximum of n <= TILE scores, in 16 lanes. */
static float tile_max(const float *s, size_t n) {
  float lane[16];
  for (size_t l = 0; l < 16; l++) {
    lane[l] = -INFINITY;
  }
  for (size_t j = 0; j < n; j += 16) {
    for (size_t l = 0; l < 16; l++) {
      float x = (j + l < n) ? s[j + l] : -INFINITY;
      lane[l] = (lane[l] > x) ? lane[l] : x;
    }
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t l = 0; l < half; l++) {
      lane[l] = (lane[l] > lane[l + half]) ? lane[l] : lane[l + half];
    }
  }
  return lane[0];
}

/* The sum of n <= TILE probabilities, in 16 lanes. They are never negative, so the padding's + 0 can be left out. */
static float tile_sum(const float *p, size_t n) {
  float lane[16] = {0};
  for (size_t j = 0; j < n; j++) {
    lane[j % 16] += p[j];
  }
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t l = 0; l < half; l++) {
      lane[l] += lane[l + half];
    }
  }
  return lane[0];
}

static void attend_one_query(const kp_attention_f32 *args, size_t query) {
  const float *q = args->q + query * args->q_stride;
  float *out = args->out + query * args->out_stride;
  float m = -INFINITY;
  float l = 0.0f;
  for (size_t d = 0; d < args->head_dim; d++) {
    out[d] = 0.0f;
  }
  for (size_t first = 0; first < args->keys; first += TILE) {
    size_t n = (args->keys - first < TILE) ? args->keys - first : TILE;
    float p[TILE];
    for (size_t j = 0; j < n; j++) {
      const float *k = args->k + (first + j) * args->k_stride;
      float dot = 0.0f;
      for (size_t d = 0; d < args->head_dim; d++) {
        dot = fmaf(q[d], k[d], dot);
      }
      p[j] = dot * args->scale;
      if (args->mask) {
        p[j] += args->mask[query * args->mask_stride + first + j];
      }
    }
    float largest = tile_max(p, n);
    float next = (m > largest) ? m : largest;
    if (next == -INFINITY) {
      continue;
    }
    float decay = (m == -INFINITY) ? 0.0f : kp_exp_f32_c(m - next);
    for (size_t j = 0; j < n; j++) {
      p[j] = kp_exp_f32_c(p[j] - next);
    }
    l = fmaf(l, decay, tile_sum(p, n));
    for (size_t d = 0; d < args->head_dim; d++) {
      float o = out[d] * decay;
      for (size_t j = 0; j < n; j++) {
        o = fmaf(p[j], args->v[(first + j) * args->v_stride + d], o);
      }
      out[d] = o;
    }
    m = next;
  }
  for (size_t d = 0; d < args->head_dim; d++) {
    out[d] = (l == 0.0f) ? 0.0f : out[d] / l;
  }
}

void kp_attention_f32_c(const kp_attention_f32 *args) {
  for (size_t query = 0; query < args->queries; query++) {
    attend_one_query(args, query);
  }
}

/* What attention_lanes.h takes: 16 queries, their outputs, and their scores for a tile. The scalar kernel takes
 * none. */
size_t kp_attention_f32_scratch(size_t keys, size_t head_dim) {
  return 16 * (2 * head_dim + (keys < TILE ? keys : TILE));
}

#include "kernels/attention_i8_layout.h"
#include "kernels/c/kernels_c.h"
#include "kernels/c/math_c.h"

typedef struct scratch {
  float *scores, *k_scales;
  int8_t *k, *v, *q;
  uint8_t *p;
} scratch;

static scratch lay_out(const kp_attention_i8 *args) {
  scratch s = {.scores = args->scratch};
  s.k_scales = s.scores + args->keys;
  s.k = (int8_t *)(s.k_scales + args->keys);
  s.v = s.k + args->keys * args->head_dim;
  s.q = s.v + args->keys * args->head_dim;
  s.p = (uint8_t *)(s.q + args->head_dim);
  return s;
}

/* Column d of v: its bytes in rows of head_dim; returns its scale. */
static float quantize_value_column(const kp_attention_i8 *args, size_t d, int8_t *v8) {
  float largest = 0.0f;
  for (size_t j = 0; j < args->keys; j++) {
    const float x = fabsf(args->v[j * args->v_stride + d]);
    largest = x > largest ? x : largest;
  }
  const bool zero = largest < KP_ROW_ABSMAX_MIN;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  for (size_t j = 0; j < args->keys; j++) {
    const float x = args->v[j * args->v_stride + d];
    v8[j * args->head_dim + d] = (int8_t)(uint8_t)kp_float_bits(fmaf(x, inverse, KP_ROUNDING_SHIFT));
  }
  return zero ? 0.0f : largest / 127.0f;
}

/* p of one query; returns their sum, 0 where every key is masked. */
static int32_t probabilities(const kp_attention_i8 *args, const scratch *s, size_t query, float q_scale) {
  const float *mask = args->mask ? args->mask + query * args->mask_stride : NULL;
  const float scale = q_scale * args->scale;
  float largest = -INFINITY;
  for (size_t j = 0; j < args->keys; j++) {
    int32_t dot = 0;
    for (size_t d = 0; d < args->head_dim; d++) dot += s->q[d] * s->k[j * args->head_dim + d];
    float y = (float)dot * s->k_scales[j];
    if (mask) y = fmaf(y, scale, mask[j]);
    s->scores[j] = y;
    largest = y > largest ? y : largest;
  }
  if (largest == -INFINITY) return 0;
  const float slope = mask ? KP_LOG2_E : scale * KP_LOG2_E;
  const float intercept = KP_EXP2_I8_MAX - largest * slope;
  int32_t sum = 0;
  for (size_t j = 0; j < args->keys; j++) {
    s->p[j] = kp_exp2_i8_c(fmaf(s->scores[j], slope, intercept));
    sum += s->p[j];
  }
  return sum;
}

void kp_attention_i8_c(const kp_attention_i8 *args) {
  const scratch s = lay_out(args);
  float v_scales[KP_ATTENTION_I8_HEAD_DIM];
  kp_quantize_rows_i8_c(s.k, args->head_dim, s.k_scales, args->k, args->k_stride, args->keys, args->head_dim);
  for (size_t d = 0; d < args->head_dim; d++) v_scales[d] = quantize_value_column(args, d, s.v);
  for (size_t i = 0; i < args->queries; i++) {
    float q_scale;
    kp_quantize_rows_i8_c(s.q, args->head_dim, &q_scale, args->q + i * args->q_stride, args->q_stride, 1,
                          args->head_dim);
    const int32_t sum = probabilities(args, &s, i, q_scale);
    const float inverse = sum > 0 ? 1.0f / (float)sum : 0.0f;
    for (size_t d = 0; d < args->head_dim; d++) {
      int32_t acc = 0;
      for (size_t j = 0; sum > 0 && j < args->keys; j++) acc += s.p[j] * s.v[j * args->head_dim + d];
      args->out[i * args->out_stride + d] = ((float)acc * v_scales[d]) * inverse;
    }
  }
}

/* The vector kernels' layouts, whose elements have one or two bytes, are larger than the one above. */
size_t kp_attention_i8_scratch(size_t keys, size_t head_dim) { return kp_attention_i8_lay_out(keys, head_dim, 2).size; }

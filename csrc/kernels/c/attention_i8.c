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

/* The bytes of n elements `step` apart, themselves `dst_step` apart; returns their scale. */
static float quantize(int8_t *dst, size_t dst_step, const float *src, size_t step, size_t n) {
  float largest = 0.0f;
  for (size_t i = 0; i < n; i++) {
    const float x = fabsf(src[i * step]);
    largest = x > largest ? x : largest;
  }
  const bool zero = largest < KP_ROW_ABSMAX_MIN;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  for (size_t i = 0; i < n; i++) {
    dst[i * dst_step] = (int8_t)(uint8_t)kp_float_bits(fmaf(src[i * step], inverse, KP_ROUNDING_SHIFT));
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
  const size_t head_dim = args->head_dim;
  for (size_t j = 0; j < args->keys; j++) {
    s.k_scales[j] = quantize(s.k + j * head_dim, 1, args->k + j * args->k_stride, 1, head_dim);
  }
  for (size_t d = 0; d < head_dim; d++)
    v_scales[d] = quantize(s.v + d, head_dim, args->v + d, args->v_stride, args->keys);
  for (size_t i = 0; i < args->queries; i++) {
    const float q_scale = quantize(s.q, 1, args->q + i * args->q_stride, 1, head_dim);
    const int32_t sum = probabilities(args, &s, i, q_scale);
    const float inverse = sum > 0 ? 1.0f / (float)sum : 0.0f;
    for (size_t d = 0; d < head_dim; d++) {
      int32_t acc = 0;
      for (size_t j = 0; sum > 0 && j < args->keys; j++) acc += s.p[j] * s.v[j * head_dim + d];
      args->out[i * args->out_stride + d] = ((float)acc * v_scales[d]) * inverse;
    }
  }
}

/* The vector kernels' layouts, whose elements have one or two bytes, are larger than the one above. */
size_t kp_attention_i8_scratch(size_t keys, size_t head_dim) { return kp_attention_i8_lay_out(keys, head_dim, 2).size; }

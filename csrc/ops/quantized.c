#include "ops/quantized.h"

#include <string.h>

const char *const kp_out_words[] = {"f32", "i8", NULL};

#define ARRAYS 4 /* of kp_channels */

static size_t header_bytes(size_t count) { return kp_round_up(count * sizeof(kp_channels), 64); }

static size_t padded(size_t channels) { return kp_round_up(channels, KP_COLUMN_PAD); }

void kp_set_quantizer(const kp_quantization *quantization, size_t channels, size_t count, float *inverse,
                      float *shift) {
  for (size_t c = 0; c < count; c++) {
    inverse[c] = 1.0f / quantization->scale[c % channels];
    shift[c] = KP_ROUNDING_SHIFT + (float)quantization->zero_point[c % channels];
  }
}

size_t kp_channels_bytes(const kp_view *const *views, size_t count, size_t repeats) {
  size_t bytes = header_bytes(count);
  for (size_t i = 0; i < count; i++) {
    if (views[i]->dtype == KP_I8) bytes += ARRAYS * padded(repeats * kp_last_dim(views[i])) * sizeof(float);
  }
  return bytes;
}

void kp_channels_make(const kp_view *const *views, size_t count, size_t repeats, void *memory) {
  kp_channels *made = memory;
  float *next = (float *)(void *)((char *)memory + header_bytes(count));
  for (size_t i = 0; i < count; i++) {
    made[i] = (kp_channels){0};
    if (views[i]->dtype != KP_I8) continue;
    size_t channels = kp_last_dim(views[i]), length = repeats * channels;
    made[i].scale = next;
    made[i].zero_point = (int32_t *)(void *)(next + padded(length));
    made[i].inverse = next + 2 * padded(length);
    made[i].shift = next + 3 * padded(length);
    next += ARRAYS * padded(length);
    for (size_t c = 0; c < length; c++) {
      made[i].scale[c] = views[i]->quantization.scale[c % channels];
      made[i].zero_point[c] = views[i]->quantization.zero_point[c % channels];
    }
    kp_set_quantizer(&views[i]->quantization, channels, length, made[i].inverse, made[i].shift);
  }
}

kp_status kp_check_quantized(const char *op, const char *operand, const kp_view *x, kp_error *error) {
  KP_TRY(kp_check_dtype(op, operand, x, KP_I8, error));
  if (x->quantization.scale != NULL) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected %s quantised, got an i8 weight", op, operand);
}

static bool is_same(const kp_quantization *a, size_t a_first, const kp_quantization *b, size_t b_first,
                    size_t channels) {
  return memcmp(a->scale + a_first, b->scale + b_first, channels * sizeof(float)) == 0 &&
         memcmp(a->zero_point + a_first, b->zero_point + b_first, channels) == 0;
}

static kp_status differs(const char *op, kp_error *error) {
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected the output to have its input's scales and zero points", op);
}

kp_status kp_check_same_quantization(const char *op, const kp_view *x, const kp_view *output, size_t first,
                                     kp_error *error) {
  KP_TRY(kp_check_quantized(op, "x", x, error));
  const kp_quantization *from = &x->quantization, *to = &output->quantization;
  size_t channels = kp_last_dim(x);
  bool same = to->scale != NULL && first + channels <= kp_last_dim(output) && is_same(from, 0, to, first, channels);
  return same ? KP_OK : differs(op, error);
}

kp_status kp_check_repeated_quantization(const char *op, const kp_view *x, const kp_view *output, kp_error *error) {
  KP_TRY(kp_check_quantized(op, "x", x, error));
  const kp_quantization *from = &x->quantization, *to = &output->quantization;
  size_t channels = kp_last_dim(output);
  bool same = to->scale != NULL && channels > 0 && kp_last_dim(x) % channels == 0;
  for (size_t c = 0; same && c < kp_last_dim(x); c += channels) same = is_same(from, c, to, 0, channels);
  return same ? KP_OK : differs(op, error);
}

/* Values quantised by channel, as kernels take their scales and zero points. */
#ifndef KP_OPS_QUANTIZED_H
#define KP_OPS_QUANTIZED_H

#include "ops/shape.h"

/* The words of the attribute `out`. */
extern const char *const kp_out_words[];
enum { KP_OUT_F32 = 0, KP_OUT_I8 };

/* By channel, padded. */
typedef struct kp_channels {
  float *scale;
  int32_t *zero_point;
  float *inverse, *shift; /* of a kp_quantizer */
} kp_channels;

static inline kp_quantizer kp_channels_quantizer(const kp_channels *channels) {
  return (kp_quantizer){.inverse = channels->inverse, .shift = channels->shift};
}

static inline size_t kp_last_dim(const kp_view *view) { return (size_t)view->shape.dim[view->shape.rank - 1]; }

/* Fills in a quantizer's arrays for `count` channels, which repeat those of `quantization`, `channels` of them. */
void kp_set_quantizer(const kp_quantization *quantization, size_t channels, size_t count, float *inverse, float *shift);

/* Element i of a row in four bits (docs/model-file.md), before its multiplier: -8 to 7. */
static inline int kp_nibble(const int8_t *nibbles, size_t i) { return ((nibbles[i / 2] >> (i % 2 * 4) & 15) ^ 8) - 8; }

/* Elements of such a row that share a multiplier. */
#define KP_NIBBLE_GROUP 32

/* Bytes of the channels of several views, which begin with an array of kp_channels; those of views that are not
 * quantised stay NULL. Each view's channels are there `repeats` times, one set after another. */
size_t kp_channels_bytes(const kp_view *const *views, size_t count, size_t repeats);
void kp_channels_make(const kp_view *const *views, size_t count, size_t repeats, void *memory);

/* x is i8 and quantised. */
kp_status kp_check_quantized(const char *op, const char *operand, const kp_view *x, kp_error *error);
/* The output's channels from `first` on have x's scales and zero points. */
kp_status kp_check_same_quantization(const char *op, const kp_view *x, const kp_view *output, size_t first,
                                     kp_error *error);
/* The same where x has the output's channels several times over: each pixel of x becomes several. */
kp_status kp_check_repeated_quantization(const char *op, const kp_view *x, const kp_view *output, kp_error *error);

#endif /* KP_OPS_QUANTIZED_H */

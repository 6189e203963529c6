/* The scratch of attention_i8, one layout for the vector kernels of every instruction set. */
#ifndef KP_KERNELS_ATTENTION_I8_LAYOUT_H
#define KP_KERNELS_ATTENTION_I8_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

/* Where each region begins, in bytes from the scratch's start: multiples of 64. An element is a quantised number;
 * `depth` is head_dim rounded up to 4, `padded` keys rounded up to 16. */
typedef struct kp_attention_i8_layout {
  size_t transposed;    /* (16 or depth, 16) floats: rows before they are quantised, outputs before they are stored */
  size_t queries;       /* (depth, 16) elements */
  size_t keys;          /* (padded, depth) elements */
  size_t values;        /* (padded, head_dim) elements */
  size_t key_scales;    /* (padded) floats */
  size_t value_scales;  /* (head_dim) floats; room up to a multiple of 16, as in the next one */
  size_t value_starts;  /* (head_dim) int32 */
  size_t scores;        /* (padded, 16) floats */
  size_t probabilities; /* (padded, 16) elements */
  size_t size;
} kp_attention_i8_layout;

/* Room for whole vectors of 64 bytes at the end of every region. */
static inline size_t kp_attention_i8_place(size_t *size, size_t bytes) {
  const size_t offset = *size;
  *size += (bytes + 63) / 64 * 64 + 64;
  return offset;
}

static inline kp_attention_i8_layout kp_attention_i8_lay_out(size_t keys, size_t head_dim, size_t element_bytes) {
  const size_t depth = (head_dim + 3) / 4 * 4, padded = (keys + 15) / 16 * 16;
  kp_attention_i8_layout at = {.size = 0};
  at.transposed = kp_attention_i8_place(&at.size, (depth > 16 ? depth : 16) * 16 * sizeof(float));
  at.queries = kp_attention_i8_place(&at.size, depth * 16 * element_bytes);
  at.keys = kp_attention_i8_place(&at.size, padded * depth * element_bytes);
  at.values = kp_attention_i8_place(&at.size, padded * head_dim * element_bytes);
  at.key_scales = kp_attention_i8_place(&at.size, padded * sizeof(float));
  at.value_scales = kp_attention_i8_place(&at.size, head_dim * sizeof(float));
  at.value_starts = kp_attention_i8_place(&at.size, head_dim * sizeof(int32_t));
  at.scores = kp_attention_i8_place(&at.size, padded * 16 * sizeof(float));
  at.probabilities = kp_attention_i8_place(&at.size, padded * 16 * element_bytes);
  return at;
}

#endif /* KP_KERNELS_ATTENTION_I8_LAYOUT_H */

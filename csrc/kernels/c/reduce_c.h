/* "In 16 lanes" (kernels.h), scalar. */
#ifndef KP_KERNELS_C_REDUCE_C_H
#define KP_KERNELS_C_REDUCE_C_H

#include <stddef.h>

/* The tree that ends a sum. */
static inline float kp_reduce_add_f32_c(float lanes[16]) {
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t l = 0; l < half; l++) {
      lanes[l] += lanes[l + half];
    }
  }
  return lanes[0];
}

/* The tree that ends a maximum. */
static inline float kp_reduce_max_f32_c(float lanes[16]) {
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t l = 0; l < half; l++) {
      lanes[l] = lanes[l] > lanes[l + half] ? lanes[l] : lanes[l + half];
    }
  }
  return lanes[0];
}

#endif /* KP_KERNELS_C_REDUCE_C_H */

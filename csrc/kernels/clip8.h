/* From a fixed-point sum with 22 fractional bits, as Pillow's 8-bit resampling keeps it, to a byte. */
#ifndef KP_KERNELS_CLIP8_H
#define KP_KERNELS_CLIP8_H

#include <stdint.h>

#define KP_CLIP8_BITS 22
#define KP_CLIP8_HALF (1 << (KP_CLIP8_BITS - 1))

/* `sum` starts from KP_CLIP8_HALF, which makes the shift round to nearest. The compilers' >> of a negative is
 * arithmetic. */
static inline uint8_t kp_clip8(int32_t sum) {
  int32_t value = sum >> KP_CLIP8_BITS;
  return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#endif /* KP_KERNELS_CLIP8_H */

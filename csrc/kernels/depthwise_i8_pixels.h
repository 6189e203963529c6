/* Where the taps of a depthwise convolution's pixels begin, for kernels that take pixels without regard to rows. */
#ifndef KP_KERNELS_DEPTHWISE_I8_PIXELS_H
#define KP_KERNELS_DEPTHWISE_I8_PIXELS_H

#include "kernels/kernels.h"

/* pixels[i] = the address of tap(p + i, 0), i < count. */
static inline void kp_depthwise_pixels(const kp_depthwise_i8_args *args, size_t p, size_t count,
                                       const int8_t *const **pixels) {
  size_t x = p % args->width;
  const int8_t *const *row = args->taps + p / args->width * args->row_step;
  for (size_t i = 0; i < count; i++) {
    pixels[i] = row + x * args->pixel_step;
    if (++x == args->width) {
      x = 0;
      row += args->row_step;
    }
  }
}

#endif /* KP_KERNELS_DEPTHWISE_I8_PIXELS_H */

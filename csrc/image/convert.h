/* Pixel formats: what resize.c reads and writes, row by row. */
#ifndef KP_IMAGE_CONVERT_H
#define KP_IMAGE_CONVERT_H

#include <stddef.h>
#include <stdint.h>

/* dst[i] = the upper 8 bits of src's sample i, i < n. `src` holds 16-bit samples in native byte order, at any
 * alignment. */
void kp_narrow_u16(uint8_t *dst, const uint8_t *src, size_t n);

/* Pixels of 1 (grey), 3 (RGB) or 4 (RGBA, alpha dropped) channels to RGB. */
void kp_expand_rgb(uint8_t *dst, const uint8_t *src, size_t pixels, size_t channels);

#endif /* KP_IMAGE_CONVERT_H */

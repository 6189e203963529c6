/* Pictures: format conversion, resize, letterbox, normalise. Integer arithmetic throughout, equal to Pillow's byte for
 * byte. */
#ifndef KP_IMAGE_IMAGE_H
#define KP_IMAGE_IMAGE_H

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"

/* A rectangle of pixels, x1 and y1 exclusive. */
typedef struct kp_rect {
  int32_t x0, y0, x1, y1;
} kp_rect;

/* Where a picture lies in a letterbox: scaled to width x height, at (x, y). */
typedef struct kp_letterbox {
  int32_t x, y, width, height;
} kp_letterbox;

/* KP_ERROR_ARGUMENT, with what is accepted, where the picture is not as keypilot.h says. */
kp_status kp_image_check(const kp_image *image, kp_error *error);

/* The longer side becomes `side`, the other max(1, floor((2 * shorter * side + longer) / (2 * longer))), centred (the
 * offset is floor((side - size) / 2)). */
kp_letterbox kp_letterbox_fit(int32_t width, int32_t height, int32_t side);

/* What resizing works with. Its memory grows to what the largest call needed and is kept for the next. One caller at a
 * time. */
typedef struct kp_resizer {
  const kp_kernels *kernels;
  kp_pool *pool; /* NULL: serial */
  kp_allocator allocator;
  void *memory;
  size_t memory_size;
} kp_resizer;

void kp_resizer_init(kp_resizer *resizer, const kp_kernels *kernels, kp_pool *pool, const kp_allocator *allocator);
void kp_resizer_release(kp_resizer *resizer);

/* Crops `rect` out of the picture, converts it to 8-bit RGB and resizes it to width x height, as Pillow 13's
 * Image.resize((width, height), BILINEAR) does. dst is (height, width, 3), rows dst_stride bytes apart. `rect` lies
 * inside the picture, which was checked, and is not empty. */
kp_status kp_image_resize(kp_resizer *resizer, const kp_image *image, kp_rect rect, int32_t width, int32_t height,
                          uint8_t *dst, size_t dst_stride, kp_error *error);

/* kp_image_resize into a square of `side` pixels, filled with `pad` where kp_letterbox_fit leaves margins: dst is
 * (side, side, 3). */
kp_status kp_image_letterbox(kp_resizer *resizer, const kp_image *image, kp_rect rect, int32_t side,
                             const uint8_t pad[3], uint8_t *dst, kp_error *error);

/* table[c][v] = (float)((v / 255 - mean[c]) / std[c]), computed in double from the float parameters. */
void kp_image_normalization(const float mean[3], const float std[3], float table[3][256]);

#endif /* KP_IMAGE_IMAGE_H */

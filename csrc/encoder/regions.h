/* Masks to boxes, in integer arithmetic. */
#ifndef KP_ENCODER_REGIONS_H
#define KP_ENCODER_REGIONS_H

#include "image/image.h"

/* How masks of side x side pixels lie over a picture: pixel (mx, my) covers `scale` x `scale` pixels of the square that
 * the picture, of width x height, is letterboxed into; it lies there at `box`. */
typedef struct kp_mask_frame {
  int32_t side, scale;
  kp_letterbox box;
  int32_t width, height;
} kp_mask_frame;

/* Clears every pixel of the mask but those of its largest 4-connected component within the picture; of equal
 * components, the one whose first pixel in raster order comes first. Pixels that cover none of the picture are cleared
 * first. `queue` has room for side * side entries. Returns the number of pixels left. */
int32_t kp_mask_largest_component(uint8_t *mask, const kp_mask_frame *frame, int32_t *queue);

/* The mask's bounding box in the picture's pixels: x0 = floor((mx0 * scale - box.x) * width / box.width), x1 =
 * ceil(((mx1 + 1) * scale - box.x) * width / box.width), both clamped to the picture; y alike. The mask is not
 * empty. */
kp_rect kp_mask_box(const uint8_t *mask, const kp_mask_frame *frame);

/* The inverse: of the mask, the pixels that cover any of `rect`, a rectangle of the picture. */
kp_rect kp_mask_rect(const kp_mask_frame *frame, kp_rect rect);

/* Sets the mask's pixels in `rect`, a rectangle of the mask. */
void kp_mask_fill(uint8_t *mask, int32_t side, kp_rect rect);

/* The grid's cell in the picture's pixels: x0 = floor(cell[0] * width / 1000), x1 = max(x0 + 1, floor(cell[2] * width /
 * 1000)), with x0 at most width - 1; y alike. */
kp_rect kp_grid_box(const uint32_t cell[4], int32_t width, int32_t height);

#endif /* KP_ENCODER_REGIONS_H */

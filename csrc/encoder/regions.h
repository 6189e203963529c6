/* Masks to boxes, in integer arithmetic. */
#ifndef KP_ENCODER_REGIONS_H
#define KP_ENCODER_REGIONS_H

#include "image/image.h"

/* Clears every pixel of the (side, side) mask but those of its largest 4-connected component within the letterboxed
 * picture; of equal components, the one whose first pixel in raster order comes first. A mask pixel (mx, my) covers
 * `scale` x `scale` pixels of the letterbox; pixels that cover none of the picture are cleared first. `queue` has room
 * for side * side entries. Returns the number of pixels left. */
int32_t kp_mask_largest_component(uint8_t *mask, int32_t side, int32_t scale, kp_letterbox box, int32_t *queue);

/* The mask's bounding box in the picture's pixels: x0 = floor((mx0 * scale - box.x) * width / box.width), x1 =
 * ceil(((mx1 + 1) * scale - box.x) * width / box.width), both clamped to the picture; y alike. The mask is not
 * empty. */
kp_rect kp_mask_box(const uint8_t *mask, int32_t side, int32_t scale, kp_letterbox box, int32_t width, int32_t height);

/* The grid's cell in the picture's pixels: x0 = floor(cell[0] * width / 1000), x1 = max(x0 + 1, floor(cell[2] * width /
 * 1000)), with x0 at most width - 1; y alike. */
kp_rect kp_grid_box(const uint32_t cell[4], int32_t width, int32_t height);

/* The inverse: sets the mask's pixels that cover any of `rect`, a rectangle of the picture. */
void kp_mask_fill(uint8_t *mask, int32_t side, int32_t scale, kp_letterbox box, int32_t width, int32_t height,
                  kp_rect rect);

#endif /* KP_ENCODER_REGIONS_H */

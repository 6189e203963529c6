/* Detections of an instance segmentation network to the screen's regions: non-maximum suppression, masks, and the
 * choice of one for each cell of the grid. Float operations are single multiplications, additions and comparisons in a
 * fixed order, so that results are the same bytes everywhere. docs/numerics.md, "Detections". */
#ifndef KP_ENCODER_DETECTIONS_H
#define KP_ENCODER_DETECTIONS_H

#include "encoder/ports.h"
#include "encoder/regions.h"

/* A detection's mask is as many prototype masks, weighted. */
#define KP_DETECTION_COEFFICIENTS 32

typedef struct kp_detection_settings {
  int32_t anchors; /* how many boxes there are */
  int32_t max_count;
  float min_score;
  float max_overlap;
} kp_detection_settings;

/* Any values: NaN and infinities too. */
typedef struct kp_detections {
  kp_planes boxes; /* (anchors, 4): x0, y0, x1, y1 in pixels of the letterboxed picture */
  const float *scores;
  kp_planes coefficients; /* (anchors, KP_DETECTION_COEFFICIENTS) */
  kp_planes prototypes;   /* (KP_DETECTION_COEFFICIENTS, mask_side, mask_side) */
} kp_detections;

/* What choosing works with. */
typedef struct kp_detection_buffers {
  uint32_t *kept;    /* (anchors) */
  float *prototypes; /* kp_detection_prototype_size(side) */
  uint8_t *mask;     /* (side, side) */
} kp_detection_buffers;

size_t kp_detection_prototype_size(int32_t side);

/* Non-maximum suppression. Of the boxes whose score is at least min_score, by falling score, equals by rising index,
 * one is kept where its overlap with none that was kept before exceeds max_overlap, until max_count are. The overlap is
 * intersection over union: kept unless intersection > max_overlap * (area + area - intersection). Returns how many are
 * kept; their indices are the first of `kept`, (anchors), in that order. */
int32_t kp_detections_keep(const kp_detections *detections, const kp_detection_settings *settings, uint32_t *kept);

/* Fills `masks`, (KP_REGION_COUNT, side, side), with 0 and 1: of the detections kept, region r has the mask whose
 * intersection over union with cell r of the grid is largest, the first of equals; none where no mask meets the cell.
 * Detection d's mask has the pixels that cover the picture, whose upper left corner lies in d's box, and whose sum over
 * k of coefficients[d][k] * prototypes[k], added up in rising k, is positive. Returns how many detections were kept;
 * buffers->kept starts with them. */
int32_t kp_detections_choose(const kp_detections *detections, const kp_detection_settings *settings,
                             const uint32_t grid[][4], const kp_mask_frame *frame, const kp_detection_buffers *buffers,
                             uint8_t *masks);

#endif /* KP_ENCODER_DETECTIONS_H */

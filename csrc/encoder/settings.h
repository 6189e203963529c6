/* The pipeline's settings and its programs' ports, read from a model file and checked once: docs/model-file.md, "The
 * encoder". */
#ifndef KP_ENCODER_SETTINGS_H
#define KP_ENCODER_SETTINGS_H

#include "encoder/detections.h"

/* Ports of the pipeline's programs, in the order in which `inputs` and `outputs` of kp_encoder_program hold them. */
enum { KP_PICTURE_IMAGE = 0 }; /* of `screen`, `image` and `regions` */
enum { KP_SCREEN_EMBEDDING = 0, KP_SCREEN_MASK_LOGITS, KP_SCREEN_FEATURES };
enum { KP_GLOBAL_EMBEDDING = 0 };
enum { KP_REGIONS_MASK_LOGITS = 0 };
enum { KP_REGIONS_BOXES = 0, KP_REGIONS_SCORES, KP_REGIONS_COEFFICIENTS, KP_REGIONS_PROTOTYPES };
enum { KP_ROI_CROPS = 0 };
enum { KP_ROI_FEATURES = 0, KP_ROI_MASKS };
enum { KP_ROI_EMBEDDING = 0 };
enum { KP_TEXT_IDS = 0, KP_TEXT_POSITIONS, KP_TEXT_ATTENTION };
enum { KP_TEXT_EMBEDDING = 0 };
enum { KP_USER_ID = 0 };
enum { KP_USER_VECTOR = 0 };
enum { KP_FUSION_IMAGE = 0, KP_FUSION_ROIS, KP_FUSION_TEXT, KP_FUSION_USER };
enum { KP_FUSION_CONTEXT = 0 };

/* How a program takes the picture: letterboxed into a square, and normalised. */
typedef struct kp_encoder_picture {
  int32_t side;
  uint8_t pad[3];
  float normalization[3][256]; /* by channel and byte */
} kp_encoder_picture;

/* Where the regions come from. */
typedef enum kp_region_source {
  KP_REGIONS_OF_GRID, /* the fixed grid's cells */
  KP_REGIONS_OF_MASKS,
  KP_REGIONS_OF_DETECTIONS
} kp_region_source;

typedef struct kp_encoder_settings {
  kp_encoder_picture screen_picture; /* of the crops too, but for their side */
  kp_encoder_picture global_picture, regions_picture;
  kp_region_source region_source;
  kp_detection_settings detections;
  int32_t crop_side;    /* 0: regions are pooled from the feature map */
  int32_t regions_side; /* of the letterboxed picture that the masks lie over */
  int32_t mask_side;
  int32_t mask_scale; /* regions_side / mask_side */
  int32_t max_tokens;
  int32_t position_offset;
  int32_t feature_channels; /* 0: regions are re-encoded from crops */
  int64_t user_count;       /* 0: the model has no user */
  bool trained;
  uint32_t grid[KP_REGION_COUNT][4];
  kp_encoder_program screen, global, regions, user; /* NULL programs where the model has none */
  kp_encoder_program roi, text, fusion;
} kp_encoder_settings;

/* KP_ERROR_UNSUPPORTED where the model is not an encoder; KP_ERROR_MODEL where it is a damaged one. */
kp_status kp_encoder_settings_read(const kp_model *model, kp_encoder_settings *settings, kp_error *error);

#endif /* KP_ENCODER_SETTINGS_H */

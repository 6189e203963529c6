/* The pipeline's settings and its programs' ports, read from a model file and checked once: docs/model-file.md, "The
 * encoder". */
#ifndef KP_ENCODER_SETTINGS_H
#define KP_ENCODER_SETTINGS_H

#include "runtime/model.h"

/* The most inputs and outputs of a program that the pipeline runs. */
#define KP_ENCODER_MAX_PORTS 8

/* Ports of the pipeline's programs, in the order in which `inputs` and `outputs` of kp_encoder_program hold them. */
enum { KP_SCREEN_IMAGE = 0 };
enum { KP_SCREEN_EMBEDDING = 0, KP_SCREEN_MASK_LOGITS, KP_SCREEN_FEATURES };
enum { KP_ROI_CROPS = 0 };
enum { KP_ROI_FEATURES = 0, KP_ROI_MASKS };
enum { KP_ROI_EMBEDDING = 0 };
enum { KP_TEXT_IDS = 0, KP_TEXT_POSITIONS, KP_TEXT_ATTENTION };
enum { KP_TEXT_EMBEDDING = 0 };
enum { KP_FUSION_IMAGE = 0, KP_FUSION_ROIS, KP_FUSION_TEXT, KP_FUSION_USER };
enum { KP_FUSION_CONTEXT = 0 };

/* A program with the places of the ports that the pipeline uses, found by name. */
typedef struct kp_encoder_program {
  size_t index; /* in the model */
  const kp_program *program;
  size_t inputs[KP_ENCODER_MAX_PORTS];
  size_t outputs[KP_ENCODER_MAX_PORTS]; /* 0 where the pipeline uses none */
} kp_encoder_program;

typedef struct kp_encoder_settings {
  int32_t image_side;
  int32_t crop_side; /* 0: regions are pooled from the feature map */
  int32_t mask_side;
  int32_t mask_scale; /* image_side / mask_side */
  int32_t max_tokens;
  int32_t position_offset;
  int32_t feature_channels; /* 0: regions are re-encoded from crops */
  int64_t user_count;
  bool has_masks; /* false: the regions are the fixed grid's cells */
  bool trained;
  uint8_t pad[3];
  float normalization[3][256]; /* by channel and byte */
  uint32_t grid[KP_REGION_COUNT][4];
  kp_encoder_program screen, roi, text, fusion;
} kp_encoder_settings;

/* KP_ERROR_UNSUPPORTED where the model is not an encoder; KP_ERROR_MODEL where it is a damaged one. */
kp_status kp_encoder_settings_read(const kp_model *model, kp_encoder_settings *settings, kp_error *error);

#endif /* KP_ENCODER_SETTINGS_H */

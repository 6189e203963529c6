#include "encoder/settings.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "image/image.h"

#define LARGEST_SIDE 4096
#define LARGEST_MASK_SIDE 1024
#define LARGEST_ANCHORS (1 << 20)
#define LARGEST_DETECTION_COUNT 1000
#define LONGEST_SHAPE 64

/* Numbers in shapes, as text. */
#define TEXT_OF(number) #number
#define NUMBER_TEXT(number) TEXT_OF(number)
#define EMBEDDING NUMBER_TEXT(KP_EMBEDDING_SIZE)
#define REGIONS NUMBER_TEXT(KP_REGION_COUNT)
#define USER NUMBER_TEXT(KP_USER_SIZE)
#define COEFFICIENTS NUMBER_TEXT(KP_DETECTION_COEFFICIENTS)

/* ---- Programs ---- */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool has_program(const kp_model *model, const char *name) { return kp_model_find_program(model, name) >= 0; }

static void picture_shape(char text[LONGEST_SHAPE], int32_t side) {
  snprintf(text, LONGEST_SHAPE, "N,3,%d,%d", (int)side, (int)side);
}

static void mask_shape(char text[LONGEST_SHAPE], int32_t channels, int32_t side) {
  snprintf(text, LONGEST_SHAPE, "N,%d,%d,%d", (int)channels, (int)side, (int)side);
}

/* Where no output of it is used, the program is not run. */
static kp_status bind_screen(const kp_model *model, kp_encoder_settings *settings, bool gives_embedding,
                             bool gives_masks, kp_error *error) {
  bool gives_features = settings->crop_side == 0;
  if (!gives_embedding && !gives_masks && !gives_features) return KP_OK;
  char image[LONGEST_SHAPE], masks[LONGEST_SHAPE], features[LONGEST_SHAPE];
  picture_shape(image, settings->screen_picture.side);
  mask_shape(masks, KP_REGION_COUNT, settings->mask_side);
  const kp_port *port = kp_encoder_find_output(model, "screen", "features");
  int64_t channels = port != NULL && port->rank == 4 ? port->shape[1].value : 0;
  if (channels > INT32_MAX) channels = 0;
  mask_shape(features, (int32_t)channels, settings->mask_side);
  if (gives_features) settings->feature_channels = (int32_t)channels;
  const kp_port_rule inputs[] = {{"image", KP_F32, image, "0,2,3,1", false}};
  const kp_port_rule outputs[] = {
      {gives_embedding ? "image_embedding" : NULL, KP_F32, "N," EMBEDDING, "0,1", false},
      {gives_masks ? "mask_logits" : NULL, KP_F32, masks, NULL, false},
      {gives_features ? "features" : NULL, KP_F32, features, NULL, false},
  };
  return kp_encoder_bind(model, "screen", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->screen, error);
}

static kp_status bind_global(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  char image[LONGEST_SHAPE];
  picture_shape(image, settings->global_picture.side);
  const kp_port_rule inputs[] = {{"image", KP_F32, image, "0,2,3,1", false}};
  const kp_port_rule outputs[] = {{"image_embedding", KP_F32, "N," EMBEDDING, "0,1", false}};
  return kp_encoder_bind(model, "image", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->global, error);
}

static kp_status bind_masks(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  char image[LONGEST_SHAPE], masks[LONGEST_SHAPE];
  picture_shape(image, settings->regions_side);
  mask_shape(masks, KP_REGION_COUNT, settings->mask_side);
  const kp_port_rule inputs[] = {{"image", KP_F32, image, "0,2,3,1", false}};
  const kp_port_rule outputs[] = {{"mask_logits", KP_F32, masks, NULL, false}};
  return kp_encoder_bind(model, "regions", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->regions, error);
}

static kp_status bind_detections(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const kp_port *port = kp_encoder_find_output(model, "regions", "scores");
  int64_t anchors = port != NULL && port->rank == 2 ? port->shape[1].value : 1;
  if (anchors < 1 || anchors > LARGEST_ANCHORS) {
    return kp_fail(error, KP_ERROR_MODEL, "program 'regions': output 'scores': expected 1 to %d columns, got %lld",
                   LARGEST_ANCHORS, (long long)anchors);
  }
  char image[LONGEST_SHAPE], boxes[LONGEST_SHAPE], scores[LONGEST_SHAPE], coefficients[LONGEST_SHAPE];
  char prototypes[LONGEST_SHAPE];
  picture_shape(image, settings->regions_side);
  snprintf(boxes, sizeof boxes, "N,%d,4", (int)anchors);
  snprintf(scores, sizeof scores, "N,%d", (int)anchors);
  snprintf(coefficients, sizeof coefficients, "N,%d," COEFFICIENTS, (int)anchors);
  mask_shape(prototypes, KP_DETECTION_COEFFICIENTS, settings->mask_side);
  const kp_port_rule inputs[] = {{"image", KP_F32, image, "0,2,3,1", false}};
  const kp_port_rule outputs[] = {
      {"boxes", KP_F32, boxes, NULL, false},
      {"scores", KP_F32, scores, "0,1", false},
      {"coefficients", KP_F32, coefficients, NULL, false},
      {"prototypes", KP_F32, prototypes, NULL, false},
  };
  settings->detections.anchors = (int32_t)anchors;
  return kp_encoder_bind(model, "regions", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->regions, error);
}

static kp_status bind_reencode(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  char crops[LONGEST_SHAPE];
  picture_shape(crops, settings->crop_side);
  const kp_port_rule inputs[] = {{"crops", KP_F32, crops, "0,2,3,1", false}};
  const kp_port_rule outputs[] = {{"roi_embedding", KP_F32, "N," EMBEDDING, "0,1", false}};
  return kp_encoder_bind(model, "roi", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->roi, error);
}

static kp_status bind_mask_pool(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  char features[LONGEST_SHAPE], masks[LONGEST_SHAPE];
  mask_shape(features, settings->feature_channels, settings->mask_side);
  mask_shape(masks, KP_REGION_COUNT, settings->mask_side);
  const kp_port_rule inputs[] = {{"features", KP_F32, features, NULL, false}, {"masks", KP_F32, masks, NULL, false}};
  const kp_port_rule outputs[] = {{"roi_embedding", KP_F32, "N," REGIONS "," EMBEDDING, "0,1,2", false}};
  return kp_encoder_bind(model, "roi", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->roi, error);
}

static kp_status bind_text(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const kp_port_rule inputs[] = {{"input_ids", KP_I32, "N,T", "0,1", false},
                                 {"position_ids", KP_I32, "N,T", "0,1", true},
                                 {"attention_mask", KP_I32, "N,T", "0,1", true}};
  const kp_port_rule outputs[] = {{"text_embedding", KP_F32, "N," EMBEDDING, "0,1", false}};
  return kp_encoder_bind(model, "text", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->text, error);
}

static kp_status bind_user(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const kp_port_rule inputs[] = {{"user", KP_I32, "N", "0", false}};
  const kp_port_rule outputs[] = {{"user_vector", KP_F32, "N," USER, "0,1", false}};
  return kp_encoder_bind(model, "user", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->user, error);
}

static kp_status bind_fusion(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const kp_port_rule inputs[] = {
      {"image", KP_F32, "N," EMBEDDING, "0,1", false},
      {"rois", KP_F32, "N," REGIONS "," EMBEDDING, "0,1,2", false},
      {"text", KP_F32, "N," EMBEDDING, "0,1", false},
      {settings->user_count > 0 ? "user_vector" : NULL, KP_F32, "N," USER, "0,1", false},
  };
  const kp_port_rule outputs[] = {{"context", KP_F32, "N," EMBEDDING, "0,1", false}};
  return kp_encoder_bind(model, "fusion", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->fusion, error);
}

/* ---- Keys ---- */

static kp_status read_number(const kp_gguf *gguf, const char *key, uint32_t most, int32_t *number, kp_error *error) {
  uint32_t value;
  KP_TRY(kp_gguf_u32(gguf, key, &value, error));
  if (value < 1 || value > most) {
    return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected 1 to %u, got %u", key, (unsigned)most,
                   (unsigned)value);
  }
  *number = (int32_t)value;
  return KP_OK;
}

/* *choice: which of the `count` words the key has. */
static kp_status read_choice(const kp_gguf *gguf, const char *key, const char *const *words, int count, int *choice,
                             kp_error *error) {
  const char *word;
  KP_TRY(kp_gguf_string(gguf, key, &word, error));
  for (*choice = 0; *choice < count; (*choice)++) {
    if (strcmp(word, words[*choice]) == 0) return KP_OK;
  }
  char known[LONGEST_SHAPE] = "";
  for (int i = 0; i < count; i++) {
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s'%s'", i == 0 ? "" : i + 1 < count ? ", " : " or ", words[i]);
  }
  return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected %s, got '%.40s'", key, known, word);
}

/* A number of 0 to 1. */
static kp_status read_share(const kp_gguf *gguf, const char *key, float *share, kp_error *error) {
  KP_TRY(kp_gguf_f32(gguf, key, share, error));
  if (*share >= 0 && *share <= 1) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected 0 to 1, got %g", key, (double)*share);
}

/* The keys `<prefix>.image_side`, `.image_mean`, `.image_std` and `.image_pad`. */
static kp_status read_picture(const kp_gguf *gguf, const char *prefix, kp_encoder_picture *picture, kp_error *error) {
  char key[64];
  float mean[3], std[3];
  uint32_t pad[3];
  snprintf(key, sizeof key, "%s.image_side", prefix);
  KP_TRY(read_number(gguf, key, LARGEST_SIDE, &picture->side, error));
  snprintf(key, sizeof key, "%s.image_mean", prefix);
  KP_TRY(kp_gguf_f32_array(gguf, key, 3, mean, error));
  snprintf(key, sizeof key, "%s.image_std", prefix);
  KP_TRY(kp_gguf_f32_array(gguf, key, 3, std, error));
  snprintf(key, sizeof key, "%s.image_pad", prefix);
  KP_TRY(kp_gguf_u32_array(gguf, key, 3, pad, error));
  kp_image_normalization(mean, std, picture->normalization);
  for (int c = 0; c < 3; c++) {
    /* v / 255 - mean is monotonic in v: its ends bound the table. */
    bool finite = isfinite(picture->normalization[c][0]) && isfinite(picture->normalization[c][255]);
    if (!(std[c] > 0) || !finite) {
      return kp_fail(error, KP_ERROR_MODEL,
                     "metadata keys '%s.image_mean', 'image_std': element %d: expected a finite mean, a positive "
                     "deviation, and finite quotients, got %g and %g",
                     prefix, c, (double)mean[c], (double)std[c]);
    }
    if (pad[c] > 255) {
      return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected 0 to 255, got %u", key, (unsigned)pad[c]);
    }
    picture->pad[c] = (uint8_t)pad[c];
  }
  return KP_OK;
}

static kp_status read_grid(const kp_gguf *gguf, kp_encoder_settings *settings, kp_error *error) {
  KP_TRY(kp_gguf_u32_array(gguf, "keypilot.encoder.grid", 4 * KP_REGION_COUNT, settings->grid[0], error));
  for (int region = 0; region < KP_REGION_COUNT; region++) {
    const uint32_t *cell = settings->grid[region];
    if (cell[0] >= cell[2] || cell[1] >= cell[3] || cell[2] > 1000 || cell[3] > 1000) {
      return kp_fail(
          error, KP_ERROR_MODEL,
          "metadata key 'keypilot.encoder.grid': region %d: expected x0 < x1 <= 1000 and y0 < y1 <= 1000, got "
          "%u, %u, %u, %u",
          region, (unsigned)cell[0], (unsigned)cell[1], (unsigned)cell[2], (unsigned)cell[3]);
    }
  }
  return KP_OK;
}

static kp_status read_text_settings(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  if (model->tokenizer == NULL) return kp_fail(error, KP_ERROR_MODEL, "the encoder expects a tokenizer in the file");
  settings->max_tokens = (int32_t)kp_tokenizer_max_tokens(model->tokenizer); /* kp_tokenizer_read bounds both */
  settings->position_offset = (int32_t)kp_tokenizer_position_offset(model->tokenizer);
  return KP_OK;
}

/* The keys that `detections` needs; all are required. */
static kp_status read_detections(const kp_gguf *gguf, kp_detection_settings *detections, kp_error *error) {
  KP_TRY(read_share(gguf, "keypilot.encoder.detections.min_score", &detections->min_score, error));
  KP_TRY(read_share(gguf, "keypilot.encoder.detections.max_overlap", &detections->max_overlap, error));
  return read_number(gguf, "keypilot.encoder.detections.max_count", LARGEST_DETECTION_COUNT, &detections->max_count,
                     error);
}

/* Where the regions come from, and the geometry of their masks. */
static kp_status read_regions(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  static const char *const sources[] = {
      [KP_REGIONS_OF_GRID] = "grid", [KP_REGIONS_OF_MASKS] = "masks", [KP_REGIONS_OF_DETECTIONS] = "detections"};
  const kp_gguf *gguf = &model->gguf;
  int source;
  KP_TRY(read_choice(gguf, "keypilot.encoder.regions", sources, COUNT(sources), &source, error));
  settings->region_source = (kp_region_source)source;
  bool own_program = source != KP_REGIONS_OF_GRID && has_program(model, "regions");
  settings->regions_side = settings->screen_picture.side;
  if (own_program) {
    KP_TRY(read_picture(gguf, "keypilot.encoder.regions_picture", &settings->regions_picture, error));
    settings->regions_side = settings->regions_picture.side;
  }
  KP_TRY(read_number(gguf, "keypilot.encoder.mask_side", LARGEST_MASK_SIDE, &settings->mask_side, error));
  if (settings->regions_side % settings->mask_side != 0) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "metadata key 'keypilot.encoder.mask_side': expected a divisor of the side of the picture that the "
                   "masks lie over, %d, got %d",
                   (int)settings->regions_side, (int)settings->mask_side);
  }
  settings->mask_scale = settings->regions_side / settings->mask_side;
  if (source == KP_REGIONS_OF_DETECTIONS) {
    KP_TRY(read_detections(gguf, &settings->detections, error));
    return bind_detections(model, settings, error);
  }
  return own_program ? bind_masks(model, settings, error) : KP_OK;
}

/* Regions are pooled from the screen's feature map: their masks must lie on it. */
static kp_status check_mask_pool(const kp_encoder_settings *settings, kp_error *error) {
  if (settings->regions.program == NULL) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL,
                 "metadata key 'keypilot.encoder.roi_features': expected 'reencode' where a program 'regions' finds "
                 "the regions, got 'mask_pool'");
}

kp_status kp_encoder_settings_read(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  static const char *const features[] = {"reencode", "mask_pool"};
  const kp_gguf *gguf = &model->gguf;
  if (kp_gguf_find(gguf, "keypilot.encoder.image_side") == NULL) {
    return kp_fail(error, KP_ERROR_UNSUPPORTED,
                   "the model is not an encoder: metadata key 'keypilot.encoder.image_side' is missing");
  }
  memset(settings, 0, sizeof *settings);
  int pools;
  KP_TRY(kp_gguf_bool(gguf, "keypilot.trained", &settings->trained, error));
  KP_TRY(read_picture(gguf, "keypilot.encoder", &settings->screen_picture, error));
  KP_TRY(read_grid(gguf, settings, error));
  KP_TRY(read_choice(gguf, "keypilot.encoder.roi_features", features, COUNT(features), &pools, error));
  KP_TRY(read_regions(model, settings, error));
  KP_TRY(read_text_settings(model, settings, error));
  if (pools) {
    KP_TRY(check_mask_pool(settings, error));
  } else {
    KP_TRY(read_number(gguf, "keypilot.encoder.crop_side", LARGEST_SIDE, &settings->crop_side, error));
  }
  bool own_global = has_program(model, "image");
  bool masks_of_screen = settings->region_source == KP_REGIONS_OF_MASKS && settings->regions.program == NULL;
  KP_TRY(bind_screen(model, settings, !own_global, masks_of_screen, error));
  if (own_global) {
    KP_TRY(read_picture(gguf, "keypilot.encoder.global", &settings->global_picture, error));
    KP_TRY(bind_global(model, settings, error));
  }
  KP_TRY(pools ? bind_mask_pool(model, settings, error) : bind_reencode(model, settings, error));
  KP_TRY(bind_text(model, settings, error));
  if (has_program(model, "user")) {
    int32_t user_count;
    KP_TRY(read_number(gguf, "keypilot.encoder.user_count", INT32_MAX - 1, &user_count, error));
    settings->user_count = user_count;
    KP_TRY(bind_user(model, settings, error));
  }
  return bind_fusion(model, settings, error);
}

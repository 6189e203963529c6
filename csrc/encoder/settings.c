#include "encoder/settings.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "image/image.h"
#include "model/notation.h"

#define LARGEST_SIDE 4096
#define LARGEST_MASK_SIDE 1024
#define LONGEST_SHAPE 96

/* The embeddings' width in shapes, as text. */
#define TEXT_OF(number) #number
#define NUMBER_TEXT(number) TEXT_OF(number)
#define EMBEDDING NUMBER_TEXT(KP_EMBEDDING_SIZE)
#define REGIONS NUMBER_TEXT(KP_REGION_COUNT)

/* ---- Ports ---- */

typedef struct port_rule {
  const char *name; /* NULL: this model has none */
  kp_dtype dtype;
  const char *shape; /* logical, in the file's notation */
  const char *order; /* memory order; NULL: any */
} port_rule;

static const char *const kind_names[] = {"input", "output"};

/* The port's logical shape in the file's notation. */
static const char *shape_text(const kp_port *port, char text[LONGEST_SHAPE]) {
  size_t used = 0;
  text[0] = '\0';
  for (int32_t i = 0; i < port->rank && used < LONGEST_SHAPE; i++) {
    kp_dim dim = port->shape[i];
    char number[24] = "";
    if (dim.value != 1 || (dim.n == 0 && dim.t == 0)) snprintf(number, sizeof number, "%lld", (long long)dim.value);
    used += (size_t)snprintf(text + used, LONGEST_SHAPE - used, "%s%s%s%s", i > 0 ? "," : "", number, dim.n ? "N" : "",
                             dim.t ? "T" : "");
  }
  return text;
}

static const char *order_text(const kp_port *port, char text[2 * KP_MAX_RANK]) {
  for (int32_t i = 0; i < port->rank; i++) {
    text[2 * i] = (char)('0' + port->order[i]);
    text[2 * i + 1] = i + 1 < port->rank ? ',' : '\0';
  }
  return text;
}

static bool same_shape(const kp_port *port, const char *expected) {
  kp_dim dims[KP_MAX_RANK];
  int32_t rank;
  if (!kp_read_shape(expected, dims, &rank) || rank != port->rank) return false;
  for (int32_t i = 0; i < rank; i++) {
    const kp_dim *dim = &port->shape[i];
    if (dim->value != dims[i].value || dim->n != dims[i].n || dim->t != dims[i].t) return false;
  }
  return true;
}

static kp_status check_port(const kp_program *program, kp_port_kind kind, const kp_port *port, const port_rule *rule,
                            kp_error *error) {
  char shape[LONGEST_SHAPE], order[2 * KP_MAX_RANK];
  if (port->dtype != rule->dtype || !same_shape(port, rule->shape)) {
    return kp_fail(error, KP_ERROR_MODEL, "program '%s': %s '%s': the encoder expects %s (%s), got %s (%s)",
                   program->name, kind_names[kind], rule->name, kp_dtype_name(rule->dtype), rule->shape,
                   kp_dtype_name(port->dtype), shape_text(port, shape));
  }
  if (rule->order != NULL && strcmp(order_text(port, order), rule->order) != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "program '%s': %s '%s': the encoder expects memory order %s, got %s",
                   program->name, kind_names[kind], rule->name, rule->order, order);
  }
  return KP_OK;
}

static const kp_port *find_port(const kp_program *program, kp_port_kind kind, const char *name, size_t *index) {
  for (size_t i = 0; i < program->port_count[kind]; i++) {
    if (strcmp(program->ports[kind][i].port.name, name) == 0) {
      *index = i;
      return &program->ports[kind][i].port;
    }
  }
  return NULL;
}

static kp_status missing_port(const kp_program *program, kp_port_kind kind, const char *name, kp_error *error) {
  return kp_fail(error, KP_ERROR_MODEL, "program '%s': the encoder expects an %s '%s'", program->name, kind_names[kind],
                 name);
}

static kp_status bind_ports(const kp_program *program, kp_port_kind kind, const port_rule *rules, size_t rule_count,
                            size_t *indices, kp_error *error) {
  for (size_t i = 0; i < rule_count; i++) {
    if (rules[i].name == NULL) continue;
    const kp_port *port = find_port(program, kind, rules[i].name, &indices[i]);
    if (port == NULL) return missing_port(program, kind, rules[i].name, error);
    KP_TRY(check_port(program, kind, port, &rules[i], error));
  }
  return KP_OK;
}

/* Inputs are exactly those of the rules; other outputs may stand beside them. */
static kp_status bind_program(const kp_model *model, const char *name, const port_rule *inputs, size_t input_count,
                              const port_rule *outputs, size_t output_count, kp_encoder_program *bound,
                              kp_error *error) {
  int index = kp_model_find_program(model, name);
  if (index < 0) return kp_fail(error, KP_ERROR_MODEL, "the encoder expects a program '%s'", name);
  const kp_program *program = &model->programs[index];
  if (program->port_count[KP_INPUT] != input_count || program->port_count[KP_OUTPUT] > KP_ENCODER_MAX_PORTS) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "program '%s': the encoder expects %zu inputs and at most %d outputs, got %zu and %zu", name,
                   input_count, KP_ENCODER_MAX_PORTS, program->port_count[KP_INPUT], program->port_count[KP_OUTPUT]);
  }
  bound->index = (size_t)index;
  bound->program = program;
  KP_TRY(bind_ports(program, KP_INPUT, inputs, input_count, bound->inputs, error));
  return bind_ports(program, KP_OUTPUT, outputs, output_count, bound->outputs, error);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static kp_status bind_screen(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  char image[LONGEST_SHAPE], masks[LONGEST_SHAPE];
  snprintf(image, sizeof image, "N,3,%d,%d", (int)settings->image_side, (int)settings->image_side);
  snprintf(masks, sizeof masks, "N," REGIONS ",%d,%d", (int)settings->mask_side, (int)settings->mask_side);
  const port_rule inputs[] = {{"image", KP_F32, image, "0,2,3,1"}};
  const port_rule outputs[] = {{"image_embedding", KP_F32, "N," EMBEDDING, "0,1"},
                               {settings->has_masks ? "mask_logits" : NULL, KP_F32, masks, NULL}};
  return bind_program(model, "screen", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->screen, error);
}

static kp_status bind_reencode(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  char crops[LONGEST_SHAPE];
  snprintf(crops, sizeof crops, "N,3,%d,%d", (int)settings->crop_side, (int)settings->crop_side);
  const port_rule inputs[] = {{"crops", KP_F32, crops, "0,2,3,1"}};
  const port_rule outputs[] = {{"roi_embedding", KP_F32, "N," EMBEDDING, "0,1"}};
  return bind_program(model, "roi", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->roi, error);
}

static kp_status bind_mask_pool(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const kp_program *screen = settings->screen.program;
  size_t *index = &settings->screen.outputs[KP_SCREEN_FEATURES];
  const kp_port *port = find_port(screen, KP_OUTPUT, "features", index);
  if (port == NULL) return missing_port(screen, KP_OUTPUT, "features", error);
  int64_t channels = port->rank == 4 ? port->shape[1].value : 0;
  char features[LONGEST_SHAPE], masks[LONGEST_SHAPE];
  snprintf(features, sizeof features, "N,%lld,%d,%d", (long long)channels, (int)settings->mask_side,
           (int)settings->mask_side);
  snprintf(masks, sizeof masks, "N," REGIONS ",%d,%d", (int)settings->mask_side, (int)settings->mask_side);
  KP_TRY(check_port(screen, KP_OUTPUT, port, &(port_rule){"features", KP_F32, features, NULL}, error));
  const port_rule inputs[] = {{"features", KP_F32, features, NULL}, {"masks", KP_F32, masks, NULL}};
  const port_rule outputs[] = {{"roi_embedding", KP_F32, "N," REGIONS "," EMBEDDING, "0,1,2"}};
  settings->feature_channels = (int32_t)channels;
  return bind_program(model, "roi", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->roi, error);
}

static kp_status bind_text(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const port_rule inputs[] = {{"input_ids", KP_I32, "N,T", "0,1"},
                              {"position_ids", KP_I32, "N,T", "0,1"},
                              {"attention_mask", KP_I32, "N,T", "0,1"}};
  const port_rule outputs[] = {{"text_embedding", KP_F32, "N," EMBEDDING, "0,1"}};
  return bind_program(model, "text", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->text, error);
}

static kp_status bind_fusion(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const port_rule inputs[] = {{"image", KP_F32, "N," EMBEDDING, "0,1"},
                              {"rois", KP_F32, "N," REGIONS "," EMBEDDING, "0,1,2"},
                              {"text", KP_F32, "N," EMBEDDING, "0,1"},
                              {"user", KP_I32, "N", "0"}};
  const port_rule outputs[] = {{"context", KP_F32, "N," EMBEDDING, "0,1"}};
  return bind_program(model, "fusion", inputs, COUNT(inputs), outputs, COUNT(outputs), &settings->fusion, error);
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

/* *is_first: whether the key's word is `first`; it may be `second` else. */
static kp_status read_choice(const kp_gguf *gguf, const char *key, const char *first, const char *second,
                             bool *is_first, kp_error *error) {
  const char *word;
  KP_TRY(kp_gguf_string(gguf, key, &word, error));
  *is_first = strcmp(word, first) == 0;
  if (!*is_first && strcmp(word, second) != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected '%s' or '%s', got '%.40s'", key, first, second,
                   word);
  }
  return KP_OK;
}

static kp_status read_picture_keys(const kp_gguf *gguf, kp_encoder_settings *settings, kp_error *error) {
  float mean[3], std[3];
  uint32_t pad[3];
  KP_TRY(kp_gguf_f32_array(gguf, "keypilot.encoder.image_mean", 3, mean, error));
  KP_TRY(kp_gguf_f32_array(gguf, "keypilot.encoder.image_std", 3, std, error));
  KP_TRY(kp_gguf_u32_array(gguf, "keypilot.encoder.image_pad", 3, pad, error));
  kp_image_normalization(mean, std, settings->normalization);
  for (int c = 0; c < 3; c++) {
    /* v / 255 - mean is monotonic in v: its ends bound the table. */
    bool finite = isfinite(settings->normalization[c][0]) && isfinite(settings->normalization[c][255]);
    if (!(std[c] > 0) || !finite) {
      return kp_fail(error, KP_ERROR_MODEL,
                     "metadata keys 'keypilot.encoder.image_mean', 'image_std': element %d: expected a finite mean, a "
                     "positive deviation, and finite quotients, got %g and %g",
                     c, (double)mean[c], (double)std[c]);
    }
    if (pad[c] > 255) {
      return kp_fail(error, KP_ERROR_MODEL, "metadata key 'keypilot.encoder.image_pad': expected 0 to 255, got %u",
                     (unsigned)pad[c]);
    }
    settings->pad[c] = (uint8_t)pad[c];
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
  uint32_t max_tokens = kp_tokenizer_max_tokens(model->tokenizer);
  uint32_t offset = kp_tokenizer_position_offset(model->tokenizer);
  if (max_tokens < 1 || max_tokens > KP_MAX_SYMBOL || offset > INT32_MAX - KP_MAX_SYMBOL) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "the encoder expects 1 to %d tokens and a position offset of at most %d, got "
                   "%u and %u",
                   KP_MAX_SYMBOL, INT32_MAX - KP_MAX_SYMBOL, (unsigned)max_tokens, (unsigned)offset);
  }
  settings->max_tokens = (int32_t)max_tokens;
  settings->position_offset = (int32_t)offset;
  return KP_OK;
}

kp_status kp_encoder_settings_read(const kp_model *model, kp_encoder_settings *settings, kp_error *error) {
  const kp_gguf *gguf = &model->gguf;
  if (kp_gguf_find(gguf, "keypilot.encoder.image_side") == NULL) {
    return kp_fail(error, KP_ERROR_UNSUPPORTED,
                   "the model is not an encoder: metadata key 'keypilot.encoder.image_side' is missing");
  }
  memset(settings, 0, sizeof *settings);
  int32_t user_count;
  bool reencode;
  KP_TRY(kp_gguf_bool(gguf, "keypilot.trained", &settings->trained, error));
  KP_TRY(read_number(gguf, "keypilot.encoder.image_side", LARGEST_SIDE, &settings->image_side, error));
  KP_TRY(read_number(gguf, "keypilot.encoder.mask_side", LARGEST_MASK_SIDE, &settings->mask_side, error));
  KP_TRY(read_number(gguf, "keypilot.encoder.user_count", INT32_MAX, &user_count, error));
  KP_TRY(read_choice(gguf, "keypilot.encoder.regions", "masks", "grid", &settings->has_masks, error));
  KP_TRY(read_choice(gguf, "keypilot.encoder.roi_features", "reencode", "mask_pool", &reencode, error));
  if (settings->image_side % settings->mask_side != 0) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "metadata key 'keypilot.encoder.mask_side': expected a divisor of image_side, %d, got %d",
                   (int)settings->image_side, (int)settings->mask_side);
  }
  settings->mask_scale = settings->image_side / settings->mask_side;
  settings->user_count = user_count;
  KP_TRY(read_picture_keys(gguf, settings, error));
  KP_TRY(read_grid(gguf, settings, error));
  KP_TRY(read_text_settings(model, settings, error));
  KP_TRY(bind_screen(model, settings, error));
  if (reencode) {
    KP_TRY(read_number(gguf, "keypilot.encoder.crop_side", LARGEST_SIDE, &settings->crop_side, error));
    KP_TRY(bind_reencode(model, settings, error));
  } else {
    KP_TRY(bind_mask_pool(model, settings, error));
  }
  KP_TRY(bind_text(model, settings, error));
  return bind_fusion(model, settings, error);
}

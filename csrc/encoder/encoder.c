/* The pipeline: picture and text through the programs `screen`, `roi`, `text` and `fusion`. */
#include <string.h>
#include <time.h>

#include "base/fpenv.h"
#include "encoder/digest.h"
#include "encoder/regions.h"
#include "encoder/settings.h"
#include "runtime/digest.h"
#include "runtime/inputs.h"

/* What a session keeps between calls: settings and every buffer, allocated at the first call. */
typedef struct encoder {
  kp_arena arena; /* holds this struct too */
  kp_encoder_settings settings;
  kp_resizer resizer;
  uint8_t *square;     /* (side, side, 3): a letterboxed picture or crop */
  float *image;        /* (image_side, image_side, 3) */
  uint8_t *masks;      /* (regions, mask_side, mask_side) */
  int32_t *queue;      /* (mask_side, mask_side) */
  float *crops;        /* (regions, crop_side, crop_side, 3); reencode only */
  float *features;     /* in the roi program's memory order; mask_pool only */
  float *region_masks; /* the same */
  int32_t *ids;        /* (max_tokens) */
  int32_t *positions;  /* (max_tokens) */
  int32_t *attention;  /* (max_tokens) */
  kp_encoding result;  /* given out when all of it is there */
} encoder;

/* One kp_encode. */
typedef struct encoder_call {
  kp_session *session;
  encoder *state;
  const kp_encoder_settings *settings;
  const kp_image *image;
  kp_letterbox box; /* where the picture lies in the screen program's input */
  kp_tap_fn tap;
  void *tap_context;
  kp_error *error;
} encoder_call;

const char *kp_stage_name(kp_stage stage) {
  static const char *const names[KP_STAGE_COUNT] = {"image", "screen", "regions", "roi", "text", "fusion"};
  return (unsigned)stage < KP_STAGE_COUNT ? names[stage] : "unknown";
}

kp_status kp_model_encoder_info(const kp_model *model, kp_encoder_info *info, kp_error *error) {
  if (model == NULL || info == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "model, info: expected a pointer, got NULL");
  }
  kp_encoder_settings settings;
  kp_fpenv saved = kp_fpenv_enter();
  kp_status status = kp_encoder_settings_read(model, &settings, error);
  kp_fpenv_leave(saved);
  if (status != KP_OK) return status;
  *info = (kp_encoder_info){.image_side = settings.image_side,
                            .crop_side = settings.crop_side,
                            .mask_height = settings.mask_side,
                            .mask_width = settings.mask_side,
                            .max_tokens = settings.max_tokens,
                            .user_count = settings.user_count,
                            .trained = settings.trained};
  return KP_OK;
}

/* ---- State ---- */

static void encoder_release(void *data, const kp_allocator *allocator) {
  (void)allocator; /* the arena and the resizer have it */
  encoder *state = data;
  kp_resizer_release(&state->resizer);
  kp_arena arena = state->arena;
  kp_arena_release(&arena);
}

static bool allocate_buffers(encoder *state, kp_arena *arena) {
  const kp_encoder_settings *settings = &state->settings;
  size_t image = (size_t)settings->image_side * (size_t)settings->image_side;
  size_t crop = (size_t)settings->crop_side * (size_t)settings->crop_side;
  size_t mask = (size_t)settings->mask_side * (size_t)settings->mask_side;
  size_t tokens = (size_t)settings->max_tokens;
  state->square = kp_arena_calloc(arena, image > crop ? image : crop, 3);
  state->image = kp_arena_calloc(arena, image, 3 * sizeof(float));
  state->masks = kp_arena_calloc(arena, mask, KP_REGION_COUNT);
  state->queue = kp_arena_calloc(arena, mask, sizeof(int32_t));
  state->ids = kp_arena_calloc(arena, tokens, sizeof(int32_t));
  state->positions = kp_arena_calloc(arena, tokens, sizeof(int32_t));
  state->attention = kp_arena_calloc(arena, tokens, sizeof(int32_t));
  bool all = state->square && state->image && state->masks && state->queue && state->ids && state->positions &&
             state->attention;
  if (settings->crop_side > 0) {
    state->crops = kp_arena_calloc(arena, crop, KP_REGION_COUNT * 3 * sizeof(float));
    return all && state->crops != NULL;
  }
  state->features = kp_arena_calloc(arena, mask, (size_t)settings->feature_channels * sizeof(float));
  state->region_masks = kp_arena_calloc(arena, mask, KP_REGION_COUNT * sizeof(float));
  return all && state->features != NULL && state->region_masks != NULL;
}

/* The session's state, made at the first call. */
static kp_status encoder_of(kp_session *session, encoder **state, kp_error *error) {
  kp_session_extra *extra = kp_session_extra_of(session);
  if (extra->data != NULL) {
    *state = extra->data;
    return KP_OK;
  }
  const kp_model *model = kp_session_model(session);
  kp_arena arena;
  kp_arena_init(&arena, &model->allocator);
  encoder *created = kp_arena_calloc(&arena, 1, sizeof *created);
  kp_status status = created == NULL ? kp_fail(error, KP_ERROR_MEMORY, "no memory for the encoder")
                                     : kp_encoder_settings_read(model, &created->settings, error);
  if (status == KP_OK && !allocate_buffers(created, &arena)) {
    status = kp_fail(error, KP_ERROR_MEMORY, "no memory for the encoder's pictures and masks");
  }
  if (status != KP_OK) {
    kp_arena_release(&arena);
    return status;
  }
  for (int32_t i = 0; i < created->settings.max_tokens; i++) {
    created->positions[i] = created->settings.position_offset + i;
    created->attention[i] = 1;
  }
  kp_resizer_init(&created->resizer, &model->kernels, kp_session_pool(session), &model->allocator);
  created->arena = arena;
  extra->data = created;
  extra->release = encoder_release;
  *state = created;
  return KP_OK;
}

/* ---- Programs and tensors ---- */

/* Runs a program at batch n and t tokens. `data` are its inputs, `outputs` receives its tensors, both in the order of
 * settings.h; the tensors are valid until the session's next run. */
static kp_status run_program(const encoder_call *call, const kp_encoder_program *bound, int64_t n, int64_t t,
                             void *const *data, kp_tensor outputs[KP_ENCODER_MAX_PORTS]) {
  const kp_program *program = bound->program;
  kp_tensor inputs[KP_ENCODER_MAX_PORTS], found[KP_ENCODER_MAX_PORTS];
  for (size_t i = 0; i < program->port_count[KP_INPUT]; i++) {
    size_t index = bound->inputs[i];
    inputs[index] = kp_port_tensor(&program->ports[KP_INPUT][index].port, n, t);
    inputs[index].data = data[i];
  }
  KP_TRY(kp_session_run_unchecked(call->session, bound->index, inputs, program->port_count[KP_INPUT], found,
                                  program->port_count[KP_OUTPUT], call->tap, call->tap_context, call->error));
  for (size_t i = 0; i < KP_ENCODER_MAX_PORTS; i++) outputs[i] = found[bound->outputs[i]];
  return KP_OK;
}

/* A float tensor of rank 4 and batch 1 in some memory order: element (c, y, x) is data[c * strides[0] + y * strides[1]
 * + x * strides[2]]. */
typedef struct planes {
  float *data;
  size_t sizes[3];
  size_t strides[3];
} planes;

static planes planes_of(const kp_port *port, float *data) {
  planes view = {.data = data};
  size_t stride = 1;
  for (int32_t i = port->rank - 1; i >= 0; i--) {
    int32_t dim = port->order[i];
    if (dim == 0) continue; /* the batch */
    view.sizes[dim - 1] = (size_t)port->shape[dim].value;
    view.strides[dim - 1] = stride;
    stride *= (size_t)port->shape[dim].value;
  }
  return view;
}

static void planes_copy(const planes *to, const planes *from) {
  if (memcmp(to->strides, from->strides, sizeof to->strides) == 0) {
    memcpy(to->data, from->data, to->sizes[0] * to->sizes[1] * to->sizes[2] * sizeof(float));
    return;
  }
  for (size_t c = 0; c < to->sizes[0]; c++) {
    for (size_t y = 0; y < to->sizes[1]; y++) {
      float *row = to->data + c * to->strides[0] + y * to->strides[1];
      const float *source = from->data + c * from->strides[0] + y * from->strides[1];
      for (size_t x = 0; x < to->sizes[2]; x++) row[x * to->strides[2]] = source[x * from->strides[2]];
    }
  }
}

/* ---- Stages ---- */

/* `rect` of the picture, letterboxed to `side` and normalised: dst is (side, side, 3). */
static kp_status load_square(const encoder_call *call, kp_rect rect, int32_t side, float *dst) {
  encoder *state = call->state;
  KP_TRY(kp_image_letterbox(&state->resizer, call->image, rect, side, call->settings->pad, state->square, call->error));
  state->resizer.kernels->normalize_u8_f32(dst, state->square, (size_t)side * (size_t)side,
                                           call->settings->normalization);
  return KP_OK;
}

static kp_status image_stage(const encoder_call *call) {
  kp_rect whole = {0, 0, call->image->width, call->image->height};
  KP_TRY(load_square(call, whole, call->settings->image_side, call->state->image));
  return kp_digest_square(call->session, call->settings->image_side, call->state->square, call->error);
}

/* Keeps the image embedding, the masks where logits are positive, and the features. */
static kp_status screen_stage(const encoder_call *call) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  const kp_encoder_program *screen = &settings->screen;
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_SCREEN_IMAGE] = state->image};
  KP_TRY(run_program(call, screen, 1, 1, data, outputs));
  memcpy(state->result.image, outputs[KP_SCREEN_EMBEDDING].data, sizeof state->result.image);
  if (settings->has_masks) {
    const kp_port *port = &screen->program->ports[KP_OUTPUT][screen->outputs[KP_SCREEN_MASK_LOGITS]].port;
    planes logits = planes_of(port, outputs[KP_SCREEN_MASK_LOGITS].data);
    uint8_t *mask = state->masks;
    for (size_t c = 0; c < logits.sizes[0]; c++) {
      for (size_t y = 0; y < logits.sizes[1]; y++) {
        const float *row = logits.data + c * logits.strides[0] + y * logits.strides[1];
        for (size_t x = 0; x < logits.sizes[2]; x++) *mask++ = row[x * logits.strides[2]] > 0;
      }
    }
  }
  if (settings->crop_side == 0) {
    const kp_encoder_program *roi = &settings->roi;
    const kp_port *from_port = &screen->program->ports[KP_OUTPUT][screen->outputs[KP_SCREEN_FEATURES]].port;
    const kp_port *to_port = &roi->program->ports[KP_INPUT][roi->inputs[KP_ROI_FEATURES]].port;
    planes from = planes_of(from_port, outputs[KP_SCREEN_FEATURES].data), to = planes_of(to_port, state->features);
    planes_copy(&to, &from);
  }
  return KP_OK;
}

/* One region's mask and box. A region without a mask gets its cell of the grid. */
static kp_rect find_region(const encoder_call *call, int region) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  int32_t side = settings->mask_side, scale = settings->mask_scale;
  int32_t width = call->image->width, height = call->image->height;
  uint8_t *mask = state->masks + (size_t)region * (size_t)side * (size_t)side;
  if (settings->has_masks && kp_mask_largest_component(mask, side, scale, call->box, state->queue) > 0) {
    state->result.roi_valid[region] = true;
    return kp_mask_box(mask, side, scale, call->box, width, height);
  }
  state->result.roi_valid[region] = !settings->has_masks;
  kp_rect rect = kp_grid_box(settings->grid[region], width, height);
  memset(mask, 0, (size_t)side * (size_t)side);
  kp_mask_fill(mask, side, scale, call->box, width, height, rect);
  return rect;
}

static kp_status regions_stage(const encoder_call *call) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  size_t crop = (size_t)settings->crop_side * (size_t)settings->crop_side * 3;
  size_t mask = (size_t)settings->mask_side * (size_t)settings->mask_side;
  for (int region = 0; region < KP_REGION_COUNT; region++) {
    kp_rect rect = find_region(call, region);
    memcpy(state->result.boxes[region], (const int32_t[]){rect.x0, rect.y0, rect.x1, rect.y1}, 4 * sizeof(int32_t));
    KP_TRY(kp_digest_region(call->session, region, settings, state->masks + (size_t)region * mask, &state->result,
                            call->error));
    if (settings->crop_side > 0) {
      KP_TRY(load_square(call, rect, settings->crop_side, state->crops + (size_t)region * crop));
      KP_TRY(kp_digest_crop(call->session, region, settings->crop_side, state->square, call->error));
    }
  }
  if (settings->crop_side == 0) {
    const kp_encoder_program *roi = &settings->roi;
    planes to = planes_of(&roi->program->ports[KP_INPUT][roi->inputs[KP_ROI_MASKS]].port, state->region_masks);
    const uint8_t *pixel = state->masks;
    for (size_t c = 0; c < to.sizes[0]; c++) {
      for (size_t y = 0; y < to.sizes[1]; y++) {
        float *row = to.data + c * to.strides[0] + y * to.strides[1];
        for (size_t x = 0; x < to.sizes[2]; x++) row[x * to.strides[2]] = *pixel++;
      }
    }
  }
  return KP_OK;
}

/* Four crops as a batch, or one feature map under four masks: either gives (regions, 256). */
static kp_status roi_stage(const encoder_call *call) {
  encoder *state = call->state;
  bool reencode = call->settings->crop_side > 0;
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const crops[] = {[KP_ROI_CROPS] = state->crops};
  void *const pooled[] = {[KP_ROI_FEATURES] = state->features, [KP_ROI_MASKS] = state->region_masks};
  KP_TRY(
      run_program(call, &call->settings->roi, reencode ? KP_REGION_COUNT : 1, 1, reencode ? crops : pooled, outputs));
  memcpy(state->result.rois, outputs[KP_ROI_EMBEDDING].data, sizeof state->result.rois);
  return KP_OK;
}

static kp_status text_stage(const encoder_call *call, const char *text, size_t text_size) {
  encoder *state = call->state;
  const kp_model *model = kp_session_model(call->session);
  size_t tokens;
  KP_TRY(kp_tokenizer_encode(model->tokenizer, &model->allocator, text, text_size, state->ids,
                             (size_t)call->settings->max_tokens, &tokens, call->error));
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {
      [KP_TEXT_IDS] = state->ids, [KP_TEXT_POSITIONS] = state->positions, [KP_TEXT_ATTENTION] = state->attention};
  KP_TRY(run_program(call, &call->settings->text, 1, (int64_t)tokens, data, outputs));
  memcpy(state->result.text, outputs[KP_TEXT_EMBEDDING].data, sizeof state->result.text);
  state->result.token_count = (int32_t)tokens;
  return KP_OK;
}

static kp_status fusion_stage(const encoder_call *call, int64_t user) {
  encoder *state = call->state;
  int32_t user_id = (int32_t)user;
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_FUSION_IMAGE] = state->result.image,
                        [KP_FUSION_ROIS] = state->result.rois,
                        [KP_FUSION_TEXT] = state->result.text,
                        [KP_FUSION_USER] = &user_id};
  KP_TRY(run_program(call, &call->settings->fusion, 1, 1, data, outputs));
  memcpy(state->result.context, outputs[KP_FUSION_CONTEXT].data, sizeof state->result.context);
  return KP_OK;
}

/* ---- The whole ---- */

static uint64_t now_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Notes the time since *start as the stage's. */
static void end_stage(const encoder_call *call, kp_stage stage, uint64_t *start) {
  uint64_t end = now_nanoseconds();
  call->state->result.nanoseconds[stage] = end - *start;
  *start = end;
}

static kp_status run_stages(const encoder_call *call, const char *text, size_t text_size, int64_t user) {
  uint64_t start = now_nanoseconds();
  KP_TRY(image_stage(call));
  end_stage(call, KP_STAGE_IMAGE, &start);
  KP_TRY(screen_stage(call));
  end_stage(call, KP_STAGE_SCREEN, &start);
  KP_TRY(regions_stage(call));
  end_stage(call, KP_STAGE_REGIONS, &start);
  KP_TRY(roi_stage(call));
  end_stage(call, KP_STAGE_ROI, &start);
  KP_TRY(text_stage(call, text, text_size));
  end_stage(call, KP_STAGE_TEXT, &start);
  KP_TRY(fusion_stage(call, user));
  end_stage(call, KP_STAGE_FUSION, &start);
  return KP_OK;
}

static kp_status encode(kp_session *session, const kp_image *image, const char *text, size_t text_size, int64_t user,
                        kp_encoding *encoding, kp_tap_fn tap, void *tap_context, kp_error *error) {
  encoder *state;
  KP_TRY(encoder_of(session, &state, error));
  KP_TRY(kp_image_check(image, error));
  if (text == NULL && text_size > 0) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "text: expected a pointer to %zu bytes, got NULL", text_size);
  }
  if (user < 0 || user >= state->settings.user_count) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "user: expected 0 to %lld, got %lld",
                   (long long)state->settings.user_count - 1, (long long)user);
  }
  encoder_call call = {.session = session,
                       .state = state,
                       .settings = &state->settings,
                       .image = image,
                       .box = kp_letterbox_fit(image->width, image->height, state->settings.image_side),
                       .tap = tap,
                       .tap_context = tap_context,
                       .error = error};
  if (text == NULL) text = "";
  KP_TRY(kp_digest_encode(session, image, text, text_size, user, error));
  KP_TRY(run_stages(&call, text, text_size, user));
  KP_TRY(kp_digest_end(kp_session_digest(session), error));
  state->result.masks = state->masks;
  *encoding = state->result;
  return KP_OK;
}

kp_status kp_encode(kp_session *session, const kp_image *image, const char *text, size_t text_size, int64_t user,
                    kp_encoding *encoding, kp_tap_fn tap, void *tap_context, kp_error *error) {
  if (session == NULL || encoding == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "session, encoding: expected a pointer, got NULL");
  }
  kp_fpenv saved = kp_fpenv_enter();
  kp_status status = encode(session, image, text, text_size, user, encoding, tap, tap_context, error);
  kp_fpenv_leave(saved);
  return status;
}

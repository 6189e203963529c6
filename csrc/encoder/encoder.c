/* The pipeline: picture, text and user through the programs of an encoder. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "base/fpenv.h"
#include "encoder/digest.h"
#include "encoder/settings.h"
#include "runtime/digest.h"
#include "runtime/inputs.h"

/* What a session keeps between calls: settings and every buffer, allocated at the first call. */
typedef struct encoder {
  kp_arena arena; /* holds this struct too */
  kp_encoder_settings settings;
  kp_resizer resizer;
  uint8_t *square;     /* (side, side, 3): a letterboxed picture or crop */
  float *image;        /* (side, side, 3), of the largest picture */
  uint8_t *masks;      /* (regions, mask_side, mask_side) */
  int32_t *queue;      /* (mask_side, mask_side) */
  float *crops;        /* (regions, crop_side, crop_side, 3); reencode only */
  float *features;     /* in the roi program's memory order; mask_pool only */
  float *region_masks; /* the same */
  kp_detection_buffers detection;
  int32_t *ids;       /* (max_tokens) */
  int32_t *positions; /* (max_tokens) */
  int32_t *attention; /* (max_tokens) */
  kp_encoding result; /* given out when all of it is there */
} encoder;

/* One kp_encode. */
typedef struct encoder_call {
  kp_session *session;
  encoder *state;
  const kp_encoder_settings *settings;
  const kp_image *image;
  kp_mask_frame frame;
  kp_tap_fn tap;
  void *tap_context;
  kp_error *error;
} encoder_call;

const char *kp_stage_name(kp_stage stage) {
  static const char *const names[KP_STAGE_COUNT] = {"image", "screen", "global", "regions", "roi", "text", "fusion"};
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
  *info = (kp_encoder_info){.image_side = settings.screen_picture.side,
                            .crop_side = settings.crop_side,
                            .regions_side = settings.regions_side,
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

static size_t square_of(int32_t side) { return (size_t)side * (size_t)side; }

/* The side of the largest picture that a program takes. */
static int32_t largest_picture(const kp_encoder_settings *settings) {
  int32_t side = settings->screen.program != NULL ? settings->screen_picture.side : 1;
  if (settings->global_picture.side > side) side = settings->global_picture.side;
  return settings->regions_picture.side > side ? settings->regions_picture.side : side;
}

static bool allocate_detection_buffers(const kp_encoder_settings *settings, kp_detection_buffers *buffers,
                                       kp_arena *arena) {
  buffers->kept = kp_arena_calloc(arena, (size_t)settings->detections.anchors, sizeof(uint32_t));
  buffers->prototypes = kp_arena_calloc(arena, kp_detection_prototype_size(settings->mask_side), sizeof(float));
  buffers->mask = kp_arena_calloc(arena, square_of(settings->mask_side), 1);
  return buffers->kept && buffers->prototypes && buffers->mask;
}

static bool allocate_buffers(encoder *state, kp_arena *arena) {
  const kp_encoder_settings *settings = &state->settings;
  size_t image = square_of(largest_picture(settings)), crop = square_of(settings->crop_side);
  size_t mask = square_of(settings->mask_side), tokens = (size_t)settings->max_tokens;
  state->square = kp_arena_calloc(arena, image > crop ? image : crop, 3);
  state->image = kp_arena_calloc(arena, image, 3 * sizeof(float));
  state->masks = kp_arena_calloc(arena, mask, KP_REGION_COUNT);
  state->queue = kp_arena_calloc(arena, mask, sizeof(int32_t));
  state->ids = kp_arena_calloc(arena, tokens, sizeof(int32_t));
  state->positions = kp_arena_calloc(arena, tokens, sizeof(int32_t));
  state->attention = kp_arena_calloc(arena, tokens, sizeof(int32_t));
  bool all = state->square && state->image && state->masks && state->queue && state->ids && state->positions &&
             state->attention;
  if (settings->region_source == KP_REGIONS_OF_DETECTIONS) {
    all = allocate_detection_buffers(settings, &state->detection, arena) && all;
  }
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
  for (size_t i = 0; i < KP_ENCODER_MAX_PORTS; i++) {
    size_t index = bound->inputs[i];
    if (index == KP_NO_PORT) continue;
    inputs[index] = kp_port_tensor(&program->ports[KP_INPUT][index].port, n, t);
    inputs[index].data = data[i];
  }
  KP_TRY(kp_session_run_unchecked(call->session, bound->index, inputs, program->port_count[KP_INPUT], found,
                                  program->port_count[KP_OUTPUT], call->tap, call->tap_context, call->error));
  for (size_t i = 0; i < KP_ENCODER_MAX_PORTS; i++) {
    outputs[i] = bound->outputs[i] == KP_NO_PORT ? (kp_tensor){0} : found[bound->outputs[i]];
  }
  return KP_OK;
}

static kp_planes input_planes(const kp_encoder_program *bound, size_t input, float *data) {
  return kp_planes_of(&bound->program->ports[KP_INPUT][bound->inputs[input]].port, data);
}

static kp_planes output_planes(const kp_encoder_program *bound, size_t output, const kp_tensor *outputs) {
  return kp_planes_of(&bound->program->ports[KP_OUTPUT][bound->outputs[output]].port, outputs[output].data);
}

/* ---- Stages ---- */

/* `rect` of the picture, letterboxed to `side` and normalised: dst is (side, side, 3). */
static kp_status load_square(const encoder_call *call, kp_rect rect, const kp_encoder_picture *picture, int32_t side,
                             float *dst) {
  encoder *state = call->state;
  KP_TRY(kp_image_letterbox(&state->resizer, call->image, rect, side, picture->pad, state->square, call->error));
  state->resizer.kernels->normalize_u8_f32(dst, state->square, square_of(side), picture->normalization);
  return KP_OK;
}

/* The whole picture as `picture` says, into state->image. `name` is the square's in a digest. */
static kp_status load_picture(const encoder_call *call, const kp_encoder_picture *picture, const char *name) {
  kp_rect whole = {0, 0, call->image->width, call->image->height};
  KP_TRY(load_square(call, whole, picture, picture->side, call->state->image));
  return kp_digest_square(call->session, name, picture->side, call->state->square, call->error);
}

/* Masks where logits are positive. */
static void keep_masks(const encoder_call *call, kp_planes logits) {
  uint8_t *mask = call->state->masks;
  for (size_t c = 0; c < logits.sizes[0]; c++) {
    for (size_t y = 0; y < logits.sizes[1]; y++) {
      const float *row = logits.data + c * logits.strides[0] + y * logits.strides[1];
      for (size_t x = 0; x < logits.sizes[2]; x++) *mask++ = row[x * logits.strides[2]] > 0;
    }
  }
}

/* Keeps those of the image embedding, masks and features that the program gives. */
static kp_status screen_stage(const encoder_call *call) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  const kp_encoder_program *screen = &settings->screen;
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_PICTURE_IMAGE] = state->image};
  if (screen->program == NULL) return KP_OK;
  KP_TRY(run_program(call, screen, 1, 1, data, outputs));
  if (screen->outputs[KP_SCREEN_EMBEDDING] != KP_NO_PORT) {
    memcpy(state->result.image, outputs[KP_SCREEN_EMBEDDING].data, sizeof state->result.image);
  }
  if (screen->outputs[KP_SCREEN_MASK_LOGITS] != KP_NO_PORT) {
    keep_masks(call, output_planes(screen, KP_SCREEN_MASK_LOGITS, outputs));
  }
  if (screen->outputs[KP_SCREEN_FEATURES] != KP_NO_PORT) {
    kp_planes from = output_planes(screen, KP_SCREEN_FEATURES, outputs);
    kp_planes to = input_planes(&settings->roi, KP_ROI_FEATURES, state->features);
    kp_planes_copy(&to, &from);
  }
  return KP_OK;
}

/* The image embedding, where it has a program of its own. */
static kp_status global_stage(const encoder_call *call) {
  encoder *state = call->state;
  const kp_encoder_program *global = &call->settings->global;
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_PICTURE_IMAGE] = state->image};
  if (global->program == NULL) return KP_OK;
  KP_TRY(load_picture(call, &call->settings->global_picture, "image.square"));
  KP_TRY(run_program(call, global, 1, 1, data, outputs));
  memcpy(state->result.image, outputs[KP_GLOBAL_EMBEDDING].data, sizeof state->result.image);
  return KP_OK;
}

/* The masks of the regions' own program. */
static kp_status run_regions(const encoder_call *call) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  const kp_encoder_program *regions = &settings->regions;
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_PICTURE_IMAGE] = state->image};
  if (regions->program == NULL) return KP_OK;
  KP_TRY(load_picture(call, &settings->regions_picture, "regions.square"));
  KP_TRY(run_program(call, regions, 1, 1, data, outputs));
  if (settings->region_source == KP_REGIONS_OF_MASKS) {
    keep_masks(call, output_planes(regions, KP_REGIONS_MASK_LOGITS, outputs));
    return KP_OK;
  }
  kp_detections detections = {.boxes = output_planes(regions, KP_REGIONS_BOXES, outputs),
                              .scores = outputs[KP_REGIONS_SCORES].data,
                              .coefficients = output_planes(regions, KP_REGIONS_COEFFICIENTS, outputs),
                              .prototypes = output_planes(regions, KP_REGIONS_PROTOTYPES, outputs)};
  kp_detections_choose(&detections, &settings->detections, settings->grid, &call->frame, &state->detection,
                       state->masks);
  return KP_OK;
}

/* One region's mask and box. A region without a mask gets its cell of the grid. */
static kp_rect find_region(const encoder_call *call, int region) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  bool is_cell = settings->region_source == KP_REGIONS_OF_GRID;
  uint8_t *mask = state->masks + (size_t)region * square_of(settings->mask_side);
  if (!is_cell && kp_mask_largest_component(mask, &call->frame, state->queue) > 0) {
    state->result.roi_valid[region] = true;
    return kp_mask_box(mask, &call->frame);
  }
  state->result.roi_valid[region] = is_cell;
  kp_rect rect = kp_grid_box(settings->grid[region], call->image->width, call->image->height);
  memset(mask, 0, square_of(settings->mask_side));
  kp_mask_fill(mask, settings->mask_side, kp_mask_rect(&call->frame, rect));
  return rect;
}

static kp_status regions_stage(const encoder_call *call) {
  encoder *state = call->state;
  const kp_encoder_settings *settings = call->settings;
  size_t crop = square_of(settings->crop_side) * 3, mask = square_of(settings->mask_side);
  KP_TRY(run_regions(call));
  for (int region = 0; region < KP_REGION_COUNT; region++) {
    kp_rect rect = find_region(call, region);
    memcpy(state->result.boxes[region], (const int32_t[]){rect.x0, rect.y0, rect.x1, rect.y1}, 4 * sizeof(int32_t));
    KP_TRY(kp_digest_region(call->session, region, settings, state->masks + (size_t)region * mask, &state->result,
                            call->error));
    if (settings->crop_side > 0) {
      KP_TRY(load_square(call, rect, &settings->screen_picture, settings->crop_side,
                         state->crops + (size_t)region * crop));
      KP_TRY(kp_digest_crop(call->session, region, settings->crop_side, state->square, call->error));
    }
  }
  if (settings->crop_side == 0) {
    kp_planes to = input_planes(&settings->roi, KP_ROI_MASKS, state->region_masks);
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

/* The vector of the user, where the model asks for one. */
static kp_status user_vector(const encoder_call *call, const kp_user *user, float vector[KP_USER_SIZE]) {
  const kp_encoder_settings *settings = call->settings;
  size_t bytes = KP_USER_SIZE * sizeof vector[0];
  if (settings->user.program == NULL) return KP_OK;
  if (user != NULL && user->vector != NULL) {
    memcpy(vector, user->vector, bytes);
    return KP_OK;
  }
  bool known = user != NULL && user->id != KP_UNKNOWN_USER;
  int32_t row = (int32_t)(known ? user->id : settings->user_count);
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_USER_ID] = &row};
  KP_TRY(run_program(call, &settings->user, 1, 1, data, outputs));
  memcpy(vector, outputs[KP_USER_VECTOR].data, bytes);
  return KP_OK;
}

static kp_status fusion_stage(const encoder_call *call, const kp_user *user) {
  encoder *state = call->state;
  float vector[KP_USER_SIZE];
  KP_TRY(user_vector(call, user, vector));
  kp_tensor outputs[KP_ENCODER_MAX_PORTS];
  void *const data[] = {[KP_FUSION_IMAGE] = state->result.image,
                        [KP_FUSION_ROIS] = state->result.rois,
                        [KP_FUSION_TEXT] = state->result.text,
                        [KP_FUSION_USER] = vector};
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

static kp_status run_stages(const encoder_call *call, const char *text, size_t text_size, const kp_user *user) {
  uint64_t start = now_nanoseconds();
  if (call->settings->screen.program != NULL) KP_TRY(load_picture(call, &call->settings->screen_picture, "square"));
  end_stage(call, KP_STAGE_IMAGE, &start);
  KP_TRY(screen_stage(call));
  end_stage(call, KP_STAGE_SCREEN, &start);
  KP_TRY(global_stage(call));
  end_stage(call, KP_STAGE_GLOBAL, &start);
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

static kp_status check_user(const kp_encoder_settings *settings, const kp_user *user, kp_error *error) {
  if (user == NULL || (user->vector == NULL && user->id == KP_UNKNOWN_USER)) return KP_OK;
  if (settings->user_count == 0) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "user: expected none, as the model does not ask who types, got %s",
                   user->vector != NULL ? "a vector" : "a user's number");
  }
  if (user->vector == NULL) {
    if (user->id >= 0 && user->id < settings->user_count) return KP_OK;
    return kp_fail(error, KP_ERROR_ARGUMENT, "user: expected 0 to %lld, got %lld", (long long)settings->user_count - 1,
                   (long long)user->id);
  }
  for (int i = 0; i < KP_USER_SIZE; i++) {
    if (isfinite(user->vector[i])) continue;
    return kp_fail(error, KP_ERROR_ARGUMENT, "user: expected a vector of finite numbers, got %g as element %d",
                   (double)user->vector[i], i);
  }
  return KP_OK;
}

static kp_status encode(kp_session *session, const kp_image *image, const char *text, size_t text_size,
                        const kp_user *user, kp_encoding *encoding, kp_tap_fn tap, void *tap_context, kp_error *error) {
  encoder *state;
  KP_TRY(encoder_of(session, &state, error));
  KP_TRY(kp_image_check(image, error));
  if (text == NULL && text_size > 0) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "text: expected a pointer to %zu bytes, got NULL", text_size);
  }
  const kp_encoder_settings *settings = &state->settings;
  KP_TRY(check_user(settings, user, error));
  encoder_call call = {.session = session,
                       .state = state,
                       .settings = settings,
                       .image = image,
                       .frame = {.side = settings->mask_side,
                                 .scale = settings->mask_scale,
                                 .box = kp_letterbox_fit(image->width, image->height, settings->regions_side),
                                 .width = image->width,
                                 .height = image->height},
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

kp_status kp_encode(kp_session *session, const kp_image *image, const char *text, size_t text_size, const kp_user *user,
                    kp_encoding *encoding, kp_tap_fn tap, void *tap_context, kp_error *error) {
  if (session == NULL || encoding == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "session, encoding: expected a pointer, got NULL");
  }
  kp_fpenv saved = kp_fpenv_enter();
  kp_status status = encode(session, image, text, text_size, user, encoding, tap, tap_context, error);
  kp_fpenv_leave(saved);
  return status;
}

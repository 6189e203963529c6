#include "encoder/digest.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "runtime/digest.h"

#define PIPELINE "pipeline" /* stands where a program's name does */

/* Of the rows, each hash the seed of the next, so that what lies between rows does not count. */
static uint64_t hash_image(const kp_image *image) {
  size_t row_bytes = (size_t)image->width * (size_t)image->channels * (size_t)image->bits / 8;
  uint64_t hash = 0;
  for (int32_t y = 0; y < image->height; y++) {
    hash = kp_hash64((const uint8_t *)image->data + (size_t)y * image->row_bytes, row_bytes, hash);
  }
  return hash;
}

kp_status kp_digest_encode(kp_session *session, const kp_image *image, const char *text, size_t text_size,
                           const kp_user *user, kp_error *error) {
  kp_digest *digest = kp_session_digest(session);
  if (digest->write == NULL) return KP_OK;
  char who[24] = "unknown"; /* a number, or a vector's hash */
  if (user != NULL && user->vector != NULL) {
    snprintf(who, sizeof who, "%016" PRIx64, kp_hash64(user->vector, KP_USER_SIZE * sizeof(float), 0));
  } else if (user != NULL && user->id != KP_UNKNOWN_USER) {
    snprintf(who, sizeof who, "%" PRId64, user->id);
  }
  return kp_digest_begin(digest, error,
                         "encode picture %" PRId32 "x%" PRId32 "x%" PRId32 " u%" PRId32 " %016" PRIx64
                         " text %zu %016" PRIx64 " user %s",
                         image->height, image->width, image->channels, image->bits, hash_image(image), text_size,
                         kp_hash64(text, text_size, 0), who);
}

/* A tensor named `regions.<region>.<part>`. */
static kp_status region_tensor(kp_session *session, int region, const char *part, const char *op, const char *inputs,
                               kp_tensor tensor, kp_error *error) {
  char name[32];
  snprintf(name, sizeof name, "regions.%d.%s", region, part);
  return kp_digest_tensor(kp_session_digest(session), PIPELINE, name, op, inputs, &tensor, 1, error);
}

static kp_tensor square_tensor(int32_t side, const uint8_t *pixels) {
  return (kp_tensor){.dtype = KP_U8, .rank = 3, .shape = {side, side, 3}, .data = (void *)(uintptr_t)pixels};
}

kp_status kp_digest_square(kp_session *session, const char *name, int32_t side, const uint8_t *square,
                           kp_error *error) {
  kp_tensor tensor = square_tensor(side, square);
  return kp_digest_tensor(kp_session_digest(session), PIPELINE, name, "letterbox", "-", &tensor, 1, error);
}

kp_status kp_digest_region(kp_session *session, int region, const kp_encoder_settings *settings, const uint8_t *mask,
                           const kp_encoding *found, kp_error *error) {
  static const char *const ops[] = {
      [KP_REGIONS_OF_GRID] = "grid", [KP_REGIONS_OF_MASKS] = "region", [KP_REGIONS_OF_DETECTIONS] = "detection"};
  static const char *const sources[] = {
      [KP_REGIONS_OF_GRID] = "-",
      [KP_REGIONS_OF_MASKS] = "screen/mask_logits",
      [KP_REGIONS_OF_DETECTIONS] = "regions/boxes,regions/scores,regions/coefficients,regions/prototypes"};
  const char *op = ops[settings->region_source], *inputs = sources[settings->region_source];
  if (settings->region_source == KP_REGIONS_OF_MASKS && settings->regions.program != NULL) {
    inputs = "regions/mask_logits";
  }
  int32_t side = settings->mask_side;
  kp_tensor pixels = {.dtype = KP_BOOL, .rank = 2, .shape = {side, side}, .data = (void *)(uintptr_t)mask};
  kp_tensor box = {.dtype = KP_I32, .rank = 1, .shape = {4}, .data = (void *)(uintptr_t)found->boxes[region]};
  kp_tensor valid = {.dtype = KP_BOOL, .data = (void *)(uintptr_t)&found->roi_valid[region]};
  KP_TRY(region_tensor(session, region, "mask", op, inputs, pixels, error));
  KP_TRY(region_tensor(session, region, "box", op, inputs, box, error));
  return region_tensor(session, region, "valid", op, inputs, valid, error);
}

kp_status kp_digest_crop(kp_session *session, int region, int32_t side, const uint8_t *crop, kp_error *error) {
  char box[32];
  snprintf(box, sizeof box, "regions.%d.box", region);
  return region_tensor(session, region, "crop", "letterbox", box, square_tensor(side, crop), error);
}

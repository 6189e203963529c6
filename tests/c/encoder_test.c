/* kp_encode on the small encoder: users, arguments, allocations. tests/test_pipeline.py compares its results. */
#include <math.h>

#include "check.h"
#include "runtime/model.h"

static kp_image picture(void) {
  static uint8_t pixels[12 * 20 * 3];
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i % 251);
  return (kp_image){.data = pixels, .width = 12, .height = 20, .channels = 3, .bits = 8, .row_bytes = 36};
}

static kp_status encode(kp_session *session, const kp_user *user, kp_encoding *encoding, kp_error *error) {
  kp_image image = picture();
  return kp_encode(session, &image, "hello", 5, user, encoding, NULL, NULL, error);
}

static bool same_context(const kp_encoding *a, const kp_encoding *b) {
  return memcmp(a->context, b->context, sizeof a->context) == 0;
}

static void a_user_is_a_number_a_vector_or_unknown(void) {
  kp_model *model = check_open("encoder.gguf", NULL);
  kp_session *session = NULL;
  CHECK_OK(kp_session_create(model, 1, &session, &error));
  kp_encoding nobody, unknown, first, direct;
  CHECK_OK(encode(session, NULL, &nobody, &error));
  CHECK_OK(encode(session, &(kp_user){.id = KP_UNKNOWN_USER}, &unknown, &error));
  CHECK_OK(encode(session, &(kp_user){.id = 0}, &first, &error));
  CHECK(same_context(&nobody, &unknown) && !same_context(&nobody, &first));
  float vector[KP_USER_SIZE];
  for (size_t i = 0; i < kp_model_weight_count(model); i++) {
    kp_weight weight;
    CHECK_OK(kp_model_weight(model, i, &weight, &error));
    if (strcmp(weight.name, "users") == 0) memcpy(vector, weight.tensor.data, sizeof vector);
  }
  CHECK_OK(encode(session, &(kp_user){.id = 77, .vector = vector}, &direct, &error));
  CHECK(same_context(&direct, &first));
  CHECK_FAILS(encode(session, &(kp_user){.id = 2}, &direct, &error), KP_ERROR_ARGUMENT, "user: expected 0 to 1, got 2");
  CHECK_FAILS(encode(session, &(kp_user){.id = -2}, &direct, &error), KP_ERROR_ARGUMENT, "got -2");
  vector[63] = INFINITY;
  CHECK_FAILS(encode(session, &(kp_user){.vector = vector}, &direct, &error), KP_ERROR_ARGUMENT, "element 63");
  kp_session_close(session);
  kp_model_close(model);
}

static void the_settings_are_told(void) {
  kp_model *model = check_open("encoder.gguf", NULL);
  kp_encoder_info info;
  CHECK_OK(kp_model_encoder_info(model, &info, &error));
  CHECK(info.image_side == 16 && info.crop_side == 8 && info.regions_side == 16);
  CHECK(info.mask_height == 4 && info.mask_width == 4 && info.user_count == 2 && info.max_tokens == 16);
  kp_model_close(model);
}

static void a_call_after_the_first_allocates_nothing(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_model *model = check_open("encoder.gguf", &allocator);
  kp_session *session = NULL;
  kp_encoding encoding;
  CHECK_OK(kp_session_create(model, 2, &session, &error));
  CHECK_OK(encode(session, NULL, &encoding, &error));
  size_t before = state.total;
  CHECK_OK(encode(session, NULL, &encoding, &error));
  CHECK(state.total == before);
  kp_session_close(session);
  kp_model_close(model);
  CHECK(state.live == 0);
}

static kp_status encode_once(const kp_allocator *allocator, const char *file, kp_error *error) {
  char path[512];
  kp_model_options options = {.allocator = allocator, .isa = UINT32_MAX};
  kp_model *model = NULL;
  KP_TRY(kp_model_open(check_model_path(file, path), &options, &model, error));
  kp_session *session = NULL;
  kp_encoding encoding;
  kp_status status = kp_session_create(model, 1, &session, error);
  if (status == KP_OK) status = encode(session, NULL, &encoding, error);
  kp_session_close(session);
  kp_model_close(model);
  return status;
}

static void every_allocation_that_fails_is_an_error_and_leaks_nothing(void) {
  check_failing_allocations(encode_once, "encoder.gguf", 10);
}

const check_test encoder_tests[] = {TEST(a_user_is_a_number_a_vector_or_unknown),
                                    TEST(the_settings_are_told),
                                    TEST(a_call_after_the_first_allocates_nothing),
                                    TEST(every_allocation_that_fails_is_an_error_and_leaks_nothing),
                                    {NULL, NULL}};

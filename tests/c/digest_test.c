/* Hashes, and digests of the sample's first program, `arithmetic`. */
#include "base/hash.h"
#include "check.h"
#include "runtime/model.h"

#define HEADER "keypilot-digest 1\nversion "

static void hashes_are_the_published_ones_at_every_alignment(void) {
  static const struct {
    const char *text;
    uint64_t hash;
  } published[] = {{"", 0xEF46DB3751D8E999},
                   {"abc", 0x44BC2CF5AD770999},
                   {"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1}};
  for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
    for (size_t offset = 0; offset < 8; offset++) {
      char bytes[64];
      size_t size = strlen(published[i].text);
      memcpy(bytes + offset, published[i].text, size);
      CHECK(kp_hash64(bytes + offset, size, 0) == published[i].hash);
    }
  }
  CHECK(kp_hash64(NULL, 0, 0) == published[0].hash);
}

typedef struct text_log {
  size_t size, calls, stop_at; /* the call that is answered with false, counted from 1; 0: none */
  char text[4096];
} text_log;

static bool log_text(void *context, const char *text, size_t size) {
  text_log *log = context;
  if (log->size + size < sizeof log->text) {
    memcpy(log->text + log->size, text, size);
    log->size += size;
    log->text[log->size] = '\0';
  }
  return ++log->calls != log->stop_at;
}

static kp_status run_arithmetic(kp_session *session, kp_error *error) {
  static float x[] = {1, 2, 3, 4}, b[] = {2, 2, 2, 2};
  kp_tensor inputs[] = {{.dtype = KP_F32, .rank = 2, .shape = {1, 4}, .data = x},
                        {.dtype = KP_F32, .rank = 2, .shape = {1, 4}, .data = b}};
  kp_tensor outputs[3];
  return kp_session_run(session, 0, inputs, 2, outputs, 3, NULL, NULL, error);
}

static size_t lines_of(const char *text) {
  size_t count = 0;
  for (; *text != '\0'; text++) count += *text == '\n';
  return count;
}

static void a_digest_has_a_header_and_a_line_for_every_tensor_that_is_computed(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = NULL;
  CHECK_OK(kp_session_create(model, 1, &session, &error));
  static text_log log;
  log = (text_log){0};
  CHECK_OK(kp_session_write_digest(session, log_text, &log, &error));
  CHECK(strncmp(log.text, HEADER, strlen(HEADER)) == 0 && lines_of(log.text) == 7);
  CHECK_OK(run_arithmetic(session, &error));
  /* A blank line and the program's name; 2 inputs, 3 operators that are no aliases, 3 outputs; the end. */
  CHECK(lines_of(log.text) == 7 + 2 + 8 + 1);
  CHECK(strstr(log.text, "\n\nrun arithmetic\n0 arithmetic x input f32 1x4 - ") != NULL);
  CHECK(strstr(log.text, "\n4 arithmetic product binary f32 1x4 relu,b ") != NULL);
  CHECK(strcmp(log.text + log.size - 6, "end 8\n") == 0);

  size_t size = log.size;
  CHECK_OK(kp_session_write_digest(session, NULL, NULL, &error));
  CHECK_OK(run_arithmetic(session, &error));
  CHECK(log.size == size);
  kp_session_close(session);
  kp_model_close(model);
}

static void a_writer_that_stops_ends_the_run_and_the_session_stays_usable(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = NULL;
  CHECK_OK(kp_session_create(model, 1, &session, &error));
  static text_log log;
  log = (text_log){.stop_at = 1};
  CHECK_FAILS(kp_session_write_digest(session, log_text, &log, &error), KP_ERROR_CANCELLED, "stopped");
  CHECK_OK(run_arithmetic(session, &error)); /* it writes none */
  CHECK(log.calls == 1);
  for (size_t stop_at = 2; stop_at <= 11; stop_at++) {
    log = (text_log){.stop_at = stop_at};
    CHECK_OK(kp_session_write_digest(session, log_text, &log, &error));
    CHECK_FAILS(run_arithmetic(session, &error), KP_ERROR_CANCELLED, "digest: stopped by its writer");
    CHECK(log.calls == stop_at);
  }
  CHECK_OK(kp_session_write_digest(session, NULL, NULL, &error));
  CHECK_OK(run_arithmetic(session, &error));
  CHECK_FAILS(kp_session_write_digest(NULL, log_text, &log, &error), KP_ERROR_ARGUMENT, "session: expected a pointer");
  kp_session_close(session);
  kp_model_close(model);
}

static void a_digest_allocates_nothing(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_model *model = check_open("sample.gguf", &allocator);
  kp_session *session = NULL;
  CHECK_OK(kp_session_create(model, 2, &session, &error));
  CHECK_OK(run_arithmetic(session, &error));
  size_t before = state.total;
  static text_log log;
  log = (text_log){0};
  CHECK_OK(kp_session_write_digest(session, log_text, &log, &error));
  CHECK_OK(run_arithmetic(session, &error));
  CHECK(state.total == before);
  kp_session_close(session);
  kp_model_close(model);
  CHECK(state.live == 0);
}

const check_test digest_tests[] = {TEST(hashes_are_the_published_ones_at_every_alignment),
                                   TEST(a_digest_has_a_header_and_a_line_for_every_tensor_that_is_computed),
                                   TEST(a_writer_that_stops_ends_the_run_and_the_session_stays_usable),
                                   TEST(a_digest_allocates_nothing),
                                   {NULL, NULL}};

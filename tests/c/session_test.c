/* csrc/runtime over the files of make_models.py: running, taps, costs, failures. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "runtime/model.h"

/* ---- Helpers ---- */

enum { ARITHMETIC = 0, TEXT = 1, PICTURE = 2, MOST_OUTPUTS = 3 };

static kp_session *create_session(const kp_model *model, int threads) {
  kp_session *session = NULL;
  CHECK_OK(kp_session_create(model, threads, &session, &error));
  return session;
}

static kp_tensor make_tensor(kp_dtype dtype, void *data, int32_t rank, int64_t a, int64_t b, int64_t c, int64_t d) {
  return (kp_tensor){.dtype = dtype, .rank = rank, .shape = {a, b, c, d}, .data = data};
}

static size_t elements_of(const kp_tensor *tensor) {
  size_t count = 1;
  for (int32_t i = 0; i < tensor->rank; i++) count *= (size_t)tensor->shape[i];
  return count;
}

enum { MOST_BATCH = 4, MOST_TOKENS = 32, PIXELS = 16 * 16 * 3 };

/* Inputs of every program, seeded; and how to make their tensors. */
typedef struct samples {
  float x[MOST_BATCH * 4], b[MOST_BATCH * 4], image[MOST_BATCH * PIXELS];
  int32_t ids[MOST_BATCH * MOST_TOKENS], mask[MOST_BATCH * MOST_TOKENS];
} samples;

static void fill_samples(samples *s) {
  check_random random = {6};
  for (size_t i = 0; i < MOST_BATCH * 4; i++) s->x[i] = (float)check_below(&random, 17) - 8;
  for (size_t i = 0; i < MOST_BATCH * 4; i++) s->b[i] = (float)check_below(&random, 9) * 0.5f;
  for (size_t i = 0; i < MOST_BATCH * PIXELS; i++) s->image[i] = (float)check_below(&random, 1000) * 0.001f;
  for (size_t i = 0; i < MOST_BATCH * MOST_TOKENS; i++) {
    s->ids[i] = (int32_t)check_below(&random, 11);
    s->mask[i] = 1;
  }
}

static size_t make_inputs(samples *s, size_t program, int64_t n, int64_t t, kp_tensor inputs[2]) {
  switch (program) {
    case ARITHMETIC:
      inputs[0] = make_tensor(KP_F32, s->x, 2, n, 4, 0, 0);
      inputs[1] = make_tensor(KP_F32, s->b, 2, n, 4, 0, 0);
      return 2;
    case TEXT:
      inputs[0] = make_tensor(KP_I32, s->ids, 2, n, t, 0, 0);
      inputs[1] = make_tensor(KP_I32, s->mask, 2, n, t, 0, 0);
      return 2;
    default:
      inputs[0] = make_tensor(KP_F32, s->image, 4, n, 16, 16, 3);
      return 1;
  }
}

static kp_status run(kp_session *session, samples *s, size_t program, int64_t n, int64_t t, kp_tensor *outputs,
                     kp_error *error) {
  kp_tensor inputs[2];
  size_t count = make_inputs(s, program, n, t, inputs);
  size_t output_count = kp_model_port_count(kp_session_model(session), program, KP_OUTPUT);
  return kp_session_run(session, program, inputs, count, outputs, output_count, NULL, NULL, error);
}

/* ---- Running ---- */

static void arithmetic_gives_the_numbers_that_pen_and_paper_give(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 2);
  static samples s;
  fill_samples(&s);
  kp_tensor outputs[MOST_OUTPUTS];
  for (int64_t n = 1; n <= MOST_BATCH; n++) {
    CHECK_OK(run(session, &s, ARITHMETIC, n, 1, outputs, &error));
    CHECK(outputs[0].rank == 1 && outputs[0].shape[0] == 4 * n && outputs[0].dtype == KP_F32);
    static const float w[4] = {1, -2, 3, -4};
    for (size_t i = 0; i < 4 * (size_t)n; i++) {
      float sum = s.x[i] + w[i % 4];
      CHECK(((const float *)outputs[0].data)[i] == (sum > 0 ? sum : 0) * s.b[i]);
    }
    CHECK(outputs[1].data == s.x && outputs[1].rank == 1); /* an alias of an input is the input */
    kp_weight weight;
    CHECK_OK(kp_model_weight(model, 0, &weight, &error));
    CHECK(outputs[2].data == weight.tensor.data);
  }
  kp_session_close(session);
  kp_model_close(model);
}

/* Whether a program gives, within float32's rounding, the same for picture `item` alone as at its place in a batch. */
static void check_batch_item(kp_session *batch_session, kp_session *single_session, size_t program, int64_t item) {
  static samples s, one;
  fill_samples(&s);
  enum { TOKENS = 5 };
  memcpy(one.image, s.image + item * PIXELS, PIXELS * sizeof(float));
  memcpy(one.ids, s.ids + item * TOKENS, TOKENS * sizeof(int32_t));
  memcpy(one.mask, s.mask + item * TOKENS, TOKENS * sizeof(int32_t));
  kp_tensor batch[MOST_OUTPUTS], single[MOST_OUTPUTS];
  CHECK_OK(run(batch_session, &s, program, MOST_BATCH, TOKENS, batch, &error));
  CHECK_OK(run(single_session, &one, program, 1, TOKENS, single, &error));
  for (size_t port = 0; port < kp_model_port_count(kp_session_model(batch_session), program, KP_OUTPUT); port++) {
    size_t count = elements_of(&single[port]);
    CHECK(elements_of(&batch[port]) == count * MOST_BATCH);
    const float *expected = single[port].data, *got = (const float *)batch[port].data + (size_t)item * count;
    for (size_t i = 0; i < count; i++) CHECK(fabsf(got[i] - expected[i]) <= 1e-5f * (1 + fabsf(expected[i])));
  }
}

static void a_batch_on_several_threads_gives_what_each_item_gives_alone(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *batch = create_session(model, 4), *single = create_session(model, 1);
  for (int64_t item = 0; item < MOST_BATCH; item++) {
    check_batch_item(batch, single, TEXT, item);
    check_batch_item(batch, single, PICTURE, item);
  }
  kp_session_close(batch);
  kp_session_close(single);
  kp_model_close(model);
}

static void the_hosts_flush_to_zero_changes_no_result_and_stays_set(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 2);
  static samples s;
  kp_tensor outputs[MOST_OUTPUTS];
  for (size_t i = 0; i < 4; i++) {
    s.x[i] = 4.0f - ((float[]){1, -2, 3, -4})[i]; /* x + w = 4 */
    s.b[i] = 1e-41f;
  }
  uint64_t original = check_fp_control();
  check_set_fp_control(CHECK_HOST_CONTROL);
  kp_error error;
  kp_status status = run(session, &s, ARITHMETIC, 1, 1, outputs, &error);
  uint64_t afterwards = check_fp_control();
  check_set_fp_control(original);
  CHECK(status == KP_OK && afterwards == CHECK_HOST_CONTROL);
  for (size_t i = 0; i < 4; i++) CHECK(((const float *)outputs[0].data)[i] == 4.0f * 1e-41f);
  kp_session_close(session);
  kp_model_close(model);
}

/* ---- Taps ---- */

typedef struct tap_log {
  const kp_model *model;
  size_t count, stop_after;
  char names[16][16];
  float first[16]; /* each tensor's first element at the time of the call */
} tap_log;

static bool log_tap(void *context, size_t program, size_t tap, const kp_tensor *tensor) {
  tap_log *log = context;
  kp_port port;
  CHECK_OK(kp_model_port(log->model, program, KP_TAP, tap, &port, &error));
  CHECK(tensor->rank == port.rank && tensor->dtype == port.dtype);
  snprintf(log->names[log->count], sizeof log->names[0], "%s", port.name);
  log->first[log->count] = *(const float *)tensor->data;
  return ++log->count != log->stop_after;
}

static void taps_are_called_in_execution_order_with_the_value_of_that_time(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 1);
  static samples s;
  s.x[0] = -3; /* total -2, relu 0 (in place), product 0 */
  kp_tensor inputs[2], outputs[MOST_OUTPUTS];
  make_inputs(&s, ARITHMETIC, 1, 1, inputs);
  tap_log log = {.model = model};
  CHECK_OK(kp_session_run(session, ARITHMETIC, inputs, 2, outputs, 3, log_tap, &log, &error));
  static const char *const names[] = {"x.tap", "w.tap", "total", "relu", "product", "flat", "x.flat"};
  static const float first[] = {-3, 1, -2, 0, 0, 0, -3};
  CHECK(log.count == 7);
  for (size_t i = 0; i < 7; i++) CHECK(strcmp(log.names[i], names[i]) == 0 && log.first[i] == first[i]);
  for (size_t stop = 1; stop <= 7; stop++) {
    log = (tap_log){.model = model, .stop_after = stop};
    CHECK_FAILS(kp_session_run(session, ARITHMETIC, inputs, 2, outputs, 3, log_tap, &log, &error), KP_ERROR_CANCELLED,
                names[stop - 1]);
    CHECK(log.count == stop);
  }
  kp_session_close(session);
  kp_model_close(model);
}

static bool count_tap(void *context, size_t program, size_t tap, const kp_tensor *tensor) {
  (void)program;
  (void)tap;
  (void)tensor;
  ++*(size_t *)context;
  return true;
}

static void every_tap_of_every_program_is_called_once(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 1);
  static samples s;
  fill_samples(&s);
  for (size_t program = 0; program < 3; program++) {
    kp_tensor inputs[2], outputs[MOST_OUTPUTS];
    size_t count = make_inputs(&s, program, 2, 3, inputs), calls = 0;
    CHECK_OK(kp_session_run(session, program, inputs, count, outputs, kp_model_port_count(model, program, KP_OUTPUT),
                            count_tap, &calls, &error));
    CHECK(calls == kp_model_port_count(model, program, KP_TAP));
  }
  kp_session_close(session);
  kp_model_close(model);
}

/* ---- Wrong arguments ---- */

static void wrong_inputs_are_refused_by_name_with_expected_and_got(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 1);
  static samples s;
  fill_samples(&s);
  kp_tensor outputs[MOST_OUTPUTS], good[2], inputs[2];
  make_inputs(&s, ARITHMETIC, 2, 1, good);
#define REFUSED(program, input_count, status, message)                                            \
  CHECK_FAILS(kp_session_run(session, program, inputs, input_count, outputs,                      \
                             kp_model_port_count(model, program, KP_OUTPUT), NULL, NULL, &error), \
              status, message);                                                                   \
  memcpy(inputs, good, sizeof inputs)
  memcpy(inputs, good, sizeof inputs);
  REFUSED(ARITHMETIC, 1, KP_ERROR_ARGUMENT, "program 'arithmetic': inputs: expected 2, got 1");
  REFUSED(3, 1, KP_ERROR_ARGUMENT, "program: expected less than 3, got 3");
  inputs[1].dtype = KP_I32;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'b': expected dtype f32, got i32");
  inputs[1].shape[0] = 3;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'b': expected shape (N, 4) with N = 2, got (3, 4)");
  inputs[0].shape[1] = 5;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'x': expected shape (N, 4) with N = 2, got (2, 5)");
  inputs[0].rank = 1;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'x': expected shape (N, 4) with N from 1 to 4096, got (2,)");
  inputs[0].rank = 9;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'x': rank: expected 0 to 8, got 9");
  inputs[0].shape[0] = inputs[1].shape[0] = 0;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'x': expected shape (N, 4) with N from 1 to 4096, got (0, 4)");
  inputs[0].shape[0] = inputs[1].shape[0] = 4097;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'x': expected shape (N, 4) with N from 1 to 4096, got (4097, 4)");
  inputs[0].shape[0] = INT64_MIN;
  REFUSED(ARITHMETIC, 2, KP_ERROR_SHAPE, "input 'x': expected shape (N, 4)");
  inputs[0].data = NULL;
  REFUSED(ARITHMETIC, 2, KP_ERROR_ARGUMENT, "input 'x': expected data, got NULL");
  inputs[0].data = (char *)s.x + 2;
  REFUSED(ARITHMETIC, 2, KP_ERROR_ARGUMENT, "input 'x': expected data aligned to 4 bytes");
  inputs[0] = make_tensor(KP_F32, s.image, 4, 1, 3, 16, 16);
  REFUSED(PICTURE, 1, KP_ERROR_SHAPE, "input 'image': expected shape (N, 16, 16, 3)");
  CHECK_FAILS(kp_session_run(session, ARITHMETIC, inputs, 2, outputs, 2, NULL, NULL, &error), KP_ERROR_ARGUMENT,
              "outputs: expected 3, got 2");
#undef REFUSED
  kp_session_close(session);
  kp_model_close(model);
}

static void inputs_that_are_not_finite_are_refused_by_element(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 1);
  static samples s;
  static const float wrong[] = {NAN, INFINITY, -INFINITY};
  kp_tensor outputs[MOST_OUTPUTS];
  for (size_t i = 0; i < 3; i++) {
    fill_samples(&s);
    s.b[5] = wrong[i];
    CHECK_FAILS(run(session, &s, ARITHMETIC, 2, 1, outputs, &error), KP_ERROR_ARGUMENT,
                "input 'b': expected finite numbers");
    CHECK_FAILS(run(session, &s, ARITHMETIC, 2, 1, outputs, &error), KP_ERROR_ARGUMENT, "at element 5");
    s.image[MOST_BATCH * PIXELS - 1] = wrong[i];
    CHECK_FAILS(run(session, &s, PICTURE, MOST_BATCH, 1, outputs, &error), KP_ERROR_ARGUMENT, "at element 3071");
  }
  fill_samples(&s);
  s.b[0] = -1e-45f;
  s.b[1] = 3.4028235e38f;
  CHECK_OK(run(session, &s, ARITHMETIC, 1, 1, outputs, &error));
  kp_session_close(session);
  kp_model_close(model);
}

static void an_index_outside_a_table_names_the_operator(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 1);
  static samples s;
  fill_samples(&s);
  kp_tensor outputs[MOST_OUTPUTS];
  s.ids[2] = 11;
  CHECK_FAILS(run(session, &s, TEXT, 1, 3, outputs, &error), KP_ERROR_ARGUMENT,
              "program 'text': operator 0, embedding 'embed'");
  CHECK_OK(run(session, &s, TEXT, 1, 2, outputs, &error));
  kp_session_close(session);
  kp_model_close(model);
}

/* ---- Costs ---- */

static void costs_count_the_operators_that_run(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 1);
  kp_program_cost cost;
  CHECK_OK(kp_session_cost(session, ARITHMETIC, 2, 1, &cost, &error));
  CHECK(cost.op_count == 3 && cost.macs == 0 && cost.arena_bytes == 64); /* the aliases run nothing; all is in place */
  kp_op_info info;
  CHECK_OK(kp_session_op(session, ARITHMETIC, 2, 1, 1, &info, &error));
  CHECK(strcmp(info.type, "unary") == 0 && strcmp(info.output, "relu") == 0 && info.output_bytes == 32);
  CHECK_FAILS(kp_session_op(session, ARITHMETIC, 2, 1, 3, &info, &error), KP_ERROR_ARGUMENT, "less than 3, got 3");
  CHECK_FAILS(kp_session_cost(session, TEXT, 0, 1, &cost, &error), KP_ERROR_SHAPE, "N: expected 1 to 4096, got 0");
  kp_program_cost one, two;
  CHECK_OK(kp_session_cost(session, PICTURE, 1, 1, &one, &error));
  CHECK_OK(kp_session_cost(session, PICTURE, 2, 1, &two, &error));
  CHECK(one.macs == 64 * 8 * 27 + 64 * 8 * 9 + 64 * 8 * 8 && two.macs == 2 * one.macs);
  kp_session_close(session);
  kp_model_close(model);
}

/* ---- Memory ---- */

static void a_run_with_known_shapes_allocates_nothing(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_model *model = check_open("sample.gguf", &allocator);
  kp_session *session = create_session(model, 2);
  static samples s;
  fill_samples(&s);
  kp_tensor outputs[MOST_OUTPUTS];
  for (int round = 0; round < 3; round++) {
    size_t before = state.total;
    for (size_t program = 0; program < 3; program++) {
      CHECK_OK(run(session, &s, program, 3, 7, outputs, &error));
      CHECK_OK(run(session, &s, program, 1, 2, outputs, &error));
    }
    CHECK(round == 0 || state.total == before);
  }
  kp_session_close(session);
  kp_model_close(model);
  CHECK(state.live == 0 && state.bytes == 0);
}

static void the_plan_used_longest_ago_goes_first(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_model *model = check_open("sample.gguf", &allocator);
  kp_session *session = create_session(model, 1);
  static samples s;
  fill_samples(&s);
  kp_tensor outputs[MOST_OUTPUTS];
  CHECK_OK(run(session, &s, TEXT, 1, MOST_TOKENS, outputs, &error)); /* the arena at its largest */
  for (int64_t t = 1; t <= KP_PLAN_CACHE; t++) CHECK_OK(run(session, &s, TEXT, 1, t, outputs, &error));
  size_t before = state.total;
  CHECK_OK(run(session, &s, TEXT, 1, 1, outputs, &error));
  CHECK(state.total == before);
  CHECK_OK(run(session, &s, TEXT, 1, KP_PLAN_CACHE + 1, outputs, &error)); /* replaces 2, since 1 was used again */
  before = state.total;
  CHECK_OK(run(session, &s, TEXT, 1, 1, outputs, &error));
  CHECK_OK(run(session, &s, TEXT, 1, 3, outputs, &error));
  CHECK(state.total == before);
  CHECK_OK(run(session, &s, TEXT, 1, 2, outputs, &error));
  CHECK(state.total > before);
  kp_session_close(session);
  kp_model_close(model);
}

/* Everything that allocates, from the file to the last result. */
static kp_status do_everything(const kp_allocator *allocator, const char *file, kp_error *error) {
  char path[512];
  static samples s;
  fill_samples(&s);
  kp_model_options options = {.allocator = allocator, .isa = UINT32_MAX};
  kp_model *model = NULL;
  KP_TRY(kp_model_open(check_model_path(file, path), &options, &model, error));
  kp_session *session = NULL;
  kp_status status = kp_session_create(model, 2, &session, error);
  kp_tensor outputs[MOST_OUTPUTS];
  for (size_t program = 0; program < 3 && status == KP_OK; program++) {
    status = run(session, &s, program, 2, 3, outputs, error);
  }
  int32_t ids[16];
  size_t count;
  if (status == KP_OK) status = kp_model_tokenize(model, "hello", 5, ids, 16, &count, error);
  kp_session_close(session);
  kp_model_close(model);
  return status;
}

static void every_allocation_that_fails_is_an_error_and_leaks_nothing(void) {
  check_failing_allocations(do_everything, "sample.gguf", 10);
}

static void a_session_is_usable_after_an_allocation_failed(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_model *model = check_open("sample.gguf", &allocator);
  kp_session *session = create_session(model, 1);
  static samples s;
  fill_samples(&s);
  kp_tensor outputs[MOST_OUTPUTS];
  kp_status status = KP_ERROR_MEMORY;
  size_t failures_seen = 0;
  for (size_t later = 0; status != KP_OK; later++) {
    state.fail_at = state.total + later;
    status = run(session, &s, ARITHMETIC, 1, 1, outputs, NULL);
    CHECK(status == KP_OK || status == KP_ERROR_MEMORY);
    failures_seen += status == KP_ERROR_MEMORY;
  }
  CHECK(failures_seen > 1);
  kp_session_close(session);
  kp_model_close(model);
  CHECK(state.live == 0);
}

static void release_extra(void *data, const kp_allocator *allocator) { kp_free(allocator, data, 1, 100); }

static void a_session_releases_what_a_layer_above_left_in_it(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_model *model = check_open("sample.gguf", &allocator);
  kp_session *session = create_session(model, 1);
  *kp_session_extra_of(session) = (kp_session_extra){kp_calloc(&allocator, 1, 100), release_extra};
  kp_session_close(session);
  kp_model_close(model);
  CHECK(state.live == 0);
}

/* ---- Threads and processes ---- */

static uint64_t digest_of(const kp_tensor *tensor) { /* FNV-1a */
  uint64_t digest = 14695981039346656037u;
  const uint8_t *bytes = tensor->data;
  for (size_t i = 0; i < elements_of(tensor) * kp_dtype_size(tensor->dtype); i++) {
    digest = (digest ^ bytes[i]) * 1099511628211u;
  }
  return digest;
}

static uint64_t run_all(kp_session *session, samples *s, kp_error *error) {
  uint64_t digest = 0;
  kp_tensor outputs[MOST_OUTPUTS];
  for (size_t program = 0; program < 3; program++) {
    if (run(session, s, program, 2, 5, outputs, error) != KP_OK) return 0;
    digest = digest * 31 + digest_of(&outputs[0]);
  }
  return digest;
}

typedef struct caller {
  const kp_model *model;
  samples *inputs;
  uint64_t digests[20];
} caller;

static void *call_model(void *argument) {
  caller *self = argument;
  kp_session *session = NULL;
  if (kp_session_create(self->model, 2, &session, NULL) != KP_OK) return NULL;
  for (int i = 0; i < 20; i++) self->digests[i] = run_all(session, self->inputs, NULL);
  kp_session_close(session);
  return NULL;
}

static void callers_with_a_session_each_get_what_one_gets_alone(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 2);
  static samples s;
  fill_samples(&s);
  uint64_t expected = run_all(session, &s, NULL);
  CHECK(expected != 0);
  enum { CALLERS = 3 };
  static caller callers[CALLERS];
  pthread_t threads[CALLERS];
  for (int i = 0; i < CALLERS; i++) {
    callers[i] = (caller){.model = model, .inputs = &s};
    CHECK(pthread_create(&threads[i], NULL, call_model, &callers[i]) == 0);
  }
  for (int i = 0; i < CALLERS; i++) {
    pthread_join(threads[i], NULL);
    for (int j = 0; j < 20; j++) CHECK(callers[i].digests[j] == expected);
  }
  kp_session_close(session);
  kp_model_close(model);
}

static void a_forked_child_can_run_and_close_its_parents_session(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  kp_session *session = create_session(model, 3);
  static samples s;
  fill_samples(&s);
  uint64_t expected = run_all(session, &s, NULL);
  pid_t child = fork();
  if (child == 0) {
    bool same = run_all(session, &s, NULL) == expected;
    kp_session_close(session);
    kp_model_close(model);
    _exit(same ? 0 : 1);
  }
  int status = -1;
  CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(run_all(session, &s, NULL) == expected);
  kp_session_close(session);
  kp_model_close(model);
}

const check_test session_tests[] = {TEST(arithmetic_gives_the_numbers_that_pen_and_paper_give),
                                    TEST(a_batch_on_several_threads_gives_what_each_item_gives_alone),
                                    TEST(the_hosts_flush_to_zero_changes_no_result_and_stays_set),
                                    TEST(taps_are_called_in_execution_order_with_the_value_of_that_time),
                                    TEST(every_tap_of_every_program_is_called_once),
                                    TEST(wrong_inputs_are_refused_by_name_with_expected_and_got),
                                    TEST(inputs_that_are_not_finite_are_refused_by_element),
                                    TEST(an_index_outside_a_table_names_the_operator),
                                    TEST(costs_count_the_operators_that_run),
                                    TEST(a_run_with_known_shapes_allocates_nothing),
                                    TEST(the_plan_used_longest_ago_goes_first),
                                    TEST(every_allocation_that_fails_is_an_error_and_leaks_nothing),
                                    TEST(a_session_is_usable_after_an_allocation_failed),
                                    TEST(a_session_releases_what_a_layer_above_left_in_it),
                                    TEST(callers_with_a_session_each_get_what_one_gets_alone),
                                    TEST(a_forked_child_can_run_and_close_its_parents_session),
                                    {NULL, NULL}};

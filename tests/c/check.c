#include "check.h"

#include <stdarg.h>
#include <stdlib.h>

#define PRINTED_FAILURES 8

const char *check_models;

static int failures;

void check_failed(const char *file, int line, const char *format, ...) {
  if (failures++ >= PRINTED_FAILURES) return;
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "  %s:%d: ", file, line);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

const char *check_model_path(const char *name, char path[512]) {
  snprintf(path, 512, "%s/%s", check_models, name);
  return path;
}

kp_model *check_open(const char *name, const kp_allocator *allocator) {
  char path[512];
  kp_model *model = NULL;
  kp_model_options options = {.allocator = allocator, .isa = UINT32_MAX};
  CHECK_OK(kp_model_open(check_model_path(name, path), &options, &model, &error));
  return model;
}

static void *counting_alloc(void *context, size_t size, size_t alignment) {
  check_allocator *state = context;
  if (state->total++ == state->fail_at) return NULL;
  kp_allocator malloc_family = kp_default_allocator();
  void *pointer = malloc_family.alloc(NULL, size, alignment);
  if (pointer != NULL) {
    memset(pointer, 0xA5, size); /* what is not written must not matter */
    state->live++;
    state->bytes += size;
  }
  return pointer;
}

static void counting_release(void *context, void *pointer, size_t size) {
  check_allocator *state = context;
  kp_allocator malloc_family = kp_default_allocator();
  malloc_family.release(NULL, pointer, size);
  state->live--;
  state->bytes -= size;
}

kp_allocator check_counting(check_allocator *state) {
  return (kp_allocator){.alloc = counting_alloc, .release = counting_release, .context = state};
}

void check_failing_allocations(check_work *work, const char *file, size_t least) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  CHECK_OK(work(&allocator, file, &error));
  size_t total = state.total;
  CHECK(state.live == 0 && total > least);
  for (size_t fail_at = 0; fail_at < total; fail_at++) {
    state = (check_allocator){.fail_at = fail_at};
    CHECK_FAILS(work(&allocator, file, &error), KP_ERROR_MEMORY, "memory");
    CHECK(state.live == 0 && state.bytes == 0);
  }
}

#if defined(__x86_64__)
uint64_t check_fp_control(void) { return __builtin_ia32_stmxcsr() & ~0x3Fu; }
void check_set_fp_control(uint64_t control) { __builtin_ia32_ldmxcsr((unsigned)control); }
#elif defined(__aarch64__)
uint64_t check_fp_control(void) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  return control;
}
void check_set_fp_control(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control)); }
#endif

uint32_t check_next(check_random *random) {
  uint64_t old = random->state;
  random->state = old * 6364136223846793005u + 1442695040888963407u;
  uint32_t shifted = (uint32_t)(((old >> 18) ^ old) >> 27), turn = (uint32_t)(old >> 59);
  return shifted >> turn | shifted << (-turn & 31);
}

uint32_t check_below(check_random *random, uint32_t bound) { return check_next(random) % bound; }

/* Runs the tests whose name contains `filter`. Returns how many failed. */
static int run_tests(const check_test *tests, const char *filter) {
  int failed = 0;
  for (; tests->name != NULL; tests++) {
    if (filter != NULL && strstr(tests->name, filter) == NULL) continue;
    failures = 0;
    tests->run();
    printf("%s %s\n", failures == 0 ? "ok    " : "FAILED", tests->name);
    fflush(stdout);
    failed += failures != 0;
  }
  return failed;
}

/* ctest_core MODELS [FILTER]: exit code 1 where a test fails. */
int main(int count, char **arguments) {
  if (count < 2) {
    fprintf(stderr, "usage: %s MODELS [FILTER]\n  MODELS: the directory that tests/c/make_models.py wrote\n",
            arguments[0]);
    return 2;
  }
  check_models = arguments[1];
  const char *filter = count > 2 ? arguments[2] : NULL;
  int failed = 0;
  failed += run_tests(base_tests, filter);
  failed += run_tests(notation_tests, filter);
  failed += run_tests(plan_tests, filter);
  failed += run_tests(gguf_tests, filter);
  failed += run_tests(model_tests, filter);
  failed += run_tests(session_tests, filter);
  failed += run_tests(digest_tests, filter);
  failed += run_tests(tokenizer_tests, filter);
  failed += run_tests(encoder_tests, filter);
  return failed == 0 ? 0 : 1;
}

/* The C tests' frame: a test is a function that says what it states; CHECK counts and prints what does not hold. */
#ifndef KP_TESTS_CHECK_H
#define KP_TESTS_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"

typedef struct check_test {
  const char *name;
  void (*run)(void);
} check_test;

#define TEST(function) \
  { #function, function }

/* Reports a failed check; at most a few of each test are printed. */
void check_failed(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define CHECK(condition)                                                           \
  do {                                                                             \
    if (!(condition)) check_failed(__FILE__, __LINE__, "expected %s", #condition); \
  } while (0)

/* The call gives `status`, and its message holds `text`. */
#define CHECK_FAILS(call, expected_status, text)                                                        \
  do {                                                                                                  \
    kp_error error = {.status = KP_OK};                                                                 \
    kp_status got_status = (call);                                                                      \
    if (got_status != (expected_status) || error.status != (expected_status) ||                         \
        strstr(error.message, (text)) == NULL) {                                                        \
      check_failed(__FILE__, __LINE__, "%s: expected %s with '%s', got %s: %s", #call,                  \
                   kp_status_name(expected_status), (text), kp_status_name(got_status), error.message); \
    }                                                                                                   \
  } while (0)

/* The call succeeds. */
#define CHECK_OK(call)                                                                                  \
  do {                                                                                                  \
    kp_error error = {.status = KP_OK};                                                                 \
    kp_status got_status = (call);                                                                      \
    if (got_status != KP_OK) {                                                                          \
      check_failed(__FILE__, __LINE__, "%s: %s: %s", #call, kp_status_name(got_status), error.message); \
    }                                                                                                   \
  } while (0)

/* The directory of the files that make_models.py wrote; NULL where the program was started without. */
extern const char *check_models;

/* "<check_models>/<name>" */
const char *check_model_path(const char *name, char path[512]);

/* A model file of check_models, opened with `allocator` (NULL: malloc) and every level of the processor. */
kp_model *check_open(const char *name, const kp_allocator *allocator);

/* malloc with a count of what is live, and failure at a chosen allocation. */
typedef struct check_allocator {
  size_t live;    /* allocations not released */
  size_t bytes;   /* of them */
  size_t total;   /* allocations so far */
  size_t fail_at; /* the allocation, counted from 0, that gives NULL; SIZE_MAX: none */
} check_allocator;

kp_allocator check_counting(check_allocator *state);

/* Each allocation of `work` on a model file, more than `least`, fails in turn: KP_ERROR_MEMORY, and nothing is left. */
typedef kp_status check_work(const kp_allocator *allocator, const char *file, kp_error *error);
void check_failing_allocations(check_work *work, const char *file, size_t least);

/* The processor's floating-point control word, without sticky flags; and one, as a host may set it, that flushes
 * denormals to zero and rounds towards zero. */
#if defined(__x86_64__)
#define CHECK_HOST_CONTROL (0x1F80u | 0x8040u | 0x6000u)
#elif defined(__aarch64__)
#define CHECK_HOST_CONTROL (1u << 24 | 3u << 22)
#endif
uint64_t check_fp_control(void);
void check_set_fp_control(uint64_t control);

/* A reproducible sequence: PCG-XSH-RR (O'Neill 2014). */
typedef struct check_random {
  uint64_t state;
} check_random;
uint32_t check_next(check_random *random);
uint32_t check_below(check_random *random, uint32_t bound);

extern const check_test base_tests[], notation_tests[], gguf_tests[], plan_tests[], model_tests[], session_tests[],
    digest_tests[], tokenizer_tests[], encoder_tests[];

#endif /* KP_TESTS_CHECK_H */

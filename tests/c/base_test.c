/* csrc/base: messages, memory, sorting, the thread pool, the floating-point environment. */
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fpenv.h"
#include "base/pool.h"
#include "base/sort.h"
#include "check.h"

/* ---- Messages ---- */

static void a_message_that_does_not_fit_ends_at_a_whole_character(void) {
  kp_error error;
  char text[600];
  for (size_t shift = 0; shift < 4; shift++) {
    memset(text, 'a', shift);
    for (size_t i = shift; i + 3 < sizeof text; i += 3) memcpy(text + i, "\xE2\x82\xAC", 4);
    CHECK(kp_fail(&error, KP_ERROR_IO, "%s", text) == KP_ERROR_IO);
    size_t length = strlen(error.message);
    CHECK(length > sizeof error.message - 4 && length < sizeof error.message);
    CHECK((length - shift) % 3 == 0);
  }
}

static void context_goes_before_the_message(void) {
  kp_error error;
  kp_fail(&error, KP_ERROR_SHAPE, "expected %d", 3);
  CHECK(kp_fail_in(&error, KP_ERROR_MODEL, "input '%s'", "x") == KP_ERROR_MODEL);
  CHECK(error.status == KP_ERROR_MODEL && strcmp(error.message, "input 'x': expected 3") == 0);
  CHECK(kp_fail(NULL, KP_ERROR_IO, "x") == KP_ERROR_IO && kp_fail_in(NULL, KP_ERROR_IO, "x") == KP_ERROR_IO);
}

/* ---- Memory ---- */

static void sizes_that_overflow_are_refused(void) {
  size_t result = 7;
  CHECK(!kp_mul_size(SIZE_MAX / 2, 3, &result) && !kp_add_size(SIZE_MAX, 1, &result) && result == 7);
  CHECK(kp_mul_size(SIZE_MAX, 1, &result) && result == SIZE_MAX);
  CHECK(kp_add_size(SIZE_MAX - 1, 1, &result) && result == SIZE_MAX);
  kp_allocator allocator = kp_default_allocator();
  CHECK(kp_calloc(&allocator, SIZE_MAX / 2, 3) == NULL);
  kp_arena arena;
  kp_arena_init(&arena, &allocator);
  CHECK(kp_arena_calloc(&arena, SIZE_MAX / 2, 3) == NULL && kp_arena_calloc(&arena, SIZE_MAX - 20, 1) == NULL);
  kp_arena_release(&arena);
}

static void an_arena_gives_zeroed_disjoint_aligned_memory_and_takes_all_of_it_back(void) {
  check_allocator state = {.fail_at = SIZE_MAX};
  kp_allocator allocator = check_counting(&state);
  kp_arena arena;
  kp_arena_init(&arena, &allocator);
  enum { COUNT = 2000 };
  static uint8_t *pieces[COUNT];
  static size_t sizes[COUNT];
  check_random random = {1};
  for (size_t i = 0; i < COUNT; i++) {
    sizes[i] = check_below(&random, i % 100 == 0 ? 500000 : 300);
    pieces[i] = kp_arena_calloc(&arena, sizes[i], 1);
    CHECK(pieces[i] != NULL && (uintptr_t)pieces[i] % 16 == 0);
    for (size_t j = 0; j < sizes[i]; j++) CHECK(pieces[i][j] == 0);
    memset(pieces[i], (int)(i % 255) + 1, sizes[i]);
  }
  for (size_t i = 0; i < COUNT; i++) {
    for (size_t j = 0; j < sizes[i]; j++) CHECK(pieces[i][j] == i % 255 + 1);
  }
  kp_arena_release(&arena);
  CHECK(state.live == 0 && state.bytes == 0);
}

/* ---- Sorting ---- */

static bool number_less(const void *context, uint32_t a, uint32_t b) {
  const uint32_t *numbers = context;
  return numbers[a] < numbers[b];
}

static void sorted_indices_are_a_permutation_in_ascending_order(void) {
  enum { LARGEST = 300 };
  uint32_t numbers[LARGEST] = {0}, indices[LARGEST];
  check_random random = {2};
  for (size_t count = 0; count < LARGEST; count++) {
    for (size_t i = 0; i < count; i++) numbers[i] = check_below(&random, 100);
    kp_sort_indices(indices, count, number_less, numbers);
    bool seen[LARGEST] = {false};
    for (size_t i = 0; i < count; i++) {
      CHECK(indices[i] < count && !seen[indices[i]]);
      seen[indices[i]] = true;
      CHECK(i == 0 || numbers[indices[i - 1]] <= numbers[indices[i]]);
    }
  }
}

/* ---- The pool ---- */

enum { MOST_TASKS = 1000 };

typedef struct tally {
  atomic_int runs[MOST_TASKS];
  atomic_int threads_seen[KP_MAX_THREADS];
  kp_pool *pool;
} tally;

static void count_task(void *context, size_t task, int thread) {
  tally *counted = context;
  atomic_fetch_add(&counted->runs[task], 1);
  atomic_fetch_add(&counted->threads_seen[thread], 1);
}

static bool each_ran_once(tally *counted, size_t task_count) {
  bool once = true;
  for (size_t i = 0; i < MOST_TASKS; i++) once = once && atomic_load(&counted->runs[i]) == (i < task_count ? 1 : 0);
  return once;
}

static void every_task_runs_exactly_once_at_every_thread_count(void) {
  kp_allocator allocator = kp_default_allocator();
  static const int thread_counts[] = {1, 2, 3, 8};
  for (size_t i = 0; i < sizeof thread_counts / sizeof thread_counts[0]; i++) {
    kp_pool *pool;
    CHECK_OK(kp_pool_create(&allocator, thread_counts[i], &pool, &error));
    CHECK(kp_pool_threads(pool) == thread_counts[i]);
    for (size_t tasks = 0; tasks <= MOST_TASKS; tasks = tasks * 3 / 2 + 1) {
      static tally counted;
      memset(&counted, 0, sizeof counted);
      kp_pool_run(pool, tasks, count_task, &counted);
      CHECK(each_ran_once(&counted, tasks));
      for (int thread = thread_counts[i]; thread < KP_MAX_THREADS; thread++) {
        CHECK(atomic_load(&counted.threads_seen[thread]) == 0);
      }
    }
    kp_pool_close(pool);
  }
}

static void a_missing_pool_runs_serially(void) {
  static tally counted;
  memset(&counted, 0, sizeof counted);
  kp_pool_run(NULL, 10, count_task, &counted);
  CHECK(each_ran_once(&counted, 10) && kp_pool_threads(NULL) == 1);
}

static void add_task(void *context, size_t task, int thread) {
  uint64_t *sums = context; /* plain memory: the pool must order accesses from one job to the next */
  (void)thread;
  sums[task] += task + 1;
}

static void each_job_sees_what_the_job_before_wrote(void) {
  kp_allocator allocator = kp_default_allocator();
  kp_pool *pool;
  CHECK_OK(kp_pool_create(&allocator, 4, &pool, &error));
  enum { JOBS = 20000, TASKS = 7 };
  uint64_t sums[TASKS] = {0};
  for (int job = 0; job < JOBS; job++) {
    kp_pool_run(pool, TASKS, add_task, sums);
    if (job % 1000 == 0) usleep(300); /* long enough for the workers to fall asleep */
  }
  for (size_t task = 0; task < TASKS; task++) CHECK(sums[task] == (task + 1) * JOBS);
  kp_pool_close(pool);
}

static void run_inner_loop(void *context, size_t task, int thread) {
  tally *counted = context;
  (void)task;
  (void)thread;
  kp_pool_run(counted->pool, 10, count_task, counted);
}

static void a_task_may_run_a_loop_of_its_own(void) {
  kp_allocator allocator = kp_default_allocator();
  static tally counted;
  memset(&counted, 0, sizeof counted);
  CHECK_OK(kp_pool_create(&allocator, 3, &counted.pool, &error));
  kp_pool_run(counted.pool, 50, run_inner_loop, &counted);
  for (size_t i = 0; i < 10; i++) CHECK(atomic_load(&counted.runs[i]) == 50);
  kp_pool_close(counted.pool);
}

static void a_forked_child_runs_its_parents_pool_alone(void) {
  kp_allocator allocator = kp_default_allocator();
  static tally counted;
  memset(&counted, 0, sizeof counted);
  kp_pool *pool;
  CHECK_OK(kp_pool_create(&allocator, 4, &pool, &error));
  kp_pool_run(pool, 100, count_task, &counted);
  memset(&counted, 0, sizeof counted);
  pid_t child = fork();
  if (child == 0) {
    kp_pool_run(pool, 100, count_task, &counted);
    bool once = each_ran_once(&counted, 100) && atomic_load(&counted.threads_seen[0]) == 100;
    kp_pool_close(pool);
    _exit(once ? 0 : 1);
  }
  int status = -1;
  CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  kp_pool_run(pool, 100, count_task, &counted);
  CHECK(each_ran_once(&counted, 100));
  kp_pool_close(pool);
}

static void thread_counts_out_of_range_are_refused(void) {
  kp_allocator allocator = kp_default_allocator();
  kp_pool *pool = NULL;
  CHECK_FAILS(kp_pool_create(&allocator, 0, &pool, &error), KP_ERROR_ARGUMENT, "1 to 64, got 0");
  CHECK_FAILS(kp_pool_create(&allocator, 65, &pool, &error), KP_ERROR_ARGUMENT, "1 to 64, got 65");
  CHECK(pool == NULL);
}

/* ---- The floating-point environment ---- */

static volatile float tiny = 1e-39f, third = 3.0f, one = 1.0f;

/* Bits of results that flushing, or another rounding, changes. Not inlined: a compiler moves arithmetic across a change
 * of the environment. */
__attribute__((noinline)) static uint64_t sensitive_bits(void) {
  float kept = tiny * 0.5f, rounded = (one + one) / third;
  uint32_t a, b;
  memcpy(&a, &kept, sizeof a);
  memcpy(&b, &rounded, sizeof b);
  return (uint64_t)a << 32 | b;
}

static void bits_task(void *context, size_t task, int thread) {
  uint64_t *bits = context;
  (void)thread;
  bits[task] = sensitive_bits();
  usleep(100);
}

static void the_hosts_floating_point_environment_changes_nothing_and_is_restored(void) {
  uint64_t original = check_fp_control(), expected = sensitive_bits();
  check_set_fp_control(CHECK_HOST_CONTROL);
  uint64_t flushed = sensitive_bits();
  kp_allocator allocator = kp_default_allocator();
  kp_pool *pool; /* its threads inherit the host's environment */
  CHECK_OK(kp_pool_create(&allocator, 3, &pool, &error));
  kp_fpenv saved = kp_fpenv_enter();
  uint64_t inside = sensitive_bits(), in_tasks[50];
  kp_pool_run(pool, 50, bits_task, in_tasks);
  kp_fpenv_leave(saved);
  uint64_t afterwards = check_fp_control();
  kp_pool_close(pool);
  check_set_fp_control(original);
  CHECK(flushed != expected);
  CHECK(inside == expected);
  CHECK(afterwards == CHECK_HOST_CONTROL);
  for (size_t i = 0; i < 50; i++) CHECK(in_tasks[i] == expected);
}

const check_test base_tests[] = {TEST(a_message_that_does_not_fit_ends_at_a_whole_character),
                                 TEST(context_goes_before_the_message),
                                 TEST(sizes_that_overflow_are_refused),
                                 TEST(an_arena_gives_zeroed_disjoint_aligned_memory_and_takes_all_of_it_back),
                                 TEST(sorted_indices_are_a_permutation_in_ascending_order),
                                 TEST(every_task_runs_exactly_once_at_every_thread_count),
                                 TEST(a_missing_pool_runs_serially),
                                 TEST(each_job_sees_what_the_job_before_wrote),
                                 TEST(a_task_may_run_a_loop_of_its_own),
                                 TEST(a_forked_child_runs_its_parents_pool_alone),
                                 TEST(thread_counts_out_of_range_are_refused),
                                 TEST(the_hosts_floating_point_environment_changes_nothing_and_is_restored),
                                 {NULL, NULL}};

#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/fpenv.h"
#include "base/memory.h"

/* A job is published in one atomic word, `state`: its generation in the upper half, then whether it is open, then how
 * many workers are in it. A worker enters an open job by adding 1 and leaves by subtracting 1; the caller, when no task
 * is left to take, closes the job and waits until no worker is in it. So the caller waits for tasks under way, but
 * never for a worker that has not woken up yet. */
#define STATE_WORKERS 0xFFFFull
#define STATE_OPEN 0x10000ull
#define STATE_GENERATION_SHIFT 32

/* Looks at the awaited word before going to sleep: some tens of microseconds, the distance between two operators. */
#define SPIN_COUNT 1000

typedef struct worker {
  kp_pool *pool;
  int thread; /* 1 and up; 0 is the caller */
  pthread_t handle;
} worker;

struct kp_pool {
  kp_allocator allocator;
  int threads;
  pid_t owner; /* the process that has the workers */
  worker workers[KP_MAX_THREADS - 1];
  int worker_count;

  /* The job. Written by the caller while no worker is in one. */
  kp_task_fn fn;
  void *context;
  size_t task_count;

  pthread_mutex_t mutex;
  pthread_cond_t wake; /* workers: a job, or the end */
  pthread_cond_t idle; /* the caller: no worker is in the job */

  _Alignas(64) atomic_uint_fast64_t state;
  _Alignas(64) atomic_size_t next_task;
  _Alignas(64) atomic_int sleepers; /* workers at, or about to be at, `wake` */
  atomic_bool caller_sleeps;
  atomic_bool running; /* a kp_pool_run is under way */
  atomic_bool stop;
};

static inline void pause_processor(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void run_tasks(kp_pool *pool, int thread) {
  size_t count = pool->task_count;
  for (;;) {
    size_t task = atomic_fetch_add_explicit(&pool->next_task, 1, memory_order_relaxed);
    if (task >= count) return;
    pool->fn(pool->context, task, thread);
  }
}

static bool has_news(kp_pool *pool, uint64_t generation) {
  return atomic_load(&pool->state) >> STATE_GENERATION_SHIFT != generation || atomic_load(&pool->stop);
}

static void wait_for_news(kp_pool *pool, uint64_t generation) {
  for (int i = 0; i < SPIN_COUNT; i++) {
    if (has_news(pool, generation)) return;
    pause_processor();
  }
  /* The caller publishes, then reads `sleepers`; this side does the reverse: one of the two sees the other. */
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->sleepers, 1);
  while (!has_news(pool, generation)) pthread_cond_wait(&pool->wake, &pool->mutex);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->mutex);
}

static void leave_job(kp_pool *pool) {
  uint64_t before = atomic_fetch_sub(&pool->state, 1);
  bool last = (before & STATE_WORKERS) == 1 && (before & STATE_OPEN) == 0;
  if (last && atomic_load(&pool->caller_sleeps)) {
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_signal(&pool->idle);
    pthread_mutex_unlock(&pool->mutex);
  }
}

static void *worker_main(void *argument) {
  const worker *self = argument;
  kp_pool *pool = self->pool;
  kp_fpenv_enter(); /* for the thread's life */
  uint64_t generation = 0;
  for (;;) {
    wait_for_news(pool, generation);
    if (atomic_load(&pool->stop)) return NULL;
    uint_fast64_t state = atomic_load(&pool->state);
    bool entered = false;
    while ((state & STATE_OPEN) != 0 && !entered) {
      entered = atomic_compare_exchange_weak(&pool->state, &state, state + 1);
    }
    generation = state >> STATE_GENERATION_SHIFT;
    if (entered) {
      run_tasks(pool, self->thread);
      leave_job(pool);
    }
  }
}

static void stop_workers(kp_pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  atomic_store(&pool->stop, true);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
  for (int i = 0; i < pool->worker_count; i++) pthread_join(pool->workers[i].handle, NULL);
  pool->worker_count = 0;
}

/* Workers are started with every signal blocked: the host's handlers run on the host's threads. */
static int start_worker(kp_pool *pool) {
  worker *started = &pool->workers[pool->worker_count];
  started->pool = pool;
  started->thread = pool->worker_count + 1;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = pthread_create(&started->handle, NULL, worker_main, started);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failure == 0) pool->worker_count++;
  return failure;
}

kp_status kp_pool_create(const kp_allocator *allocator, int threads, kp_pool **pool, kp_error *error) {
  if (threads < 1 || threads > KP_MAX_THREADS) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "threads: expected 1 to %d, got %d", KP_MAX_THREADS, threads);
  }
  kp_pool *created = kp_calloc(allocator, 1, sizeof *created);
  if (created == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for a thread pool");
  created->allocator = *allocator;
  created->threads = threads;
  created->owner = getpid();
  pthread_mutex_init(&created->mutex, NULL);
  pthread_cond_init(&created->wake, NULL);
  pthread_cond_init(&created->idle, NULL);
  atomic_init(&created->state, 0);
  atomic_init(&created->next_task, 0);
  atomic_init(&created->sleepers, 0);
  atomic_init(&created->caller_sleeps, false);
  atomic_init(&created->running, false);
  atomic_init(&created->stop, false);
  for (int i = 1; i < threads; i++) {
    int failure = start_worker(created);
    if (failure != 0) {
      kp_pool_close(created);
      return kp_fail(error, KP_ERROR_MEMORY, "thread %d of %d cannot be started (error %d)", i + 1, threads, failure);
    }
  }
  *pool = created;
  return KP_OK;
}

void kp_pool_close(kp_pool *pool) {
  if (pool == NULL) return;
  /* In a forked child the workers do not exist, and one of them may have held the mutex: neither is touched. */
  if (getpid() == pool->owner) {
    stop_workers(pool);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
  }
  kp_allocator allocator = pool->allocator;
  kp_free(&allocator, pool, 1, sizeof *pool);
}

int kp_pool_threads(const kp_pool *pool) { return pool != NULL ? pool->threads : 1; }

static void publish_job(kp_pool *pool, size_t task_count, kp_task_fn fn, void *context) {
  pool->fn = fn;
  pool->context = context;
  pool->task_count = task_count;
  atomic_store_explicit(&pool->next_task, 0, memory_order_relaxed);
  uint64_t generation = (atomic_load(&pool->state) >> STATE_GENERATION_SHIFT) + 1;
  atomic_store(&pool->state, generation << STATE_GENERATION_SHIFT | STATE_OPEN);
  if (atomic_load(&pool->sleepers) > 0) {
    pthread_mutex_lock(&pool->mutex);
    size_t wanted = task_count - 1 < (size_t)pool->worker_count ? task_count - 1 : (size_t)pool->worker_count;
    for (size_t i = 0; i < wanted; i++) pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
  }
}

static void close_job(kp_pool *pool) {
  atomic_fetch_and(&pool->state, ~(uint64_t)STATE_OPEN);
  for (int i = 0; i < SPIN_COUNT; i++) {
    if ((atomic_load(&pool->state) & STATE_WORKERS) == 0) return;
    pause_processor();
  }
  pthread_mutex_lock(&pool->mutex);
  atomic_store(&pool->caller_sleeps, true);
  while ((atomic_load(&pool->state) & STATE_WORKERS) != 0) pthread_cond_wait(&pool->idle, &pool->mutex);
  atomic_store(&pool->caller_sleeps, false);
  pthread_mutex_unlock(&pool->mutex);
}

void kp_pool_run(kp_pool *pool, size_t task_count, kp_task_fn fn, void *context) {
  bool parallel = pool != NULL && pool->worker_count > 0 && task_count > 1 && getpid() == pool->owner;
  /* A task that calls kp_pool_run on its own pool finds it running, and does its loop alone. */
  if (!parallel || atomic_exchange(&pool->running, true)) {
    for (size_t task = 0; task < task_count; task++) fn(context, task, 0);
    return;
  }
  publish_job(pool, task_count, fn, context);
  run_tasks(pool, 0);
  close_job(pool);
  atomic_store(&pool->running, false);
}

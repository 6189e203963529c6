/* A thread pool that belongs to one session. */
#ifndef KP_BASE_POOL_H
#define KP_BASE_POOL_H

#include "base/status.h"

typedef struct kp_pool kp_pool;

/* One task of a parallel loop: `task` in [0, task_count), `thread` in [0, kp_pool_threads). */
typedef void (*kp_task_fn)(void *context, size_t task, int thread);

/* `threads` >= 1, the calling thread included: threads - 1 workers are started. A process that forked since has no
 * workers any more: kp_pool_run then runs every task on the calling thread. */
kp_status kp_pool_create(const kp_allocator *allocator, int threads, kp_pool **pool, kp_error *error);
void kp_pool_close(kp_pool *pool);
int kp_pool_threads(const kp_pool *pool);

/* Runs fn(context, task, thread) once for each task and returns when all are done. Tasks are taken in ascending order
 * by whichever thread is free; results must not depend on which. One caller at a time. `pool` may be NULL: serial. */
void kp_pool_run(kp_pool *pool, size_t task_count, kp_task_fn fn, void *context);

#endif /* KP_BASE_POOL_H */

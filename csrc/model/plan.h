/* A plan: a program at concrete N, T and thread count. Every shape known, every tensor given its place in one arena. */
#ifndef KP_MODEL_PLAN_H
#define KP_MODEL_PLAN_H

#include "model/program.h"

typedef struct kp_step {
  const kp_node *node;
  kp_op_call call; /* data pointers NULL; the session fills in copies from `offsets` */
  uint64_t macs;
  size_t scratch_offset;
} kp_step;

typedef struct kp_plan {
  kp_arena arena; /* of this plan's own tables */
  const kp_program *program;
  int64_t n, t;
  kp_step *steps;   /* program->node_count, in execution order */
  kp_shape *shapes; /* by value */
  size_t *offsets;  /* by value: bytes from the start of the run's arena, a multiple of KP_ALIGNMENT;
                       SIZE_MAX: a weight or an input, which lie elsewhere, or an alias of one */
  int32_t *storage; /* by value: the value whose memory it is (itself, but for an alias) */
  size_t run_bytes; /* the run's arena: tensors and scratch at their peak */
  uint64_t macs;
} kp_plan;

/* Makes a plan, whose calls refer to `blas`: shapes (checked against the file's and the operators' rules), liveness, in-place reuse, offsets.
 * Outputs stay alive to the end. Inputs lie in the caller's memory and are never written. */
kp_status kp_plan_create(const kp_program *program, int64_t n, int64_t t, int threads, const kp_blas *blas,
                         const kp_allocator *allocator, kp_plan *plan, kp_error *error);
void kp_plan_release(kp_plan *plan);

#endif /* KP_MODEL_PLAN_H */

/* Writing digests: a line with a hash for every tensor of a run, as docs/digest.md describes. Every function does
 * nothing where the session writes no digest, and allocates nothing. */
#ifndef KP_RUNTIME_DIGEST_H
#define KP_RUNTIME_DIGEST_H

#include "model/plan.h"

/* Where a session's digest goes. */
typedef struct kp_digest {
  kp_write_fn write; /* NULL: none is written */
  void *context;
  size_t count; /* tensors in the section that is open */
} kp_digest;

kp_digest *kp_session_digest(kp_session *session);

/* Opens a section with the line that `format` makes, of at most 255 bytes. */
kp_status kp_digest_begin(kp_digest *digest, kp_error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Closes it. Left out where a run fails, so that the digest says that it is cut short. */
kp_status kp_digest_end(kp_digest *digest, kp_error *error);

/* A tensor of `program` that `op` made from the tensors `inputs`, names joined by commas. It is hashed in `items` equal
 * parts, in which case `tensor` has the shape of one. */
kp_status kp_digest_tensor(kp_digest *digest, const char *program, const char *name, const char *op, const char *inputs,
                           const kp_tensor *tensor, size_t items, kp_error *error);

/* The inputs of a run, the output of its operator `node` (nothing, where that is an alias), and its outputs by their
 * ports' names. `data` is where each value lies. */
kp_status kp_digest_inputs(kp_digest *digest, const kp_plan *plan, void *const *data, kp_error *error);
kp_status kp_digest_output(kp_digest *digest, const kp_plan *plan, const kp_node *node, const void *data,
                           kp_error *error);
kp_status kp_digest_outputs(kp_digest *digest, const kp_plan *plan, void *const *data, kp_error *error);

#endif /* KP_RUNTIME_DIGEST_H */

/* The inside of kp_model and kp_session, for the layers above. */
#ifndef KP_RUNTIME_MODEL_H
#define KP_RUNTIME_MODEL_H

#include "model/plan.h"
#include "text/tokenizer.h"

struct kp_model {
  kp_allocator allocator;
  kp_arena arena; /* everything that lives as long as the model */
  uint8_t *bytes; /* the file, aligned to KP_ALIGNMENT */
  size_t size;
  kp_gguf gguf;
  bool exact; /* int8: see kp_op_call */
  uint32_t isa;
  kp_kernels kernels;
  kp_program *programs;
  size_t program_count;
  kp_tokenizer *tokenizer; /* NULL: none */
};

static inline kp_allocator kp_options_allocator(const kp_model_options *options) {
  return options != NULL && options->allocator != NULL ? *options->allocator : kp_default_allocator();
}

/* Opens a model from `size` bytes that kp_alloc gave from the options' allocator, and takes them over, on
 * failure too. */
kp_status kp_model_open_bytes(uint8_t *bytes, size_t size, const kp_model_options *options, kp_model **model,
                              kp_error *error);

/* The last few plans of a session are kept, least recently used goes first. */
#define KP_PLAN_CACHE 12

const kp_model *kp_session_model(const kp_session *session);
kp_pool *kp_session_pool(kp_session *session);

/* kp_session_run without entering the floating-point environment or checking that float inputs are finite, for callers
 * inside the library that did both. */
kp_status kp_session_run_unchecked(kp_session *session, size_t program, const kp_tensor *inputs, size_t input_count,
                                   kp_tensor *outputs, size_t output_count, kp_tap_fn tap, void *tap_context,
                                   kp_error *error);

/* Where the encoder keeps what it needs between calls: one pointer that the session releases with `release`. */
typedef struct kp_session_extra {
  void *data;
  void (*release)(void *data, const kp_allocator *allocator);
} kp_session_extra;
kp_session_extra *kp_session_extra_of(kp_session *session);

#endif /* KP_RUNTIME_MODEL_H */

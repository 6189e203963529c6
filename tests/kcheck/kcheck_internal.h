/* The state of a run, shared by kcheck's own files. */
#ifndef KCHECK_INTERNAL_H
#define KCHECK_INTERNAL_H

#include "kcheck.h"

#define KC_MAX_BUFFERS 64

/* A mapping: an inaccessible page, `usable` bytes, an inaccessible page. */
typedef struct kc_buffer {
  unsigned char *mapping;
  size_t mapped, usable;
  unsigned char *data;
  size_t bytes;
} kc_buffer;

struct kc {
  kp_kernels reference, tested;
  uint32_t isa;
  const char *slot;
  uint64_t seed, random;
  bool exhaustive;
  char shape[256];
  bool align_to_start; /* this case's buffers begin, not end, at an inaccessible page */
  bool spread;         /* a benchmark */
  kc_buffer buffers[KC_MAX_BUFFERS];
  size_t buffer_count;
  size_t case_count, failure_count;
};

/* Checks the bytes beside each buffer's data and unmaps it. */
void kc_release_buffers(kc *k);

#endif /* KCHECK_INTERNAL_H */

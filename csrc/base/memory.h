/* Allocation: every byte the library takes comes from a kp_allocator, aligned to KP_ALIGNMENT. */
#ifndef KP_BASE_MEMORY_H
#define KP_BASE_MEMORY_H

#include "keypilot/keypilot.h"

#define KP_ALIGNMENT 64

/* malloc's family. */
kp_allocator kp_default_allocator(void);

/* `count * size` zeroed bytes, or NULL where they cannot be had or the product overflows. A count of 0 gives a valid
 * pointer. */
void *kp_calloc(const kp_allocator *allocator, size_t count, size_t size);

/* `size` bytes, not zeroed, or NULL. Release them as kp_free(allocator, pointer, size, 1). */
void *kp_alloc(const kp_allocator *allocator, size_t size);

/* Releases what kp_calloc gave for the same count and size. NULL is allowed. */
void kp_free(const kp_allocator *allocator, void *pointer, size_t count, size_t size);

/* Overflow-safe arithmetic: false where the result does not fit, and *result is then not written. */
bool kp_mul_size(size_t a, size_t b, size_t *result);
bool kp_add_size(size_t a, size_t b, size_t *result);

/* An arena: many allocations that live and die together, in blocks from an allocator. Zeroed memory. */
typedef struct kp_arena_block kp_arena_block;
typedef struct kp_arena {
  kp_allocator allocator;
  kp_arena_block *blocks;
} kp_arena;

void kp_arena_init(kp_arena *arena, const kp_allocator *allocator);
/* `count * size` zeroed bytes aligned to 16, or NULL. */
void *kp_arena_calloc(kp_arena *arena, size_t count, size_t size);
void kp_arena_release(kp_arena *arena);

#endif /* KP_BASE_MEMORY_H */

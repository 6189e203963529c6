#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

static void *malloc_aligned(void *context, size_t size, size_t alignment) {
  (void)context;
  void *pointer = NULL;
  if (alignment < sizeof(void *)) alignment = sizeof(void *); /* posix_memalign's minimum */
  return posix_memalign(&pointer, alignment, size) == 0 ? pointer : NULL;
}

static void free_aligned(void *context, void *pointer, size_t size) {
  (void)context;
  (void)size;
  free(pointer);
}

kp_allocator kp_default_allocator(void) {
  return (kp_allocator){.alloc = malloc_aligned, .release = free_aligned, .context = NULL};
}

bool kp_mul_size(size_t a, size_t b, size_t *result) {
  if (b != 0 && a > SIZE_MAX / b) return false;
  *result = a * b;
  return true;
}

bool kp_add_size(size_t a, size_t b, size_t *result) {
  if (a > SIZE_MAX - b) return false;
  *result = a + b;
  return true;
}

/* An allocator need not accept a size of 0. */
static size_t allocation_bytes(size_t bytes) { return bytes > 0 ? bytes : 1; }

void *kp_alloc(const kp_allocator *allocator, size_t size) {
  return allocator->alloc(allocator->context, allocation_bytes(size), KP_ALIGNMENT);
}

void *kp_calloc(const kp_allocator *allocator, size_t count, size_t size) {
  size_t bytes;
  if (!kp_mul_size(count, size, &bytes)) return NULL;
  void *pointer = kp_alloc(allocator, bytes);
  if (pointer != NULL) memset(pointer, 0, bytes);
  return pointer;
}

void kp_free(const kp_allocator *allocator, void *pointer, size_t count, size_t size) {
  if (pointer != NULL) allocator->release(allocator->context, pointer, allocation_bytes(count * size));
}

/* ---- Arena ---- */

#define ARENA_ALIGNMENT 16
#define FIRST_BLOCK_BYTES ((size_t)4096)
#define LARGEST_BLOCK_BYTES ((size_t)1 << 18) /* blocks double up to this; a larger request gets a block of its own */

struct kp_arena_block {
  kp_arena_block *next;
  size_t size; /* of the whole block, this header included */
  size_t used; /* likewise */
};

#define BLOCK_HEADER_BYTES ((sizeof(kp_arena_block) + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT)

void kp_arena_init(kp_arena *arena, const kp_allocator *allocator) {
  arena->allocator = *allocator;
  arena->blocks = NULL;
}

static kp_arena_block *add_block(kp_arena *arena, size_t bytes) {
  kp_arena_block *first = arena->blocks;
  size_t size = FIRST_BLOCK_BYTES;
  if (first != NULL) size = first->size < LARGEST_BLOCK_BYTES / 2 ? first->size * 2 : LARGEST_BLOCK_BYTES;
  bool own = bytes > size - BLOCK_HEADER_BYTES;
  if (own && !kp_add_size(bytes, BLOCK_HEADER_BYTES, &size)) return NULL;
  kp_arena_block *block = kp_calloc(&arena->allocator, 1, size);
  if (block == NULL) return NULL;
  block->size = size;
  block->used = BLOCK_HEADER_BYTES;
  if (own && first != NULL) { /* behind the first block, whose rest is then still used */
    block->next = first->next;
    first->next = block;
  } else {
    block->next = first;
    arena->blocks = block;
  }
  return block;
}

void *kp_arena_calloc(kp_arena *arena, size_t count, size_t size) {
  size_t bytes;
  if (!kp_mul_size(count, size, &bytes) || !kp_add_size(bytes, ARENA_ALIGNMENT - 1, &bytes)) return NULL;
  bytes = bytes / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
  kp_arena_block *block = arena->blocks;
  if (block == NULL || block->size - block->used < bytes) {
    block = add_block(arena, bytes);
    if (block == NULL) return NULL;
  }
  void *pointer = (char *)block + block->used;
  block->used += bytes;
  return pointer;
}

void kp_arena_release(kp_arena *arena) {
  kp_arena_block *block = arena->blocks;
  arena->blocks = NULL;
  while (block != NULL) {
    kp_arena_block *next = block->next;
    kp_free(&arena->allocator, block, 1, block->size);
    block = next;
  }
}

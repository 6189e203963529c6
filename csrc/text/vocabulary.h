/* Token ids by text. */
#ifndef KP_TEXT_VOCABULARY_H
#define KP_TEXT_VOCABULARY_H

#include "base/memory.h"
#include "base/status.h"
#include "model/gguf.h"

#define KP_MAX_TOKENS (1u << 24)

/* Hash tables are at most half full, so an entry lies this far from its place only where a file was made to have it so:
 * such a file is refused, and no search goes further. */
#define KP_MAX_PROBES 1024u

/* The smallest power of two, 16 or more, that is twice `count`. */
size_t kp_table_size(size_t count);

typedef struct kp_vocabulary_slot {
  uint32_t check; /* of the hash: what its place does not tell */
  uint32_t id;    /* + 1; 0: free */
} kp_vocabulary_slot;

typedef struct kp_vocabulary {
  const kp_string *tokens; /* by id */
  size_t longest;          /* in bytes */
  kp_vocabulary_slot *slots;
  size_t mask;
} kp_vocabulary;

/* FNV-1a (Fowler, Noll, Vo), so that the hash of a text grows with it. */
#define KP_HASH_OF_NOTHING 0xCBF29CE484222325u
static inline uint64_t kp_hash_more(uint64_t hash, const char *data, size_t size) {
  for (size_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)data[i]) * 0x100000001B3u;
  return hash;
}

/* Indexes the tokens, fewer than KP_MAX_TOKENS, but for those marked in `left_out`, by id. `tokens` stays the caller's,
 * and must outlive this. KP_ERROR_MODEL where one occurs twice. */
kp_status kp_vocabulary_create(const kp_string *tokens, size_t count, const bool *left_out, kp_arena *arena,
                               kp_vocabulary *vocabulary, kp_error *error);

/* The id of the token that is `prefix` followed by `text`, or -1. `hash` is that of both together. */
int32_t kp_vocabulary_find(const kp_vocabulary *vocabulary, uint64_t hash, kp_string prefix, const char *text,
                           size_t size);

#endif /* KP_TEXT_VOCABULARY_H */

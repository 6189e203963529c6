/* Byte-pair encoding of one piece: a vocabulary, its merges, and the merging itself (Sennrich et al. 2016,
 * arXiv:1508.07909). */
#ifndef KP_TEXT_BPE_H
#define KP_TEXT_BPE_H

#include "text/vocabulary.h"

typedef struct kp_merge { /* an entry of a hash table; key 0 is free, since a pair's key is never 0: see bpe.c */
  uint64_t key;
  uint32_t rank;
  int32_t id;
} kp_merge;

typedef struct kp_bpe {
  int32_t byte_ids[256]; /* the token of each single byte */
  int32_t last_ids[256]; /* the same at the end of a piece, where CLIP's tokens have a suffix */
  kp_merge *merges;
  size_t mask; /* the table's size, a power of two, less 1 */
} kp_bpe;

/* Builds the tables from tokens in GPT-2's byte-to-character form, and from merges "left right", best first. `suffix`
 * follows the last byte of a piece; it may be empty. Keeps nothing of the vocabulary. */
kp_status kp_bpe_create(const kp_vocabulary *vocabulary, const kp_string *merges, size_t merge_count, kp_string suffix,
                        kp_arena *arena, kp_bpe *bpe, kp_error *error);

/* Appends the ids of `size` >= 1 bytes to `ids`, from *count on, until there are `capacity`. A piece longer than a few
 * hundred bytes takes temporary memory from `allocator`. */
kp_status kp_bpe_encode(const kp_bpe *bpe, const kp_allocator *allocator, const uint8_t *bytes, size_t size,
                        int32_t *ids, size_t capacity, size_t *count, kp_error *error);

#endif /* KP_TEXT_BPE_H */

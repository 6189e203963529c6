#include "text/bpe.h"

#include <string.h>

#include "text/unicode.h"

#define NONE UINT32_MAX

/* ---- Tables ---- */

static uint64_t hash_key(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 32;
}

/* The id of `left` followed by `right`, or -1. */
static int32_t find_pair(const kp_vocabulary *vocabulary, kp_string left, kp_string right) {
  uint64_t hash = kp_hash_more(kp_hash_more(KP_HASH_OF_NOTHING, left.data, left.size), right.data, right.size);
  return kp_vocabulary_find(vocabulary, hash, left, right.data, right.size);
}

/* GPT-2's character for a byte: printable Latin-1 is itself, the 68 others are U+0100 onwards, in order. */
static kp_status find_byte_tokens(const kp_vocabulary *vocabulary, kp_string suffix, int32_t ids[256],
                                  kp_error *error) {
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; byte++) {
    bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    uint8_t text[4];
    size_t size = kp_utf8_encode(text, printable ? byte : next++);
    ids[byte] = find_pair(vocabulary, (kp_string){(const char *)text, size}, suffix);
    if (ids[byte] < 0) {
      return kp_fail(error, KP_ERROR_MODEL,
                     "tokenizer.ggml.tokens: expected a token for each byte%s%s, there is none for 0x%02X",
                     suffix.size > 0 ? " followed by " : "", suffix.data, (unsigned)byte);
    }
  }
  return KP_OK;
}

/* Both ids are below 2^24; the high bit keeps the key from 0. */
static uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t)1 << 63 | (uint64_t)(uint32_t)left << 24 | (uint32_t)right;
}

/* The pair's slot, or a free one; NULL where neither is near. */
static kp_merge *find_slot(const kp_bpe *bpe, uint64_t key) {
  size_t slot = hash_key(key) & bpe->mask;
  for (size_t probe = 0; probe < KP_MAX_PROBES; probe++, slot = (slot + 1) & bpe->mask) {
    if (bpe->merges[slot].key == 0 || bpe->merges[slot].key == key) return &bpe->merges[slot];
  }
  return NULL;
}

static kp_status add_merge(const kp_vocabulary *vocabulary, kp_string merge, uint32_t rank, kp_bpe *bpe,
                           kp_error *error) {
  const kp_string nothing = {"", 0};
  const char *space = memchr(merge.data, ' ', merge.size);
  kp_string left = {merge.data, space == NULL ? 0 : (size_t)(space - merge.data)};
  kp_string right = {merge.data + left.size + 1, space == NULL ? 0 : merge.size - left.size - 1};
  int32_t left_id = -1, right_id = -1, whole = -1;
  if (space != NULL) {
    left_id = find_pair(vocabulary, left, nothing);
    right_id = find_pair(vocabulary, right, nothing);
    whole = find_pair(vocabulary, left, right);
  }
  if (left_id < 0 || right_id < 0 || whole < 0) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "tokenizer.ggml.merges[%u]: expected two tokens that make a third, separated by a space, got '%s'",
                   (unsigned)rank, merge.data);
  }
  uint64_t key = pair_key(left_id, right_id);
  kp_merge *slot = find_slot(bpe, key);
  if (slot == NULL) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.merges[%u]: collides with %u others", (unsigned)rank,
                   KP_MAX_PROBES);
  }
  if (slot->key == key) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.merges[%u]: expected no merge twice, got '%s'",
                   (unsigned)rank, merge.data);
  }
  *slot = (kp_merge){key, rank, whole};
  return KP_OK;
}

kp_status kp_bpe_create(const kp_vocabulary *vocabulary, const kp_string *merges, size_t merge_count, kp_string suffix,
                        kp_arena *arena, kp_bpe *bpe, kp_error *error) {
  if (merge_count >= KP_MAX_TOKENS) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.merges: expected fewer than %u, got %zu", KP_MAX_TOKENS,
                   merge_count);
  }
  KP_TRY(find_byte_tokens(vocabulary, (kp_string){"", 0}, bpe->byte_ids, error));
  KP_TRY(find_byte_tokens(vocabulary, suffix, bpe->last_ids, error));
  size_t size = kp_table_size(merge_count);
  bpe->merges = kp_arena_calloc(arena, size, sizeof *bpe->merges);
  bpe->mask = size - 1;
  if (bpe->merges == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for %zu merges", merge_count);
  for (size_t i = 0; i < merge_count; i++) KP_TRY(add_merge(vocabulary, merges[i], (uint32_t)i, bpe, error));
  return KP_OK;
}

/* ---- Merging ---- */

/* A token of the piece, in a list: merging takes the right one out. */
typedef struct symbol {
  int32_t id;
  uint32_t previous, next; /* NONE at the ends */
} symbol;

/* A pair that can merge. Candidates are ordered by rank, then position; one is stale when its symbols have merged with
 * others since. */
typedef struct candidate {
  uint32_t rank, position;
  int32_t left, right, id;
} candidate;

static bool before(const candidate *a, const candidate *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

typedef struct candidate_heap {
  candidate *items;
  size_t count;
} candidate_heap;

static void heap_push(candidate_heap *heap, candidate item) {
  size_t i = heap->count++;
  for (; i > 0 && before(&item, &heap->items[(i - 1) / 2]); i = (i - 1) / 2) heap->items[i] = heap->items[(i - 1) / 2];
  heap->items[i] = item;
}

static candidate heap_pop(candidate_heap *heap) {
  candidate top = heap->items[0], last = heap->items[--heap->count];
  size_t i = 0;
  for (size_t child = 1; child < heap->count; child = 2 * i + 1) {
    if (child + 1 < heap->count && before(&heap->items[child + 1], &heap->items[child])) child++;
    if (!before(&heap->items[child], &last)) break;
    heap->items[i] = heap->items[child];
    i = child;
  }
  heap->items[i] = last;
  return top;
}

static void push_pair(const kp_bpe *bpe, const symbol *symbols, uint32_t position, candidate_heap *heap) {
  uint32_t next = symbols[position].next;
  if (next == NONE) return;
  const kp_merge *merge = find_slot(bpe, pair_key(symbols[position].id, symbols[next].id));
  if (merge == NULL || merge->key == 0) return;
  heap_push(heap, (candidate){merge->rank, position, symbols[position].id, symbols[next].id, merge->id});
}

/* Merges until no pair is left that can. Each merge takes out one symbol and adds at most two candidates, so the heap
 * holds at most 3 * size of them. */
static void merge_all(const kp_bpe *bpe, symbol *symbols, candidate *candidates, const uint8_t *bytes, size_t size) {
  candidate_heap heap = {candidates, 0};
  for (uint32_t i = 0; i < size; i++) {
    symbols[i] = (symbol){bpe->byte_ids[bytes[i]], i == 0 ? NONE : i - 1, i + 1 == size ? NONE : i + 1};
  }
  symbols[size - 1].id = bpe->last_ids[bytes[size - 1]];
  for (uint32_t i = 0; i < size; i++) push_pair(bpe, symbols, i, &heap);
  while (heap.count > 0) {
    candidate top = heap_pop(&heap);
    symbol *left = &symbols[top.position];
    if (left->id != top.left || left->next == NONE || symbols[left->next].id != top.right) continue;
    symbol *right = &symbols[left->next];
    left->id = top.id;
    right->id = -1; /* candidates that begin there are stale */
    left->next = right->next;
    if (left->next != NONE) symbols[left->next].previous = top.position;
    if (left->previous != NONE) push_pair(bpe, symbols, left->previous, &heap);
    push_pair(bpe, symbols, top.position, &heap);
  }
}

#define STACK_PIECE 192

kp_status kp_bpe_encode(const kp_bpe *bpe, const kp_allocator *allocator, const uint8_t *bytes, size_t size,
                        int32_t *ids, size_t capacity, size_t *count, kp_error *error) {
  symbol stack_symbols[STACK_PIECE];
  candidate stack_candidates[3 * STACK_PIECE];
  symbol *symbols = stack_symbols;
  candidate *candidates = stack_candidates;
  bool large = size > STACK_PIECE;
  if (large) {
    if (size >= NONE / 3) {
      return kp_fail(error, KP_ERROR_ARGUMENT, "text: expected a word of at most %u bytes, got %zu", NONE / 3 - 1,
                     size);
    }
    symbols = kp_calloc(allocator, size, sizeof *symbols);
    candidates = kp_calloc(allocator, 3 * size, sizeof *candidates);
  }
  kp_status status = KP_OK;
  if (symbols == NULL || candidates == NULL) {
    status = kp_fail(error, KP_ERROR_MEMORY, "no memory to encode a word of %zu bytes", size);
  } else {
    merge_all(bpe, symbols, candidates, bytes, size);
    for (uint32_t i = 0; i != NONE && *count < capacity; i = symbols[i].next) ids[(*count)++] = symbols[i].id;
  }
  if (large) {
    kp_free(allocator, symbols, size, sizeof *symbols);
    kp_free(allocator, candidates, 3 * size, sizeof *candidates);
  }
  return status;
}

#include "text/bpe.h"

#include <string.h>

#include "text/unicode.h"

#define MAX_TOKENS (1u << 24)
#define NONE UINT32_MAX

/* Tables are at most half full, so an entry lies this far from its place only where a file was made to have it so: such
 * a file is refused, and no search goes further. */
#define MAX_PROBES 1024u

/* ---- Tables ---- */

static uint64_t hash_bytes(const char *data, size_t size) { /* FNV-1a */
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)data[i]) * 0x100000001B3u;
  return hash ^ hash >> 29;
}

static uint64_t hash_key(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 32;
}

/* Token ids by text, while the tables are built. */
typedef struct token_index {
  const kp_string *tokens;
  uint32_t *slots; /* id + 1; 0: free */
  size_t mask;
} token_index;

static int64_t find_token(const token_index *index, const char *text, size_t size) {
  size_t slot = hash_bytes(text, size) & index->mask;
  for (size_t probe = 0; probe < MAX_PROBES && index->slots[slot] != 0; probe++, slot = (slot + 1) & index->mask) {
    const kp_string *token = &index->tokens[index->slots[slot] - 1];
    if (token->size == size && memcmp(token->data, text, size) == 0) return index->slots[slot] - 1;
  }
  return -1;
}

static size_t table_size(size_t count) {
  size_t size = 16;
  while (size < 2 * count) size *= 2;
  return size;
}

static kp_status build_index(const kp_string *tokens, size_t count, kp_arena *arena, token_index *result,
                             kp_error *error) {
  size_t size = table_size(count);
  *result = (token_index){tokens, kp_arena_calloc(arena, size, sizeof *result->slots), size - 1};
  if (result->slots == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for a vocabulary of %zu tokens", count);
  for (size_t id = 0; id < count; id++) {
    if (find_token(result, tokens[id].data, tokens[id].size) >= 0) {
      return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.tokens[%zu]: expected no token twice, got '%s'", id,
                     tokens[id].data);
    }
    size_t slot = hash_bytes(tokens[id].data, tokens[id].size) & result->mask, probe = 0;
    for (; probe < MAX_PROBES && result->slots[slot] != 0; probe++) slot = (slot + 1) & result->mask;
    if (probe == MAX_PROBES) {
      return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.tokens: token %zu collides with %u others", id, MAX_PROBES);
    }
    result->slots[slot] = (uint32_t)id + 1;
  }
  return KP_OK;
}

/* GPT-2's character for a byte: printable Latin-1 is itself, the 68 others are U+0100 onwards, in order. */
static kp_status find_byte_tokens(const token_index *index, kp_bpe *bpe, kp_error *error) {
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; byte++) {
    bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    uint8_t text[4];
    size_t size = kp_utf8_encode(text, printable ? byte : next++);
    int64_t id = find_token(index, (const char *)text, size);
    if (id < 0) {
      return kp_fail(error, KP_ERROR_MODEL,
                     "tokenizer.ggml.tokens: expected a token for each byte, there is none for 0x%02X", (unsigned)byte);
    }
    bpe->byte_ids[byte] = (int32_t)id;
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
  for (size_t probe = 0; probe < MAX_PROBES; probe++, slot = (slot + 1) & bpe->mask) {
    if (bpe->merges[slot].key == 0 || bpe->merges[slot].key == key) return &bpe->merges[slot];
  }
  return NULL;
}

static kp_status add_merge(const token_index *index, const kp_string *merge, uint32_t rank, char *joined, kp_bpe *bpe,
                           kp_error *error) {
  const char *space = memchr(merge->data, ' ', merge->size);
  size_t left_size = space == NULL ? 0 : (size_t)(space - merge->data);
  size_t right_size = space == NULL ? 0 : merge->size - left_size - 1;
  int64_t left = find_token(index, merge->data, left_size);
  int64_t right = space == NULL ? -1 : find_token(index, space + 1, right_size);
  int64_t whole = -1;
  if (left >= 0 && right >= 0) {
    memcpy(joined, merge->data, left_size);
    memcpy(joined + left_size, space + 1, right_size);
    whole = find_token(index, joined, left_size + right_size);
  }
  if (whole < 0) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "tokenizer.ggml.merges[%u]: expected two tokens that make a third, separated by a space, got '%s'",
                   (unsigned)rank, merge->data);
  }
  uint64_t key = pair_key((int32_t)left, (int32_t)right);
  kp_merge *slot = find_slot(bpe, key);
  if (slot == NULL) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.merges[%u]: collides with %u others", (unsigned)rank,
                   MAX_PROBES);
  }
  if (slot->key == key) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.merges[%u]: expected no merge twice, got '%s'",
                   (unsigned)rank, merge->data);
  }
  *slot = (kp_merge){key, rank, (int32_t)whole};
  return KP_OK;
}

kp_status kp_bpe_create(const kp_string *tokens, size_t token_count, const kp_string *merges, size_t merge_count,
                        kp_arena *arena, kp_bpe *bpe, kp_error *error) {
  if (token_count == 0 || token_count >= MAX_TOKENS) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.tokens: expected 1 to %u tokens, got %zu", MAX_TOKENS - 1,
                   token_count);
  }
  if (merge_count >= MAX_TOKENS) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.merges: expected fewer than %u, got %zu", MAX_TOKENS,
                   merge_count);
  }
  size_t longest = 0;
  for (size_t i = 0; i < merge_count; i++) longest = merges[i].size > longest ? merges[i].size : longest;
  token_index index;
  KP_TRY(build_index(tokens, token_count, arena, &index, error));
  KP_TRY(find_byte_tokens(&index, bpe, error));
  size_t size = table_size(merge_count);
  char *joined = kp_arena_calloc(arena, longest + 1, 1);
  bpe->merges = kp_arena_calloc(arena, size, sizeof *bpe->merges);
  bpe->mask = size - 1;
  if (joined == NULL || bpe->merges == NULL) {
    return kp_fail(error, KP_ERROR_MEMORY, "no memory for %zu merges", merge_count);
  }
  for (size_t i = 0; i < merge_count; i++) {
    KP_TRY(add_merge(&index, &merges[i], (uint32_t)i, joined, bpe, error));
  }
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

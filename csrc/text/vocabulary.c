#include "text/vocabulary.h"

#include <string.h>

size_t kp_table_size(size_t count) {
  size_t size = 16;
  while (size < 2 * count) size *= 2;
  return size;
}

static uint64_t mixed(uint64_t hash) { return hash ^ hash >> 29; }

int32_t kp_vocabulary_find(const kp_vocabulary *vocabulary, uint64_t hash, kp_string prefix, const char *text,
                           size_t size) {
  hash = mixed(hash);
  uint32_t check = (uint32_t)(hash >> 32);
  size_t place = hash & vocabulary->mask;
  for (size_t probe = 0; probe < KP_MAX_PROBES; probe++, place = (place + 1) & vocabulary->mask) {
    const kp_vocabulary_slot *slot = &vocabulary->slots[place];
    if (slot->id == 0) return -1;
    if (slot->check != check) continue;
    const kp_string *token = &vocabulary->tokens[slot->id - 1];
    if (token->size == prefix.size + size && memcmp(token->data, prefix.data, prefix.size) == 0 &&
        memcmp(token->data + prefix.size, text, size) == 0) {
      return (int32_t)(slot->id - 1);
    }
  }
  return -1;
}

static kp_status add_token(kp_vocabulary *vocabulary, size_t id, kp_error *error) {
  const kp_string token = vocabulary->tokens[id], nothing = {"", 0};
  uint64_t hash = kp_hash_more(KP_HASH_OF_NOTHING, token.data, token.size);
  if (kp_vocabulary_find(vocabulary, hash, nothing, token.data, token.size) >= 0) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.tokens[%zu]: expected no token twice, got '%s'", id,
                   token.data);
  }
  hash = mixed(hash);
  size_t place = hash & vocabulary->mask, probe = 0;
  while (probe < KP_MAX_PROBES && vocabulary->slots[place].id != 0) {
    place = (place + 1) & vocabulary->mask;
    probe++;
  }
  if (probe == KP_MAX_PROBES) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.tokens: token %zu collides with %u others", id,
                   KP_MAX_PROBES);
  }
  vocabulary->slots[place] = (kp_vocabulary_slot){(uint32_t)(hash >> 32), (uint32_t)id + 1};
  if (token.size > vocabulary->longest) vocabulary->longest = token.size;
  return KP_OK;
}

kp_status kp_vocabulary_create(const kp_string *tokens, size_t count, const bool *left_out, kp_arena *arena,
                               kp_vocabulary *vocabulary, kp_error *error) {
  size_t size = kp_table_size(count);
  *vocabulary = (kp_vocabulary){
      .tokens = tokens, .slots = kp_arena_calloc(arena, size, sizeof *vocabulary->slots), .mask = size - 1};
  if (vocabulary->slots == NULL) {
    return kp_fail(error, KP_ERROR_MEMORY, "no memory for a vocabulary of %zu tokens", count);
  }
  for (size_t id = 0; id < count; id++) {
    if (!left_out[id]) KP_TRY(add_token(vocabulary, id, error));
  }
  return KP_OK;
}

#include "text/tokenizer.h"

#include <string.h>

#include "text/bpe.h"
#include "text/unicode.h"

#define SPECIAL_COUNT 5

/* A token that is taken from the text as it stands, before anything else happens to it. */
typedef struct special_token {
  uint32_t *codes;
  size_t length;
  int32_t id;
  bool takes_space; /* white space before it belongs to it, as to RoBERTa's <mask> */
} special_token;

struct kp_tokenizer {
  kp_bpe bpe;
  special_token specials[SPECIAL_COUNT];
  int32_t begin, end; /* ids of <s> and </s> */
  uint32_t max_tokens, position_offset;
  size_t vocabulary;
  bool normalizes;
};

/* ---- From the model file ---- */

static kp_status read_special(const kp_gguf *gguf, const char *key, const kp_string *tokens, size_t token_count,
                              kp_arena *arena, special_token *special, kp_error *error) {
  uint32_t id;
  KP_TRY(kp_gguf_u32(gguf, key, &id, error));
  if (id >= token_count || tokens[id].size == 0) {
    return kp_fail(error, KP_ERROR_MODEL, "%s: expected the id of one of %zu tokens, got %u", key, token_count,
                   (unsigned)id);
  }
  special->codes = kp_arena_calloc(arena, tokens[id].size, sizeof *special->codes);
  if (special->codes == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for the tokenizer");
  special->length = kp_utf8_decode(special->codes, (const uint8_t *)tokens[id].data, tokens[id].size);
  special->id = (int32_t)id;
  return KP_OK;
}

static kp_status read_specials(const kp_gguf *gguf, const kp_string *tokens, size_t token_count, kp_arena *arena,
                               kp_tokenizer *tokenizer, kp_error *error) {
  static const char *const keys[SPECIAL_COUNT] = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                                  "tokenizer.ggml.padding_token_id", "tokenizer.ggml.unknown_token_id",
                                                  "tokenizer.ggml.mask_token_id"};
  for (size_t i = 0; i < SPECIAL_COUNT; i++) {
    KP_TRY(read_special(gguf, keys[i], tokens, token_count, arena, &tokenizer->specials[i], error));
  }
  tokenizer->begin = tokenizer->specials[0].id;
  tokenizer->end = tokenizer->specials[1].id;
  tokenizer->specials[SPECIAL_COUNT - 1].takes_space = true;
  return KP_OK;
}

static kp_status read_settings(const kp_gguf *gguf, kp_tokenizer *tokenizer, kp_error *error) {
  const char *normalizer;
  KP_TRY(kp_gguf_string(gguf, "keypilot.tokenizer.normalizer", &normalizer, error));
  tokenizer->normalizes = strcmp(normalizer, "nfc") == 0;
  if (!tokenizer->normalizes && strcmp(normalizer, "none") != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.normalizer: expected nfc or none, got '%s'", normalizer);
  }
  KP_TRY(kp_gguf_u32(gguf, "keypilot.tokenizer.max_tokens", &tokenizer->max_tokens, error));
  KP_TRY(kp_gguf_u32(gguf, "keypilot.tokenizer.position_offset", &tokenizer->position_offset, error));
  if (tokenizer->max_tokens < 2 || tokenizer->max_tokens > 4096) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.max_tokens: expected 2 to 4096, got %u",
                   (unsigned)tokenizer->max_tokens);
  }
  if (tokenizer->position_offset > 4096) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.position_offset: expected 0 to 4096, got %u",
                   (unsigned)tokenizer->position_offset);
  }
  return KP_OK;
}

kp_status kp_tokenizer_create(const kp_gguf *gguf, kp_arena *arena, kp_tokenizer **tokenizer, kp_error *error) {
  *tokenizer = NULL;
  if (kp_gguf_find(gguf, "tokenizer.ggml.model") == NULL) return KP_OK;
  const char *model;
  KP_TRY(kp_gguf_string(gguf, "tokenizer.ggml.model", &model, error));
  if (strcmp(model, "gpt2") != 0) {
    return kp_fail(error, KP_ERROR_UNSUPPORTED, "tokenizer.ggml.model: expected gpt2 (byte-level BPE), got '%s'",
                   model);
  }
  const kp_string *tokens, *merges;
  size_t token_count, merge_count;
  KP_TRY(kp_gguf_strings(gguf, "tokenizer.ggml.tokens", &tokens, &token_count, error));
  KP_TRY(kp_gguf_strings(gguf, "tokenizer.ggml.merges", &merges, &merge_count, error));
  kp_tokenizer *created = kp_arena_calloc(arena, 1, sizeof *created);
  if (created == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for the tokenizer");
  KP_TRY(kp_bpe_create(tokens, token_count, merges, merge_count, arena, &created->bpe, error));
  KP_TRY(read_specials(gguf, tokens, token_count, arena, created, error));
  KP_TRY(read_settings(gguf, created, error));
  created->vocabulary = token_count;
  *tokenizer = created;
  return KP_OK;
}

uint32_t kp_tokenizer_max_tokens(const kp_tokenizer *tokenizer) { return tokenizer->max_tokens; }

uint32_t kp_tokenizer_position_offset(const kp_tokenizer *tokenizer) { return tokenizer->position_offset; }

size_t kp_tokenizer_vocabulary(const kp_tokenizer *tokenizer) { return tokenizer->vocabulary; }

/* ---- Encoding ---- */

/* One text on its way to ids. Ids past `capacity`, where truncation cuts, are not computed. */
typedef struct text_encoding {
  const kp_tokenizer *tokenizer;
  const kp_allocator *allocator;
  uint32_t *normalized, *scratch;
  int32_t *ids;
  size_t capacity, count;
  kp_error *error;
} text_encoding;

/* `count` >= 1. */
static kp_status encode_piece(text_encoding *out, const uint32_t *codes, size_t count) {
  uint8_t stack[512];
  bool large = count > sizeof stack / 4;
  uint8_t *bytes = large ? kp_alloc(out->allocator, 4 * count) : stack;
  if (bytes == NULL) return kp_fail(out->error, KP_ERROR_MEMORY, "no memory to encode a word of %zu characters", count);
  size_t size = 0, i = 0;
  do {
    size += kp_utf8_encode(bytes + size, codes[i]);
  } while (++i < count);
  kp_status status = kp_bpe_encode(&out->tokenizer->bpe, out->allocator, bytes, size, out->ids, out->capacity,
                                   &out->count, out->error);
  if (large) kp_free(out->allocator, bytes, 4 * count, 1);
  return status;
}

/* Text between special tokens. */
static kp_status encode_segment(text_encoding *out, const uint32_t *codes, size_t count) {
  if (out->tokenizer->normalizes) {
    count = kp_nfc(out->normalized, out->scratch, codes, count);
    codes = out->normalized;
  }
  for (size_t i = 0; i < count && out->count < out->capacity;) {
    size_t length = kp_next_piece(codes + i, count - i);
    KP_TRY(encode_piece(out, codes + i, length));
    i += length;
  }
  return KP_OK;
}

/* The longest special token at the start of `codes`, or NULL. */
static const special_token *special_at(const kp_tokenizer *tokenizer, const uint32_t *codes, size_t count) {
  const special_token *longest = NULL;
  for (size_t i = 0; i < SPECIAL_COUNT; i++) {
    const special_token *one = &tokenizer->specials[i];
    if (one->length <= count && codes[0] == one->codes[0] &&
        memcmp(codes, one->codes, one->length * sizeof *codes) == 0 &&
        (longest == NULL || one->length > longest->length)) {
      longest = one;
    }
  }
  return longest;
}

static kp_status encode_text(text_encoding *out, const uint32_t *codes, size_t count) {
  size_t start = 0; /* of the segment */
  for (size_t i = 0; i < count && out->count < out->capacity;) {
    const special_token *found = special_at(out->tokenizer, codes + i, count - i);
    if (found == NULL) {
      i++;
      continue;
    }
    size_t end = i;
    while (found->takes_space && end > start && kp_classify(codes[end - 1]) == KP_SPACE) end--;
    KP_TRY(encode_segment(out, codes + start, end - start));
    if (out->count < out->capacity) out->ids[out->count++] = found->id;
    i += found->length;
    start = i;
  }
  return encode_segment(out, codes + start, count - start);
}

#define STACK_TEXT 512

kp_status kp_tokenizer_encode(const kp_tokenizer *tokenizer, const kp_allocator *allocator, const char *text,
                              size_t size, int32_t *ids, size_t capacity, size_t *count, kp_error *error) {
  if (capacity < 2) return kp_fail(error, KP_ERROR_ARGUMENT, "ids: expected room for 2 or more, got %zu", capacity);
  if (size > UINT32_MAX / 8) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "text: expected at most %u bytes, got %zu", UINT32_MAX / 8, size);
  }
  uint32_t stack[STACK_TEXT + 2 * KP_NFC_ROOM(STACK_TEXT)];
  size_t room = KP_NFC_ROOM(size), total = size + 2 * room;
  bool large = size > STACK_TEXT;
  uint32_t *codes = large ? kp_alloc(allocator, total * sizeof *codes) : stack;
  if (codes == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory to encode a text of %zu bytes", size);
  text_encoding out = {.tokenizer = tokenizer,
                       .allocator = allocator,
                       .normalized = codes + size,
                       .scratch = codes + size + room,
                       .ids = ids,
                       .capacity = tokenizer->max_tokens - 1, /* room for </s> */
                       .error = error};
  if (out.capacity > capacity) out.capacity = capacity;
  ids[out.count++] = tokenizer->begin;
  kp_status status = encode_text(&out, codes, kp_utf8_decode(codes, (const uint8_t *)text, size));
  if (large) kp_free(allocator, codes, total * sizeof *codes, 1);
  if (status != KP_OK) return status;
  if (out.count == capacity) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "ids: expected room for up to %u ids, got %zu",
                   (unsigned)tokenizer->max_tokens, capacity);
  }
  ids[out.count++] = tokenizer->end;
  *count = out.count;
  return KP_OK;
}

#include "text/tokenizer.h"

#include <string.h>

#include "text/added.h"
#include "text/bpe.h"
#include "text/pieces.h"
#include "text/unicode.h"
#include "text/wordpiece.h"

#define MOST_SPECIAL_IDS 16 /* before a text, and after it */

struct kp_tokenizer {
  bool is_wordpiece;
  kp_bpe bpe;
  kp_wordpiece wordpiece;
  kp_normalizer normalizer;
  kp_added added;
  kp_split split;
  bool adds_space; /* before each segment that does not start with one */
  kp_ids prefix, suffix;
  uint32_t max_tokens, position_offset;
  size_t vocabulary;
};

/* ---- Making one ---- */

static kp_status read_split(const kp_tokenizer_spec *spec, kp_tokenizer *tokenizer, kp_error *error) {
  static const char *const names[] = {
      [KP_SPLIT_GPT2] = "gpt-2",
      [KP_SPLIT_CLIP] = "clip",
      [KP_SPLIT_CLIP_SPECIALS] = "clip-specials",
      [KP_SPLIT_BERT] = "bert",
  };
  for (int split = KP_SPLIT_GPT2; split <= KP_SPLIT_BERT; split++) {
    if (strcmp(spec->pre, names[split]) != 0) continue;
    if ((split == KP_SPLIT_BERT) != tokenizer->is_wordpiece) break;
    tokenizer->split = (kp_split)split;
    tokenizer->adds_space = spec->add_space_prefix;
    if (tokenizer->adds_space && split != KP_SPLIT_GPT2) {
      return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.add_space_prefix: expected false with %s", spec->pre);
    }
    return KP_OK;
  }
  return kp_fail(error, KP_ERROR_UNSUPPORTED, "tokenizer.ggml.pre: expected %s, got '%s'",
                 tokenizer->is_wordpiece ? "bert" : "gpt-2, clip or clip-specials", spec->pre);
}

static kp_status check_ids(const char *key, kp_ids ids, size_t token_count, kp_error *error) {
  if (ids.count > MOST_SPECIAL_IDS) {
    return kp_fail(error, KP_ERROR_MODEL, "%s: expected at most %d ids, got %zu", key, MOST_SPECIAL_IDS, ids.count);
  }
  for (size_t i = 0; i < ids.count; i++) {
    if (ids.ids[i] < 0 || (size_t)ids.ids[i] >= token_count) {
      return kp_fail(error, KP_ERROR_MODEL, "%s[%zu]: expected the id of one of %zu tokens, got %d", key, i,
                     token_count, (int)ids.ids[i]);
    }
  }
  return KP_OK;
}

static kp_status create_wordpiece(const kp_tokenizer_spec *spec, kp_arena *arena, kp_tokenizer *tokenizer,
                                  kp_error *error) {
  if (spec->unknown_id >= spec->tokens.count) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "tokenizer.ggml.unknown_token_id: expected the id of one of %zu tokens, got %u", spec->tokens.count,
                   (unsigned)spec->unknown_id);
  }
  if (spec->max_word_characters < 1 || spec->max_word_characters > KP_MOST_WORD_CHARACTERS) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.max_word_characters: expected 1 to %u, got %u",
                   KP_MOST_WORD_CHARACTERS, (unsigned)spec->max_word_characters);
  }
  tokenizer->wordpiece.continuation = spec->continuation;
  tokenizer->wordpiece.unknown_id = (int32_t)spec->unknown_id;
  tokenizer->wordpiece.most_characters = spec->max_word_characters;
  return kp_vocabulary_create(spec->tokens.strings, spec->tokens.count, tokenizer->added.outside, arena,
                              &tokenizer->wordpiece.vocabulary, error);
}

/* Merging needs no texts of tokens: the vocabulary goes when the merges have been read. */
static kp_status create_bpe(const kp_tokenizer_spec *spec, kp_arena *arena, kp_tokenizer *tokenizer, kp_error *error) {
  kp_arena temporary;
  kp_arena_init(&temporary, &arena->allocator);
  kp_vocabulary vocabulary;
  kp_status status = kp_vocabulary_create(spec->tokens.strings, spec->tokens.count, tokenizer->added.outside,
                                          &temporary, &vocabulary, error);
  if (status == KP_OK) {
    status = kp_bpe_create(&vocabulary, spec->merges.strings, spec->merges.count, spec->word_suffix, arena,
                           &tokenizer->bpe, error);
  }
  kp_arena_release(&temporary);
  return status;
}

kp_status kp_tokenizer_create(const kp_tokenizer_spec *spec, kp_arena *arena, kp_tokenizer **tokenizer,
                              kp_error *error) {
  *tokenizer = NULL;
  bool is_wordpiece = strcmp(spec->model, "bert") == 0;
  if (!is_wordpiece && strcmp(spec->model, "gpt2") != 0) {
    return kp_fail(error, KP_ERROR_UNSUPPORTED,
                   "tokenizer.ggml.model: expected gpt2 (byte-level BPE) or bert (WordPiece), got '%s'", spec->model);
  }
  size_t token_count = spec->tokens.count;
  if (token_count == 0 || token_count >= KP_MAX_TOKENS) {
    return kp_fail(error, KP_ERROR_MODEL, "tokenizer.ggml.tokens: expected 1 to %u tokens, got %zu", KP_MAX_TOKENS - 1,
                   token_count);
  }
  kp_tokenizer *created = kp_arena_calloc(arena, 1, sizeof *created);
  if (created == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for the tokenizer");
  created->is_wordpiece = is_wordpiece;
  KP_TRY(read_split(spec, created, error));
  KP_TRY(kp_normalizer_create(spec->normalizer, &created->normalizer, error));
  KP_TRY(kp_added_create(spec->tokens.strings, token_count, spec->added_tokens.ids, spec->added_tokens.count,
                         spec->added_flags.strings, spec->added_flags.count, &created->normalizer, arena,
                         &created->added, error));
  KP_TRY(check_ids("keypilot.tokenizer.prefix", spec->prefix, token_count, error));
  KP_TRY(check_ids("keypilot.tokenizer.suffix", spec->suffix, token_count, error));
  size_t special_count = spec->prefix.count + spec->suffix.count;
  if (spec->max_tokens < 1 || spec->max_tokens < special_count) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.max_tokens: expected %zu or more, got %u",
                   special_count > 0 ? special_count : 1, (unsigned)spec->max_tokens);
  }
  KP_TRY(is_wordpiece ? create_wordpiece(spec, arena, created, error) : create_bpe(spec, arena, created, error));
  created->prefix = spec->prefix;
  created->suffix = spec->suffix;
  created->max_tokens = spec->max_tokens;
  created->position_offset = spec->position_offset;
  created->vocabulary = token_count;
  *tokenizer = created;
  return KP_OK;
}

uint32_t kp_tokenizer_max_tokens(const kp_tokenizer *tokenizer) { return tokenizer->max_tokens; }

uint32_t kp_tokenizer_position_offset(const kp_tokenizer *tokenizer) { return tokenizer->position_offset; }

size_t kp_tokenizer_vocabulary(const kp_tokenizer *tokenizer) { return tokenizer->vocabulary; }

/* An id takes at least a byte of the normalised text, or of a space put before one of its segments. */
size_t kp_tokenizer_most_ids(const kp_tokenizer *tokenizer, size_t size) {
  size_t most = 2 * MOST_SPECIAL_IDS + size;
  if (size >= UINT32_MAX / 16) return tokenizer->max_tokens;
  most += 4 * KP_NORMALIZED_ROOM(size);
  return most < tokenizer->max_tokens ? most : tokenizer->max_tokens;
}

/* ---- Encoding ---- */

/* One text on its way to ids. Ids past `capacity`, where truncation cuts, are not computed. */
typedef struct text_encoding {
  const kp_tokenizer *tokenizer;
  const kp_allocator *allocator;
  uint32_t *a, *b; /* with room for the normalised text, and a space */
  int32_t *ids;
  size_t capacity, count;
  kp_error *error;
} text_encoding;

/* `count` >= 1. */
static kp_status encode_piece(text_encoding *out, const uint32_t *codes, size_t count) {
  if (out->tokenizer->is_wordpiece) {
    kp_wordpiece_encode(&out->tokenizer->wordpiece, codes, count, out->ids, out->capacity, &out->count);
    return KP_OK;
  }
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

/* Normalised text between added tokens. */
static kp_status encode_words(text_encoding *out, const uint32_t *codes, size_t count) {
  if (out->tokenizer->adds_space && codes[0] != ' ') {
    bool in_a = codes >= out->a && codes < out->b;
    uint32_t *spaced = in_a ? out->b : out->a;
    spaced[0] = ' ';
    memcpy(spaced + 1, codes, count++ * sizeof *codes);
    codes = spaced;
  }
  kp_pieces pieces = {.split = out->tokenizer->split, .codes = codes, .count = count};
  size_t start, length;
  while (out->count < out->capacity && kp_pieces_next(&pieces, &start, &length)) {
    KP_TRY(encode_piece(out, codes + start, length));
  }
  return KP_OK;
}

typedef kp_status segment_function(text_encoding *out, const uint32_t *codes, size_t count);

/* Writes the ids of the set's tokens in the text, and has `encode_segment` write those of the text between them. */
static kp_status encode_around(text_encoding *out, const kp_added_set *set, const uint32_t *codes, size_t count,
                               segment_function *encode_segment) {
  size_t start = 0; /* of the segment */
  kp_added_match match = {.next = 0};
  while (out->count < out->capacity && kp_added_find(set, codes, count, match.next, start, &match)) {
    if (match.start > start) KP_TRY(encode_segment(out, codes + start, match.start - start));
    if (out->count < out->capacity) out->ids[out->count++] = match.id;
    start = match.end;
  }
  return start < count && out->count < out->capacity ? encode_segment(out, codes + start, count - start) : KP_OK;
}

/* Text between the added tokens that are found as they stand. */
static kp_status encode_segment(text_encoding *out, const uint32_t *codes, size_t count) {
  codes = kp_normalize(&out->tokenizer->normalizer, out->a, out->b, codes, &count);
  return encode_around(out, &out->tokenizer->added.normalized, codes, count, encode_words);
}

static kp_status add_ids(text_encoding *out, kp_ids ids) {
  if (ids.count > out->capacity - out->count) {
    return kp_fail(out->error, KP_ERROR_ARGUMENT, "ids: expected room for up to %u ids, got %zu",
                   (unsigned)out->tokenizer->max_tokens, out->capacity);
  }
  for (size_t i = 0; i < ids.count; i++) out->ids[out->count++] = ids.ids[i];
  return KP_OK;
}

#define STACK_TEXT 512
#define ROOM_OF(size) (KP_NORMALIZED_ROOM(size) + 1)

kp_status kp_tokenizer_encode(const kp_tokenizer *tokenizer, const kp_allocator *allocator, const char *text,
                              size_t size, int32_t *ids, size_t capacity, size_t *count, kp_error *error) {
  if (size > UINT32_MAX / 8) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "text: expected at most %u bytes, got %zu", UINT32_MAX / 8, size);
  }
  uint32_t stack[STACK_TEXT + 2 * ROOM_OF(STACK_TEXT)];
  size_t room = ROOM_OF(size), total = size + 2 * room;
  bool large = size > STACK_TEXT;
  uint32_t *codes = large ? kp_alloc(allocator, total * sizeof *codes) : stack;
  if (codes == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory to encode a text of %zu bytes", size);
  text_encoding out = {.tokenizer = tokenizer,
                       .allocator = allocator,
                       .a = codes + size,
                       .b = codes + size + room,
                       .ids = ids,
                       .capacity = capacity < tokenizer->max_tokens ? capacity : tokenizer->max_tokens,
                       .error = error};
  kp_status status = add_ids(&out, tokenizer->prefix);
  size_t whole = out.capacity, kept = tokenizer->max_tokens - tokenizer->suffix.count; /* what truncation leaves */
  if (out.capacity > kept) out.capacity = kept;
  if (status == KP_OK) {
    size_t code_count = kp_utf8_decode(codes, (const uint8_t *)text, size);
    status = encode_around(&out, &tokenizer->added.raw, codes, code_count, encode_segment);
  }
  if (large) kp_free(allocator, codes, total * sizeof *codes, 1);
  if (status != KP_OK) return status;
  if (out.count == whole && whole < kept) { /* perhaps there are more */
    return kp_fail(error, KP_ERROR_ARGUMENT, "ids: expected room for up to %u ids, got %zu",
                   (unsigned)tokenizer->max_tokens, capacity);
  }
  out.capacity = whole;
  KP_TRY(add_ids(&out, tokenizer->suffix));
  *count = out.count;
  return KP_OK;
}

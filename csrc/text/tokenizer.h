/* Byte-level BPE (GPT-2, RoBERTa, CLIP) and WordPiece (BERT): normalise, split, encode; equal to Hugging Face
 * `tokenizers` id for id. */
#ifndef KP_TEXT_TOKENIZER_H
#define KP_TEXT_TOKENIZER_H

#include "model/gguf.h"

#define KP_MOST_TOKENS UINT32_MAX /* of kp_tokenizer_spec.max_tokens: no truncation */

/* A list of ids. */
typedef struct kp_ids {
  const int32_t *ids;
  size_t count;
} kp_ids;

typedef struct kp_strings {
  const kp_string *strings;
  size_t count;
} kp_strings;

/* A tokenizer as docs/model-file.md describes it, key by key ("The tokenizer"); nothing of it is trusted. */
typedef struct kp_tokenizer_spec {
  const char *model, *pre, *normalizer;
  kp_strings tokens, merges;
  kp_ids added_tokens;
  kp_strings added_flags;
  kp_ids prefix, suffix;
  bool add_space_prefix;
  kp_string word_suffix, continuation;
  uint32_t unknown_id, max_word_characters;
  uint32_t max_tokens, position_offset;
} kp_tokenizer_spec;

typedef struct kp_tokenizer kp_tokenizer;

/* Immutable afterwards; allocated from `arena`. The strings and arrays of `spec` must live as long. */
kp_status kp_tokenizer_create(const kp_tokenizer_spec *spec, kp_arena *arena, kp_tokenizer **tokenizer,
                              kp_error *error);

/* The tokenizer of a model file. *tokenizer is NULL, and the status KP_OK, where the file has none. */
kp_status kp_tokenizer_read(const kp_gguf *gguf, kp_arena *arena, kp_tokenizer **tokenizer, kp_error *error);

uint32_t kp_tokenizer_max_tokens(const kp_tokenizer *tokenizer);
uint32_t kp_tokenizer_position_offset(const kp_tokenizer *tokenizer);
size_t kp_tokenizer_vocabulary(const kp_tokenizer *tokenizer);

/* No text of `size` bytes has more ids. */
size_t kp_tokenizer_most_ids(const kp_tokenizer *tokenizer, size_t size);

/* The text's ids between the tokenizer's first and last ones (<s> and </s>, [CLS] and [SEP]), truncated to max_tokens
 * as Hugging Face does (longest first, right side, special tokens kept). `text` is any bytes; what is not UTF-8 becomes
 * U+FFFD as in Python's bytes.decode("utf-8", "replace"). Temporary memory comes from `allocator`. `ids` has room for
 * `capacity`; KP_ERROR_ARGUMENT where more are needed. */
kp_status kp_tokenizer_encode(const kp_tokenizer *tokenizer, const kp_allocator *allocator, const char *text,
                              size_t size, int32_t *ids, size_t capacity, size_t *count, kp_error *error);

#endif /* KP_TEXT_TOKENIZER_H */

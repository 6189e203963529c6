/* Byte-level BPE (GPT-2, RoBERTa): normalise, split, merge; equal to Hugging Face `tokenizers` id for id. */
#ifndef KP_TEXT_TOKENIZER_H
#define KP_TEXT_TOKENIZER_H

#include "model/gguf.h"

typedef struct kp_tokenizer kp_tokenizer;

/* Reads the keys of docs/model-file.md, "The tokenizer". *tokenizer is NULL, and the status KP_OK, where the file has
 * none. Immutable afterwards; allocated from `arena`. */
kp_status kp_tokenizer_create(const kp_gguf *gguf, kp_arena *arena, kp_tokenizer **tokenizer, kp_error *error);

uint32_t kp_tokenizer_max_tokens(const kp_tokenizer *tokenizer);
uint32_t kp_tokenizer_position_offset(const kp_tokenizer *tokenizer);
size_t kp_tokenizer_vocabulary(const kp_tokenizer *tokenizer);

/* <s> text </s>, truncated to max_tokens as Hugging Face does (longest first, right side, special tokens kept). `text`
 * is any bytes; what is not UTF-8 becomes U+FFFD as in Python's bytes.decode("utf-8", "replace"). Temporary memory
 * comes from `allocator`. `ids` has room for `capacity`; KP_ERROR_ARGUMENT where more are needed. */
kp_status kp_tokenizer_encode(const kp_tokenizer *tokenizer, const kp_allocator *allocator, const char *text,
                              size_t size, int32_t *ids, size_t capacity, size_t *count, kp_error *error);

#endif /* KP_TEXT_TOKENIZER_H */

/* The tokenizer's keys in a model file. */
#include <string.h>

#include "model/program.h"
#include "text/tokenizer.h"

static kp_status read_strings(const kp_gguf *gguf, const char *key, kp_strings *strings, kp_error *error) {
  return kp_gguf_strings(gguf, key, &strings->strings, &strings->count, error);
}

static kp_status read_ids(const kp_gguf *gguf, kp_arena *arena, const char *key, kp_ids *ids, kp_error *error) {
  return kp_gguf_i32s(gguf, arena, key, &ids->ids, &ids->count, error);
}

/* Empty where the key is absent. */
static kp_status read_text(const kp_gguf *gguf, const char *key, kp_string *text, kp_error *error) {
  *text = (kp_string){"", 0};
  if (kp_gguf_find(gguf, key) == NULL) return KP_OK;
  KP_TRY(kp_gguf_string(gguf, key, &text->data, error));
  text->size = strlen(text->data);
  return KP_OK;
}

static kp_status read_bounded(const kp_gguf *gguf, const char *key, uint32_t least, uint32_t most, uint32_t *value,
                              kp_error *error) {
  KP_TRY(kp_gguf_u32(gguf, key, value, error));
  if (*value >= least && *value <= most) return KP_OK;
  return kp_fail(error, KP_ERROR_MODEL, "%s: expected %u to %u, got %u", key, (unsigned)least, (unsigned)most,
                 (unsigned)*value);
}

/* Keys that only one of the models has. */
static kp_status read_model(const kp_gguf *gguf, kp_tokenizer_spec *spec, kp_error *error) {
  KP_TRY(kp_gguf_string(gguf, "tokenizer.ggml.model", &spec->model, error));
  if (strcmp(spec->model, "bert") == 0) {
    KP_TRY(read_text(gguf, "keypilot.tokenizer.continuation", &spec->continuation, error));
    KP_TRY(kp_gguf_u32(gguf, "keypilot.tokenizer.max_word_characters", &spec->max_word_characters, error));
    return kp_gguf_u32(gguf, "tokenizer.ggml.unknown_token_id", &spec->unknown_id, error);
  }
  if (strcmp(spec->model, "gpt2") != 0) return KP_OK; /* kp_tokenizer_create says what there is */
  KP_TRY(read_text(gguf, "keypilot.tokenizer.word_suffix", &spec->word_suffix, error));
  return read_strings(gguf, "tokenizer.ggml.merges", &spec->merges, error);
}

kp_status kp_tokenizer_read(const kp_gguf *gguf, kp_arena *arena, kp_tokenizer **tokenizer, kp_error *error) {
  *tokenizer = NULL;
  if (kp_gguf_find(gguf, "tokenizer.ggml.model") == NULL) return KP_OK;
  kp_tokenizer_spec spec = {.model = NULL};
  KP_TRY(read_model(gguf, &spec, error));
  KP_TRY(read_strings(gguf, "tokenizer.ggml.tokens", &spec.tokens, error));
  KP_TRY(kp_gguf_string(gguf, "tokenizer.ggml.pre", &spec.pre, error));
  KP_TRY(kp_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &spec.add_space_prefix, error));
  KP_TRY(kp_gguf_string(gguf, "keypilot.tokenizer.normalizer", &spec.normalizer, error));
  KP_TRY(read_ids(gguf, arena, "keypilot.tokenizer.added_tokens", &spec.added_tokens, error));
  KP_TRY(read_strings(gguf, "keypilot.tokenizer.added_tokens.flags", &spec.added_flags, error));
  KP_TRY(read_ids(gguf, arena, "keypilot.tokenizer.prefix", &spec.prefix, error));
  KP_TRY(read_ids(gguf, arena, "keypilot.tokenizer.suffix", &spec.suffix, error));
  KP_TRY(read_bounded(gguf, "keypilot.tokenizer.max_tokens", 1, KP_MAX_SYMBOL, &spec.max_tokens, error));
  KP_TRY(read_bounded(gguf, "keypilot.tokenizer.position_offset", 0, KP_MAX_SYMBOL, &spec.position_offset, error));
  return kp_tokenizer_create(&spec, arena, tokenizer, error);
}

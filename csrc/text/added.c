#include "text/added.h"

#include <string.h>

#include "text/unicode.h"

/* ---- Finding ---- */

static bool is_at(const kp_added_token *token, const uint32_t *codes, size_t count) {
  return token->length <= count && memcmp(codes, token->codes, token->length * sizeof *codes) == 0;
}

/* The longest token that `codes` starts with, the first of those; or NULL. */
static const kp_added_token *longest_at(const kp_added_set *set, const uint32_t *codes, size_t count) {
  if (codes[0] < 128 ? !set->starts[codes[0]] : !set->starts_elsewhere) return NULL;
  const kp_added_token *longest = NULL;
  for (size_t i = 0; i < set->count; i++) {
    const kp_added_token *one = &set->tokens[i];
    if ((longest == NULL || one->length > longest->length) && is_at(one, codes, count)) longest = one;
  }
  return longest;
}

bool kp_added_find(const kp_added_set *set, const uint32_t *codes, size_t count, size_t from, size_t floor,
                   kp_added_match *match) {
  if (set->count == 0) return false;
  const kp_added_token *found = NULL;
  size_t start = from;
  while (start < count && (found = longest_at(set, codes + start, count - start)) == NULL) start++;
  if (found == NULL) return false;
  size_t end = start + found->length;
  match->id = found->id;
  match->next = end;
  while (found->takes_left && start > floor && kp_classify(codes[start - 1]) == KP_SPACE) start--;
  while (found->takes_right && end < count && kp_classify(codes[end]) == KP_SPACE) end++;
  match->start = start;
  match->end = end;
  return true;
}

/* ---- From the model file ---- */

typedef struct added_flags {
  bool takes_left, takes_right, normalized, outside;
} added_flags;

static kp_status parse_flags(kp_string text, size_t index, added_flags *flags, kp_error *error) {
  const struct {
    const char *name;
    bool *flag;
  } words[] = {{"lstrip", &flags->takes_left},
               {"rstrip", &flags->takes_right},
               {"normalized", &flags->normalized},
               {"outside", &flags->outside}};
  for (const char *word = text.data; *word != '\0';) {
    size_t size = strcspn(word, " "), i = 0;
    while (i < 4 && (strlen(words[i].name) != size || memcmp(words[i].name, word, size) != 0)) i++;
    if (i == 4) {
      return kp_fail(error, KP_ERROR_MODEL,
                     "keypilot.tokenizer.added_tokens.flags[%zu]: expected some of lstrip, rstrip, normalized and "
                     "outside, separated by spaces, got '%s'",
                     index, text.data);
    }
    *words[i].flag = true;
    word += size + (word[size] == ' ');
  }
  return KP_OK;
}

/* The token's text as code points, in memory of `arena`. */
static kp_status read_codes(kp_string token, size_t index, const kp_normalizer *normalizer, kp_arena *arena,
                            kp_added_token *added, kp_error *error) {
  if (token.size > UINT32_MAX / 64) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.added_tokens[%zu]: expected at most %u bytes, got %zu",
                   index, UINT32_MAX / 64, token.size);
  }
  size_t room = KP_NORMALIZED_ROOM(token.size);
  uint32_t *codes = kp_arena_calloc(arena, token.size + 2 * room, sizeof *codes);
  if (codes == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for the tokenizer");
  added->length = kp_utf8_decode(codes, (const uint8_t *)token.data, token.size);
  added->codes = codes;
  if (normalizer != NULL) {
    added->codes = kp_normalize(normalizer, codes + token.size, codes + token.size + room, codes, &added->length);
  }
  if (added->length == 0) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "keypilot.tokenizer.added_tokens[%zu]: expected tokens, got one without a text", index);
  }
  return KP_OK;
}

static void add_to_set(kp_added_set *set, kp_added_token token) {
  if (token.codes[0] < 128) {
    set->starts[token.codes[0]] = true;
  } else {
    set->starts_elsewhere = true;
  }
  set->tokens[set->count++] = token;
}

kp_status kp_added_create(const kp_string *tokens, size_t token_count, const int32_t *ids, size_t count,
                          const kp_string *flags, size_t flag_count, const kp_normalizer *normalizer, kp_arena *arena,
                          kp_added *added, kp_error *error) {
  if (count > KP_MOST_ADDED_TOKENS || flag_count != count) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "keypilot.tokenizer.added_tokens: expected at most %u ids and as many flags, got %zu and %zu",
                   KP_MOST_ADDED_TOKENS, count, flag_count);
  }
  added->raw.tokens = kp_arena_calloc(arena, count, sizeof *added->raw.tokens);
  added->normalized.tokens = kp_arena_calloc(arena, count, sizeof *added->normalized.tokens);
  added->outside = kp_arena_calloc(arena, token_count, sizeof *added->outside);
  if (added->raw.tokens == NULL || added->normalized.tokens == NULL || added->outside == NULL) {
    return kp_fail(error, KP_ERROR_MEMORY, "no memory for %zu added tokens", count);
  }
  for (size_t i = 0; i < count; i++) {
    if (ids[i] < 0 || (size_t)ids[i] >= token_count) {
      return kp_fail(error, KP_ERROR_MODEL,
                     "keypilot.tokenizer.added_tokens[%zu]: expected the id of one of %zu tokens, got %d", i,
                     token_count, (int)ids[i]);
    }
    added_flags wanted = {false, false, false, false};
    KP_TRY(parse_flags(flags[i], i, &wanted, error));
    kp_added_token token = {.id = ids[i], .takes_left = wanted.takes_left, .takes_right = wanted.takes_right};
    KP_TRY(read_codes(tokens[ids[i]], i, wanted.normalized ? normalizer : NULL, arena, &token, error));
    add_to_set(wanted.normalized ? &added->normalized : &added->raw, token);
    added->outside[ids[i]] = wanted.outside;
  }
  return KP_OK;
}

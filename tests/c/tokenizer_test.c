/* csrc/text: tokenizers from arrays, and in the sample files. Their ids are compared with `tokenizers` in Python. */
#include "text/tokenizer.h"

#include <stdlib.h>

#include "check.h"

#define STRING(text) \
  { (text), sizeof(text) - 1 }

static const kp_string words[] = {STRING("[UNK]"), STRING("[SEP]"), STRING("hel"),   STRING("##lo"),
                                  STRING("##l"),   STRING("cafe"),  STRING("Hello"), STRING(",")};
static const int32_t added[] = {1, 6};
static const kp_string flags[] = {STRING(""), STRING("normalized outside")};
static const int32_t first[] = {0};

/* Eight tokens, of which Hello is found in lower case before the text is split. */
static kp_tokenizer_spec wordpiece_spec(void) {
  return (kp_tokenizer_spec){.model = "bert",
                             .pre = "bert",
                             .normalizer = "clean,space_ideographs,strip_accents,lowercase",
                             .tokens = {words, 8},
                             .added_tokens = {added, 2},
                             .added_flags = {flags, 2},
                             .suffix = {added, 1},
                             .continuation = STRING("##"),
                             .max_word_characters = 100,
                             .max_tokens = KP_MOST_TOKENS};
}

typedef struct encoded {
  int32_t ids[512];
  size_t count;
} encoded;

static kp_status encode(const kp_tokenizer_spec *spec, const kp_allocator *allocator, const char *text, size_t size,
                        encoded *out, kp_error *error) {
  kp_arena arena;
  kp_arena_init(&arena, allocator);
  kp_tokenizer *tokenizer;
  kp_status status = kp_tokenizer_create(spec, &arena, &tokenizer, error);
  if (status == KP_OK) {
    status = kp_tokenizer_encode(tokenizer, allocator, text, size, out->ids, 512, &out->count, error);
  }
  kp_arena_release(&arena);
  return status;
}

static void check_ids(const kp_tokenizer_spec *spec, const char *text, size_t count, const int32_t *ids) {
  kp_allocator allocator = kp_default_allocator();
  encoded out = {.count = 0};
  CHECK_OK(encode(spec, &allocator, text, strlen(text), &out, &error));
  CHECK(out.count == count && memcmp(out.ids, ids, count * sizeof *ids) == 0);
}

#define CHECK_IDS(spec, text, ...)                               \
  do {                                                           \
    static const int32_t ids[] = {__VA_ARGS__};                  \
    check_ids(&(spec), (text), sizeof ids / sizeof ids[0], ids); \
  } while (0)

static void words_are_the_longest_pieces(void) {
  kp_tokenizer_spec spec = wordpiece_spec();
  CHECK_IDS(spec, "", 1);
  CHECK_IDS(spec, "helllo", 2, 4, 3, 1);
  CHECK_IDS(spec, "Caf\xC3\x89,hel", 5, 7, 2, 1);
  CHECK_IDS(spec, "helx hel", 0, 2, 1);
  CHECK_IDS(spec, "HELlo[SEP]", 6, 1, 1);
  spec.max_word_characters = 3;
  CHECK_IDS(spec, "hel hell", 2, 0, 1);
  spec.max_tokens = 2;
  CHECK_IDS(spec, "hel hel hel", 2, 1);
  spec.prefix = (kp_ids){first, 1};
  CHECK_IDS(spec, "hel hel hel", 0, 1);
}

static void a_token_outside_of_the_vocabulary_is_no_piece_of_a_word(void) {
  kp_tokenizer_spec spec = wordpiece_spec();
  spec.normalizer = "none";
  spec.added_tokens.count = spec.added_flags.count = 1;
  CHECK_IDS(spec, "Hello", 6, 1);
  static const int32_t other[] = {1, 2};
  static const kp_string outside[] = {STRING(""), STRING("outside")};
  spec.added_tokens = (kp_ids){other, 2};
  spec.added_flags = (kp_strings){outside, 2};
  CHECK_IDS(spec, "hel", 2, 1);
  CHECK_IDS(spec, "xhel", 0, 2, 1);
}

static void a_text_that_needs_more_room_is_an_error(void) {
  kp_tokenizer_spec spec = wordpiece_spec();
  kp_allocator allocator = kp_default_allocator();
  kp_arena arena;
  kp_arena_init(&arena, &allocator);
  kp_tokenizer *tokenizer = NULL;
  CHECK_OK(kp_tokenizer_create(&spec, &arena, &tokenizer, &error));
  int32_t ids[4] = {-7, -7, -7, -7};
  size_t count = 0;
  CHECK_OK(kp_tokenizer_encode(tokenizer, &allocator, "hel hel", 7, ids, 4, &count, &error));
  CHECK(count == 3 && ids[2] == 1 && ids[3] == -7);
  for (size_t capacity = 0; capacity < 3; capacity++) {
    ids[capacity] = -7;
    CHECK_FAILS(kp_tokenizer_encode(tokenizer, &allocator, "hel hel", 7, ids, capacity, &count, &error),
                KP_ERROR_ARGUMENT, "ids: expected room");
    CHECK(ids[capacity] == -7);
  }
  kp_arena_release(&arena);
}

static void check_refused(const kp_tokenizer_spec *spec, kp_status status, const char *message) {
  kp_allocator allocator = kp_default_allocator();
  encoded out;
  CHECK_FAILS(encode(spec, &allocator, "", 0, &out, &error), status, message);
}

#define CHECK_REFUSED(change, status, message) \
  do {                                         \
    kp_tokenizer_spec spec = wordpiece_spec(); \
    change;                                    \
    check_refused(&spec, (status), (message)); \
  } while (0)

static void bad_settings_are_refused(void) {
  static const int32_t past[] = {8, 0}, negative[] = {-1};
  static const int32_t many[17] = {0};
  static const kp_string twice[] = {STRING("a"), STRING("b"), STRING("a")};
  static const kp_string unknown_flag[] = {STRING(""), STRING("left")};
  static const kp_string empty[] = {STRING(""), STRING("a")};
  CHECK_REFUSED(spec.model = "llama", KP_ERROR_UNSUPPORTED, "expected gpt2 (byte-level BPE) or bert (WordPiece)");
  CHECK_REFUSED(spec.pre = "gpt-2", KP_ERROR_UNSUPPORTED, "tokenizer.ggml.pre: expected bert, got 'gpt-2'");
  CHECK_REFUSED(spec.model = "gpt2", KP_ERROR_UNSUPPORTED, "expected gpt-2, clip or clip-specials, got 'bert'");
  CHECK_REFUSED((spec.model = "gpt2", spec.pre = "clip"), KP_ERROR_MODEL, "a token for each byte, there is none");
  CHECK_REFUSED(spec.add_space_prefix = true, KP_ERROR_MODEL, "add_space_prefix: expected false with bert");
  CHECK_REFUSED(spec.normalizer = "", KP_ERROR_MODEL, "normalizer: expected none, or some of");
  CHECK_REFUSED(spec.normalizer = "nfc,", KP_ERROR_MODEL, "normalizer: expected none, or some of");
  CHECK_REFUSED(spec.normalizer = "nfc,nfc", KP_ERROR_MODEL, "normalizer: expected no step twice");
  CHECK_REFUSED(spec.tokens.count = 0, KP_ERROR_MODEL, "expected 1 to 16777215 tokens, got 0");
  CHECK_REFUSED(spec.tokens = ((kp_strings){twice, 3}), KP_ERROR_MODEL, "added_tokens[1]: expected the id of one");
  CHECK_REFUSED((spec.tokens = (kp_strings){twice, 3}, spec.added_tokens.count = spec.added_flags.count = 0),
                KP_ERROR_MODEL, "tokens[2]: expected no token twice, got 'a'");
  CHECK_REFUSED(spec.added_flags.count = 1, KP_ERROR_MODEL, "as many flags, got 2 and 1");
  CHECK_REFUSED(spec.added_tokens.ids = past, KP_ERROR_MODEL, "added_tokens[0]: expected the id of one of 8 tokens");
  CHECK_REFUSED(spec.added_flags.strings = unknown_flag, KP_ERROR_MODEL, "flags[1]: expected some of lstrip");
  CHECK_REFUSED(
      (spec.tokens = (kp_strings){empty, 2}, spec.added_tokens = (kp_ids){first, 1}, spec.added_flags.count = 1),
      KP_ERROR_MODEL, "got one without a text");
  CHECK_REFUSED(spec.prefix = ((kp_ids){negative, 1}), KP_ERROR_MODEL, "prefix[0]: expected the id of one");
  CHECK_REFUSED(spec.suffix = ((kp_ids){many, 17}), KP_ERROR_MODEL, "suffix: expected at most 16 ids, got 17");
  CHECK_REFUSED(spec.unknown_id = 8, KP_ERROR_MODEL, "unknown_token_id: expected the id of one of 8 tokens, got 8");
  CHECK_REFUSED(spec.max_word_characters = 0, KP_ERROR_MODEL, "max_word_characters: expected 1 to 1000, got 0");
  CHECK_REFUSED(spec.max_word_characters = 1001, KP_ERROR_MODEL, "max_word_characters: expected 1 to 1000, got 1001");
  CHECK_REFUSED(spec.max_tokens = 0, KP_ERROR_MODEL, "max_tokens: expected 1 or more, got 0");
  CHECK_REFUSED((spec.prefix = (kp_ids){first, 1}, spec.max_tokens = 1), KP_ERROR_MODEL, "expected 2 or more, got 1");
}

/* Long enough for every temporary allocation: text, word, and the lists of its pairs. */
static kp_status tokenize_long(const kp_allocator *allocator, const char *file, kp_error *error) {
  char path[512];
  kp_model_options options = {.allocator = allocator, .isa = UINT32_MAX};
  kp_model *model = NULL;
  KP_TRY(kp_model_open(check_model_path(file, path), &options, &model, error));
  static char text[4000];
  memset(text, 'h', sizeof text);
  int32_t ids[16];
  size_t count;
  kp_status status = kp_model_tokenize(model, text, sizeof text, ids, 16, &count, error);
  if (status == KP_OK && count == 0) status = KP_ERROR_ARGUMENT;
  kp_model_close(model);
  return status;
}

static void an_allocation_that_fails_is_an_error_and_leaks_nothing(void) {
  static const char *const files[] = {"sample.gguf", "wordpiece.gguf", "clip.gguf"};
  for (size_t i = 0; i < 3; i++) check_failing_allocations(tokenize_long, files[i], 4);
}

const check_test tokenizer_tests[] = {TEST(words_are_the_longest_pieces),
                                      TEST(a_token_outside_of_the_vocabulary_is_no_piece_of_a_word),
                                      TEST(a_text_that_needs_more_room_is_an_error),
                                      TEST(bad_settings_are_refused),
                                      TEST(an_allocation_that_fails_is_an_error_and_leaks_nothing),
                                      {NULL, NULL}};

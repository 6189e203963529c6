#include "text/pieces.h"

#include "text/unicode.h"

/* The length of a contraction at an apostrophe, with it; 0: none. Case matters. */
static size_t contraction(const uint32_t *codes, size_t count) {
  if (count >= 2 && (codes[1] == 's' || codes[1] == 't' || codes[1] == 'm' || codes[1] == 'd')) return 2;
  if (count < 3) return 0;
  uint32_t a = codes[1], b = codes[2];
  return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

static size_t run_of(kp_character_class class, const uint32_t *codes, size_t count) {
  size_t length = 0;
  while (length < count && kp_classify(codes[length]) == class) length++;
  return length;
}

static size_t gpt2_length(const uint32_t *codes, size_t count) {
  if (codes[0] == '\'') {
    size_t length = contraction(codes, count);
    if (length > 0) return length;
  }
  size_t space = codes[0] == ' ' && count > 1 && kp_classify(codes[1]) != KP_SPACE;
  kp_character_class class = kp_classify(codes[space]);
  if (class != KP_SPACE) return space + run_of(class, codes + space, count - space);
  /* White space leaves its last character to the word that follows. */
  size_t length = run_of(KP_SPACE, codes, count);
  return length < count && length > 1 ? length - 1 : length;
}

static bool starts_with(const char *text, const uint32_t *codes, size_t count) {
  size_t i = 0;
  while (text[i] != '\0' && i < count && codes[i] == (uint8_t)text[i]) i++;
  return text[i] == '\0';
}

/* `codes` does not start with white space. */
static size_t clip_length(kp_pieces *pieces, const uint32_t *codes, size_t count) {
  if (pieces->split == KP_SPLIT_CLIP_SPECIALS && codes[0] == '<' && pieces->next >= pieces->special_end) {
    if (starts_with("<|startoftext|>", codes, count)) pieces->special_end = pieces->next + 15;
    if (starts_with("<|endoftext|>", codes, count)) pieces->special_end = pieces->next + 13;
  }
  if (pieces->next < pieces->special_end) count = pieces->special_end - pieces->next;
  if (codes[0] == '\'') {
    size_t length = contraction(codes, count);
    if (length > 0) return length;
  }
  kp_character_class class = kp_classify(codes[0]);
  return class == KP_NUMBER ? 1 : run_of(class, codes, count);
}

static bool divides(kp_bert_class class) { return class == KP_BERT_SPACE || class == KP_BERT_CONTROL_SPACE; }

/* `codes` does not start with white space. */
static size_t bert_length(const uint32_t *codes, size_t count) {
  if (kp_classify_for_bert(codes[0]) == KP_BERT_PUNCTUATION) return 1;
  size_t length = 1;
  for (; length < count; length++) {
    kp_bert_class class = kp_classify_for_bert(codes[length]);
    if (divides(class) || class == KP_BERT_PUNCTUATION) break;
  }
  return length;
}

static bool is_left_out(kp_split split, uint32_t code) {
  if (split == KP_SPLIT_GPT2) return false;
  return split == KP_SPLIT_BERT ? divides(kp_classify_for_bert(code)) : kp_classify(code) == KP_SPACE;
}

bool kp_pieces_next(kp_pieces *pieces, size_t *start, size_t *length) {
  while (pieces->next < pieces->count && is_left_out(pieces->split, pieces->codes[pieces->next])) pieces->next++;
  if (pieces->next == pieces->count) return false;
  const uint32_t *codes = pieces->codes + pieces->next;
  size_t count = pieces->count - pieces->next;
  *start = pieces->next;
  switch (pieces->split) {
    case KP_SPLIT_GPT2:
      *length = gpt2_length(codes, count);
      break;
    case KP_SPLIT_CLIP:
    case KP_SPLIT_CLIP_SPECIALS:
      *length = clip_length(pieces, codes, count);
      break;
    case KP_SPLIT_BERT:
      *length = bert_length(codes, count);
      break;
  }
  pieces->next += *length;
  return true;
}

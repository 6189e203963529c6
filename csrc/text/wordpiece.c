#include "text/wordpiece.h"

#include "text/unicode.h"

/* A word in UTF-8; ends[i] is where its character i ends. */
typedef struct word {
  char bytes[4 * KP_MOST_WORD_CHARACTERS];
  uint16_t ends[KP_MOST_WORD_CHARACTERS];
  size_t count;
} word;

static size_t begin_of(const word *text, size_t character) { return character == 0 ? 0 : text->ends[character - 1]; }

/* The longest token at the word's character *start, which moves on past it; or -1. */
static int32_t longest_token(const kp_wordpiece *wordpiece, const word *text, size_t *start) {
  uint64_t hashes[KP_MOST_WORD_CHARACTERS]; /* of the text up to each character's end */
  const kp_string prefix = *start == 0 ? (kp_string){"", 0} : wordpiece->continuation;
  uint64_t hash = kp_hash_more(KP_HASH_OF_NOTHING, prefix.data, prefix.size);
  size_t begin = begin_of(text, *start), end = *start;
  for (; end < text->count && prefix.size + text->ends[end] - begin <= wordpiece->vocabulary.longest; end++) {
    size_t from = begin_of(text, end);
    hash = kp_hash_more(hash, text->bytes + from, text->ends[end] - from);
    hashes[end] = hash;
  }
  for (; end > *start; end--) {
    int32_t id = kp_vocabulary_find(&wordpiece->vocabulary, hashes[end - 1], prefix, text->bytes + begin,
                                    text->ends[end - 1] - begin);
    if (id >= 0) {
      *start = end;
      return id;
    }
  }
  return -1;
}

void kp_wordpiece_encode(const kp_wordpiece *wordpiece, const uint32_t *codes, size_t count, int32_t *ids,
                         size_t capacity, size_t *written) {
  if (*written >= capacity) return;
  size_t first = *written, kept = first; /* a word that turns out to be unknown takes its tokens back */
  bool known = count <= wordpiece->most_characters;
  if (known) {
    word text;
    text.count = count;
    for (size_t i = 0, size = 0; i < count; i++) {
      size += kp_utf8_encode((uint8_t *)text.bytes + size, codes[i]);
      text.ends[i] = (uint16_t)size;
    }
    for (size_t start = 0; start < count && known;) {
      int32_t id = longest_token(wordpiece, &text, &start);
      known = id >= 0;
      if (known && kept < capacity) ids[kept++] = id;
    }
  }
  if (!known) {
    kept = first;
    ids[kept++] = wordpiece->unknown_id;
  }
  *written = kept;
}

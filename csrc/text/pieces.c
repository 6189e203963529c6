#include <stdbool.h>

#include "text/unicode.h"
#include "text/unicode_tables.h"

kp_character_class kp_classify(uint32_t code) {
  uint8_t four = kp_class_blocks[64 * kp_class_index[code >> 8] + (code >> 2 & 63)];
  return (kp_character_class)(four >> 2 * (code & 3) & 3);
}

/* The length of a contraction after an apostrophe, with it; 0: none. Case matters. */
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

size_t kp_next_piece(const uint32_t *codes, size_t count) {
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

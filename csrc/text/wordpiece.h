/* WordPiece (Wu et al. 2016, arXiv:1609.08144), as BERT has it: the longest token that a word starts with, then the
 * longest continuation of what is left, and so on. */
#ifndef KP_TEXT_WORDPIECE_H
#define KP_TEXT_WORDPIECE_H

#include "text/vocabulary.h"

#define KP_MOST_WORD_CHARACTERS 1000u

typedef struct kp_wordpiece {
  kp_vocabulary vocabulary;
  kp_string continuation; /* what tokens inside a word start with */
  int32_t unknown_id;
  size_t most_characters; /* a longer word is unknown; at most KP_MOST_WORD_CHARACTERS */
} kp_wordpiece;

/* Appends the ids of a word of `count` >= 1 code points to `ids`, from *written on, until there are `capacity`; the
 * unknown token's where the word is no sequence of tokens. */
void kp_wordpiece_encode(const kp_wordpiece *wordpiece, const uint32_t *codes, size_t count, int32_t *ids,
                         size_t capacity, size_t *written);

#endif /* KP_TEXT_WORDPIECE_H */

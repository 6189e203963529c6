/* The split of a normalised text into pieces, which the model encodes one by one. */
#ifndef KP_TEXT_PIECES_H
#define KP_TEXT_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum kp_split {
  /* GPT-2's pattern (Radford et al. 2019):
   * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
  KP_SPLIT_GPT2,
  /* CLIP's (Radford et al. 2021), without what no alternative takes: 's|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+ */
  KP_SPLIT_CLIP,
  /* The same, with <|startoftext|> and <|endoftext|> as first alternatives; each then falls into three pieces. */
  KP_SPLIT_CLIP_SPECIALS,
  /* BERT's: white space divides, punctuation is a piece for itself. */
  KP_SPLIT_BERT
} kp_split;

/* The pieces of a text, one after another. Zeroed but for the first three. */
typedef struct kp_pieces {
  kp_split split;
  const uint32_t *codes;
  size_t count;
  size_t next;        /* where the next piece is looked for */
  size_t special_end; /* no piece crosses the end of a <|...|> that it starts in */
} kp_pieces;

/* Moves on to the next piece: codes[*start], `*length` >= 1 of them. False at the end. */
bool kp_pieces_next(kp_pieces *pieces, size_t *start, size_t *length);

#endif /* KP_TEXT_PIECES_H */

/* Added tokens: found in the text before it is split into pieces, special ones among them. */
#ifndef KP_TEXT_ADDED_H
#define KP_TEXT_ADDED_H

#include "text/normalizer.h"
#include "text/vocabulary.h"

#define KP_MOST_ADDED_TOKENS 1024u

typedef struct kp_added_token {
  const uint32_t *codes;
  size_t length;
  int32_t id;
  bool takes_left, takes_right; /* white space on that side belongs to it */
} kp_added_token;

typedef struct kp_added_set {
  kp_added_token *tokens;
  size_t count;
  bool starts[128];      /* whether one starts with this character */
  bool starts_elsewhere; /* with one beyond these */
} kp_added_set;

typedef struct kp_added {
  kp_added_set raw;        /* found in the text as it stands */
  kp_added_set normalized; /* found, in their normalised form, in what is between those, normalised */
  bool *outside;           /* by id: an added token that is not in the model's own vocabulary */
} kp_added;

/* Where an added token was found. */
typedef struct kp_added_match {
  size_t start, end; /* with the white space that it takes */
  size_t next;       /* where to look for the next one */
  int32_t id;
} kp_added_match;

/* `flags` has for each id the words "lstrip", "rstrip", "normalized" and "outside" that apply, separated by spaces. */
kp_status kp_added_create(const kp_string *tokens, size_t token_count, const int32_t *ids, size_t count,
                          const kp_string *flags, size_t flag_count, const kp_normalizer *normalizer, kp_arena *arena,
                          kp_added *added, kp_error *error);

/* Finds the first token of the set from codes[from] on, the longest at its place. The white space on its left reaches
 * no further back than `floor`. */
bool kp_added_find(const kp_added_set *set, const uint32_t *codes, size_t count, size_t from, size_t floor,
                   kp_added_match *match);

#endif /* KP_TEXT_ADDED_H */

/* What happens to a text before it is split: a list of steps, each once at most. */
#ifndef KP_TEXT_NORMALIZER_H
#define KP_TEXT_NORMALIZER_H

#include "base/status.h"

typedef enum kp_normalizer_step {
  KP_STEP_NFC,
  KP_STEP_COLLAPSE_SPACES,  /* each run of white space becomes one space */
  KP_STEP_LOWERCASE,        /* each character for itself: no rule looks at its neighbours */
  KP_STEP_CLEAN,            /* BERT: control characters go, white space becomes spaces */
  KP_STEP_SPACE_IDEOGRAPHS, /* BERT: a space on either side of each ideograph */
  KP_STEP_STRIP_ACCENTS,    /* BERT: normalisation form D without nonspacing marks */
  KP_STEP_COUNT
} kp_normalizer_step;

typedef struct kp_normalizer {
  uint8_t steps[KP_STEP_COUNT];
  size_t count;
} kp_normalizer;

/* From "none", or the steps' names in their order, separated by commas: "nfc,collapse_spaces,lowercase". */
kp_status kp_normalizer_create(const char *names, kp_normalizer *normalizer, kp_error *error);

/* Returns the normalised text, *count code points: `src` itself, or in `a` or `b`, which have KP_NORMALIZED_ROOM of the
 * UTF-8 that `src` came from. The three do not overlap. */
const uint32_t *kp_normalize(const kp_normalizer *normalizer, uint32_t *a, uint32_t *b, const uint32_t *src,
                             size_t *count);

#endif /* KP_TEXT_NORMALIZER_H */

#include "text/normalizer.h"

#include <string.h>

#include "text/unicode.h"
#include "text/unicode_tables.h"

static const char *const names_of_steps[KP_STEP_COUNT] = {"nfc",   "collapse_spaces",  "lowercase",
                                                          "clean", "space_ideographs", "strip_accents"};

/* ---- Steps: each writes to `dst`, and returns the number of code points ---- */

/* U+0130, capital I with a dot above, is the only character whose lower case is two. */
#define DOTTED_I 0x130u

static uint32_t lower(uint32_t code) {
  if (code < 0x80) return code - 'A' < 26 ? code + ('a' - 'A') : code;
  size_t low = 0, high = kp_lowercase_count; /* the last range that starts at or before `code` is in [low, high) */
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if ((uint32_t)kp_lowercase[4 * middle] <= code) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const int32_t *range = kp_lowercase + 4 * low;
  int32_t offset = (int32_t)code - range[0];
  bool inside = offset >= 0 && (int32_t)code <= range[1] && offset % range[2] == 0;
  return inside ? (uint32_t)((int32_t)code + range[3]) : code;
}

static size_t lowercase(uint32_t *dst, const uint32_t *src, size_t count) {
  size_t length = 0;
  for (size_t i = 0; i < count; i++) {
    if (src[i] == DOTTED_I) {
      dst[length++] = 'i';
      dst[length++] = 0x307; /* combining dot above */
    } else {
      dst[length++] = lower(src[i]);
    }
  }
  return length;
}

static size_t collapse_spaces(uint32_t *dst, const uint32_t *src, size_t count) {
  size_t length = 0;
  for (size_t i = 0; i < count; i++) {
    if (kp_classify(src[i]) != KP_SPACE) {
      dst[length++] = src[i];
    } else if (i == 0 || kp_classify(src[i - 1]) != KP_SPACE) {
      dst[length++] = ' ';
    }
  }
  return length;
}

static size_t clean(uint32_t *dst, const uint32_t *src, size_t count) {
  size_t length = 0;
  for (size_t i = 0; i < count; i++) {
    kp_bert_class class = kp_classify_for_bert(src[i]);
    if (class == KP_BERT_CONTROL || class == KP_BERT_CONTROL_SPACE) continue;
    dst[length++] = class == KP_BERT_SPACE ? ' ' : src[i];
  }
  return length;
}

static size_t space_ideographs(uint32_t *dst, const uint32_t *src, size_t count) {
  size_t length = 0;
  for (size_t i = 0; i < count; i++) {
    bool ideograph = kp_classify_for_bert(src[i]) == KP_BERT_IDEOGRAPH;
    if (ideograph) dst[length++] = ' ';
    dst[length++] = src[i];
    if (ideograph) dst[length++] = ' ';
  }
  return length;
}

static size_t strip_accents(uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count) {
  size_t decomposed = kp_nfd(dst, scratch, src, count), length = 0;
  for (size_t i = 0; i < decomposed; i++) {
    if (kp_classify_for_bert(dst[i]) != KP_BERT_MARK) dst[length++] = dst[i];
  }
  return length;
}

static size_t run_step(kp_normalizer_step step, uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count) {
  switch (step) {
    case KP_STEP_NFC:
      return kp_nfc(dst, scratch, src, count);
    case KP_STEP_COLLAPSE_SPACES:
      return collapse_spaces(dst, src, count);
    case KP_STEP_LOWERCASE:
      return lowercase(dst, src, count);
    case KP_STEP_CLEAN:
      return clean(dst, src, count);
    case KP_STEP_SPACE_IDEOGRAPHS:
      return space_ideographs(dst, src, count);
    case KP_STEP_STRIP_ACCENTS:
      return strip_accents(dst, scratch, src, count);
    case KP_STEP_COUNT:
      break;
  }
  return 0;
}

/* ---- Lists of steps ---- */

static kp_status add_step(const char *names, const char *name, size_t size, kp_normalizer *normalizer,
                          kp_error *error) {
  for (uint8_t step = 0; step < KP_STEP_COUNT; step++) {
    if (strlen(names_of_steps[step]) != size || memcmp(names_of_steps[step], name, size) != 0) continue;
    if (memchr(normalizer->steps, step, normalizer->count) != NULL) {
      return kp_fail(error, KP_ERROR_MODEL, "keypilot.tokenizer.normalizer: expected no step twice, got '%s'", names);
    }
    normalizer->steps[normalizer->count++] = step;
    return KP_OK;
  }
  return kp_fail(error, KP_ERROR_MODEL,
                 "keypilot.tokenizer.normalizer: expected none, or some of nfc, collapse_spaces, lowercase, clean, "
                 "space_ideographs and strip_accents, separated by commas, got '%s'",
                 names);
}

kp_status kp_normalizer_create(const char *names, kp_normalizer *normalizer, kp_error *error) {
  normalizer->count = 0;
  if (strcmp(names, "none") == 0) return KP_OK;
  for (const char *name = names;;) {
    size_t size = strcspn(name, ",");
    KP_TRY(add_step(names, name, size, normalizer, error));
    if (name[size] == '\0') return KP_OK;
    name += size + 1;
  }
}

const uint32_t *kp_normalize(const kp_normalizer *normalizer, uint32_t *a, uint32_t *b, const uint32_t *src,
                             size_t *count) {
  for (size_t i = 0; i < normalizer->count; i++) {
    uint32_t *dst = src == a ? b : a;
    *count = run_step((kp_normalizer_step)normalizer->steps[i], dst, dst == a ? b : a, src, *count);
    src = dst;
  }
  return src;
}

/* Normalisation forms D and C: decompose, put marks in canonical order, compose (Unicode Standard Annex #15). */
#include <stdbool.h>
#include <string.h>

#include "text/unicode.h"
#include "text/unicode_tables.h"

/* Below these, no code point decomposes, and none is changed by form C. */
#define FIRST_DECOMPOSED 0xC0u
#define FIRST_MARK 0x300u

/* Hangul syllables are arithmetic (The Unicode Standard, section 3.12). */
#define SYLLABLE_BASE 0xAC00u
#define LEAD_BASE 0x1100u
#define VOWEL_BASE 0x1161u
#define TAIL_BASE 0x11A7u
#define LEAD_COUNT 19u
#define VOWEL_COUNT 21u
#define TAIL_COUNT 28u
#define SYLLABLE_COUNT (LEAD_COUNT * VOWEL_COUNT * TAIL_COUNT)

static uint8_t combining_class(uint32_t code) {
  return kp_combining_blocks[256 * kp_combining_index[code >> 8] + (code & 255)];
}

/* Writes the full canonical decomposition of `code`; returns its length, at most 4. */
static size_t decompose(uint32_t *dst, uint32_t code) {
  uint32_t syllable = code - SYLLABLE_BASE; /* wraps below the base */
  if (syllable < SYLLABLE_COUNT) {
    dst[0] = LEAD_BASE + syllable / (VOWEL_COUNT * TAIL_COUNT);
    dst[1] = VOWEL_BASE + syllable / TAIL_COUNT % VOWEL_COUNT;
    dst[2] = TAIL_BASE + syllable % TAIL_COUNT;
    return syllable % TAIL_COUNT == 0 ? 2 : 3;
  }
  size_t low = 0, high = kp_decomposed_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (kp_decomposed[middle] < code) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == kp_decomposed_count || kp_decomposed[low] != code) {
    dst[0] = code;
    return 1;
  }
  size_t length = kp_decomposition_starts[low + 1] - kp_decomposition_starts[low];
  memcpy(dst, kp_decompositions + kp_decomposition_starts[low], length * sizeof *dst);
  return length;
}

/* Stable sort by combining class, none of which is 0. Counting, where insertion would be slow: a run of marks may be as
 * long as the text. */
static void sort_marks(uint32_t *marks, size_t count, uint32_t *scratch) {
  if (count <= 32) {
    for (size_t i = 1; i < count; i++) {
      uint32_t mark = marks[i];
      size_t j = i;
      for (; j > 0 && combining_class(marks[j - 1]) > combining_class(mark); j--) marks[j] = marks[j - 1];
      marks[j] = mark;
    }
    return;
  }
  size_t starts[257] = {0};
  for (size_t i = 0; i < count; i++) starts[combining_class(marks[i]) + 1]++;
  for (size_t c = 1; c < 257; c++) starts[c] += starts[c - 1];
  memcpy(scratch, marks, count * sizeof *marks);
  for (size_t i = 0; i < count; i++) marks[starts[combining_class(scratch[i])]++] = scratch[i];
}

/* The composite of a pair, or 0. */
static uint32_t compose(uint32_t first, uint32_t second) {
  if (first - LEAD_BASE < LEAD_COUNT && second - VOWEL_BASE < VOWEL_COUNT) {
    return SYLLABLE_BASE + ((first - LEAD_BASE) * VOWEL_COUNT + (second - VOWEL_BASE)) * TAIL_COUNT;
  }
  if (first - SYLLABLE_BASE < SYLLABLE_COUNT && (first - SYLLABLE_BASE) % TAIL_COUNT == 0 &&
      second - TAIL_BASE - 1 < TAIL_COUNT - 1) {
    return first + (second - TAIL_BASE);
  }
  size_t low = 0, high = kp_composition_count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    const uint32_t *entry = kp_compositions + 3 * middle;
    if (entry[0] < first || (entry[0] == first && entry[1] < second)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const uint32_t *entry = kp_compositions + 3 * low;
  return low < kp_composition_count && entry[0] == first && entry[1] == second ? entry[2] : 0;
}

/* Composes in place; returns the new length. */
static size_t compose_all(uint32_t *codes, size_t count) {
  size_t length = 0, starter = SIZE_MAX; /* `starter` is where the last character of class 0 was written */
  uint8_t previous = 0;                  /* the class of the last character kept after the starter; 0: none */
  for (size_t i = 0; i < count; i++) {
    uint32_t code = codes[i];
    uint8_t class = combining_class(code);
    bool adjacent = starter != SIZE_MAX && starter + 1 == length;
    if (starter != SIZE_MAX && (adjacent || (previous != 0 && previous < class))) {
      uint32_t composite = compose(codes[starter], code);
      if (composite != 0) {
        codes[starter] = composite;
        continue;
      }
    }
    if (class == 0) starter = length;
    previous = class;
    codes[length++] = code;
  }
  return length;
}

static bool all_below(uint32_t limit, const uint32_t *codes, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (codes[i] >= limit) return false;
  }
  return true;
}

size_t kp_nfd(uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count) {
  if (all_below(FIRST_DECOMPOSED, src, count)) {
    memcpy(dst, src, count * sizeof *src);
    return count;
  }
  size_t length = 0;
  for (size_t i = 0; i < count; i++) length += decompose(dst + length, src[i]);
  for (size_t i = 0; i < length;) {
    if (combining_class(dst[i]) == 0) {
      i++;
      continue;
    }
    size_t end = i + 1;
    while (end < length && combining_class(dst[end]) != 0) end++;
    sort_marks(dst + i, end - i, scratch);
    i = end;
  }
  return length;
}

size_t kp_nfc(uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count) {
  if (all_below(FIRST_MARK, src, count)) {
    memcpy(dst, src, count * sizeof *src);
    return count;
  }
  return compose_all(dst, kp_nfd(dst, scratch, src, count));
}

/* UTF-8, normalisation forms, and classes of characters, on arrays of code points. */
#ifndef KP_TEXT_UNICODE_H
#define KP_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Code points of `size` bytes of UTF-8, at most `size` of them. Each maximal ill-formed part becomes U+FFFD, as in
 * Python's bytes.decode("utf-8", "replace") (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts"). */
size_t kp_utf8_decode(uint32_t *codes, const uint8_t *text, size_t size);

/* The UTF-8 bytes of one code point, 1 to 4. */
size_t kp_utf8_encode(uint8_t bytes[4], uint32_t code);

/* Code points that normalising `size` bytes of UTF-8 needs room for, whatever the steps are: decomposition makes at
 * most 3 of 2 bytes, lower case 2 of 2 (U+0130 only), and spaces around an ideograph 3 of 3. */
#define KP_NORMALIZED_ROOM(size) (2 * (size) + 4)

/* Unicode's normalisation forms D and C (UAX #15). `dst` and `scratch` have KP_NORMALIZED_ROOM of the UTF-8 that `src`
 * came from; `scratch` may be `src`. Returns the number of code points. */
size_t kp_nfd(uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count);
size_t kp_nfc(uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count);

/* As GPT-2's and CLIP's patterns see a character: \p{L}, \p{N}, \s, and the rest. */
typedef enum kp_character_class { KP_OTHER = 0, KP_LETTER, KP_NUMBER, KP_SPACE } kp_character_class;

kp_character_class kp_classify(uint32_t code);

/* As BERT's normaliser and split see one. */
typedef enum kp_bert_class {
  KP_BERT_OTHER = 0,
  KP_BERT_CONTROL,       /* taken out by the normaliser */
  KP_BERT_CONTROL_SPACE, /* the same; divides words where the normaliser leaves it in */
  KP_BERT_SPACE,
  KP_BERT_IDEOGRAPH,
  KP_BERT_MARK, /* nonspacing */
  KP_BERT_PUNCTUATION
} kp_bert_class;

kp_bert_class kp_classify_for_bert(uint32_t code);

#endif /* KP_TEXT_UNICODE_H */

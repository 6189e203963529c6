/* UTF-8, normalisation form C, and GPT-2's split into pieces, on arrays of code points. */
#ifndef KP_TEXT_UNICODE_H
#define KP_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

/* Code points of `size` bytes of UTF-8, at most `size` of them. Each maximal ill-formed part becomes U+FFFD, as in
 * Python's bytes.decode("utf-8", "replace") (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal Subparts"). */
size_t kp_utf8_decode(uint32_t *codes, const uint8_t *text, size_t size);

/* The UTF-8 bytes of one code point, 1 to 4. */
size_t kp_utf8_encode(uint8_t bytes[4], uint32_t code);

/* Code points that normalising `size` bytes of UTF-8 needs room for. */
#define KP_NFC_ROOM(size) (2 * (size) + 4)

/* Unicode's normalisation form C (UAX #15). `dst` and `scratch` have KP_NFC_ROOM of the UTF-8 that `src` came from, and
 * do not overlap. Returns the number of code points. */
size_t kp_nfc(uint32_t *dst, uint32_t *scratch, const uint32_t *src, size_t count);

typedef enum kp_character_class { KP_OTHER = 0, KP_LETTER, KP_NUMBER, KP_SPACE } kp_character_class;

kp_character_class kp_classify(uint32_t code);

/* The length of the first piece of `count` >= 1 code points by GPT-2's pattern (Radford et al. 2019):
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t kp_next_piece(const uint32_t *codes, size_t count);

#endif /* KP_TEXT_UNICODE_H */

#include "text/unicode.h"

#define REPLACEMENT 0xFFFDu

/* The range that a lead byte allows its second byte, and the sequence's length; length 0: no lead byte. */
typedef struct lead {
  uint8_t length, low, high;
} lead;

static lead lead_of(uint8_t byte) {
  if (byte < 0xC2) return (lead){0, 0, 0};
  if (byte < 0xE0) return (lead){2, 0x80, 0xBF};
  if (byte == 0xE0) return (lead){3, 0xA0, 0xBF}; /* no overlong forms */
  if (byte == 0xED) return (lead){3, 0x80, 0x9F}; /* no surrogates */
  if (byte < 0xF0) return (lead){3, 0x80, 0xBF};
  if (byte == 0xF0) return (lead){4, 0x90, 0xBF};
  if (byte < 0xF4) return (lead){4, 0x80, 0xBF};
  if (byte == 0xF4) return (lead){4, 0x80, 0x8F}; /* nothing above U+10FFFF */
  return (lead){0, 0, 0};
}

size_t kp_utf8_decode(uint32_t *codes, const uint8_t *text, size_t size) {
  size_t count = 0;
  for (size_t i = 0; i < size;) {
    uint8_t first = text[i++];
    if (first < 0x80) {
      codes[count++] = first;
      continue;
    }
    lead sequence = lead_of(first);
    uint32_t code = sequence.length == 0 ? REPLACEMENT : first & (0x7Fu >> sequence.length);
    uint8_t low = sequence.low, high = sequence.high;
    for (uint8_t k = 1; k < sequence.length; k++) {
      if (i == size || text[i] < low || text[i] > high) {
        code = REPLACEMENT;
        break;
      }
      code = code << 6 | (text[i++] & 0x3Fu);
      low = 0x80, high = 0xBF;
    }
    codes[count++] = code;
  }
  return count;
}

size_t kp_utf8_encode(uint8_t bytes[4], uint32_t code) {
  if (code < 0x80) {
    bytes[0] = (uint8_t)code;
    return 1;
  }
  if (code < 0x800) {
    bytes[0] = (uint8_t)(0xC0 | code >> 6);
    bytes[1] = (uint8_t)(0x80 | (code & 0x3F));
    return 2;
  }
  if (code < 0x10000) {
    bytes[0] = (uint8_t)(0xE0 | code >> 12);
    bytes[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    bytes[2] = (uint8_t)(0x80 | (code & 0x3F));
    return 3;
  }
  bytes[0] = (uint8_t)(0xF0 | code >> 18);
  bytes[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
  bytes[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
  bytes[3] = (uint8_t)(0x80 | (code & 0x3F));
  return 4;
}

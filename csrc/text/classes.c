#include "text/unicode.h"
#include "text/unicode_tables.h"

kp_character_class kp_classify(uint32_t code) {
  uint8_t four = kp_class_blocks[64 * kp_class_index[code >> 8] + (code >> 2 & 63)];
  return (kp_character_class)(four >> 2 * (code & 3) & 3);
}

kp_bert_class kp_classify_for_bert(uint32_t code) {
  uint8_t two = kp_bert_blocks[128 * kp_bert_index[code >> 8] + (code >> 1 & 127)];
  return (kp_bert_class)(two >> 4 * (code & 1) & 15);
}

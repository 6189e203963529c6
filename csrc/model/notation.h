/* The small notations inside the file's strings: integers, dimensions, floats, words. Independent of the locale. Each
 * function moves *cursor past what it has read; on false, *cursor and the result are unspecified. */
#ifndef KP_MODEL_NOTATION_H
#define KP_MODEL_NOTATION_H

#include "keypilot/keypilot.h"

/* A decimal integer, [-]digits, of magnitude up to INT32_MAX. */
bool kp_read_integer(const char **cursor, int64_t *value);

/* A dimension: digits up to INT32_MAX, then N, T or NT; digits may be left out before a symbol. */
bool kp_read_dim(const char **cursor, kp_dim *dim);

/* A finite C99 hexadecimal float, [-]0x1.8p-3, of at most 16 significant digits (Python's float.hex() has 14). */
bool kp_read_float(const char **cursor, double *value);

/* One word: [a-z0-9_]+. Its length. */
bool kp_read_word(const char **cursor, size_t *length);

/* A whole shape: dimensions joined by commas, up to KP_MAX_RANK; empty for rank 0. */
bool kp_read_shape(const char *text, kp_dim *dims, int32_t *rank);

#endif /* KP_MODEL_NOTATION_H */

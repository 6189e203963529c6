#include "model/notation.h"

#include <math.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool read_digits(const char **cursor, int64_t *value) {
  if (!is_digit(**cursor)) return false;
  int64_t number = 0;
  for (; is_digit(**cursor); (*cursor)++) {
    number = 10 * number + (**cursor - '0');
    if (number > INT32_MAX) return false;
  }
  *value = number;
  return true;
}

static bool skip(const char **cursor, char c) {
  if (**cursor != c) return false;
  (*cursor)++;
  return true;
}

bool kp_read_integer(const char **cursor, int64_t *value) {
  bool negative = skip(cursor, '-');
  if (!read_digits(cursor, value)) return false;
  if (negative) *value = -*value;
  return true;
}

bool kp_read_dim(const char **cursor, kp_dim *dim) {
  *dim = (kp_dim){.value = 1};
  bool has_digits = is_digit(**cursor);
  if (has_digits && !read_digits(cursor, &dim->value)) return false;
  dim->n = skip(cursor, 'N');
  dim->t = skip(cursor, 'T');
  return has_digits || dim->n || dim->t;
}

static int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

#define MANTISSA_DIGITS 16 /* 64 bits: more than a double's 53 */
#define LARGEST_EXPONENT 4096

/* Hexadecimal digits into *mantissa. Leading zeros are not significant. */
static bool read_hex_digits(const char **cursor, uint64_t *mantissa, int *significant, int *count) {
  *count = 0;
  for (int digit; (digit = hex_digit(**cursor)) >= 0; (*cursor)++) {
    if (*significant > 0 || digit > 0) (*significant)++;
    if (*significant > MANTISSA_DIGITS || *count >= LARGEST_EXPONENT) return false;
    *mantissa = *mantissa << 4 | (uint64_t)digit;
    (*count)++;
  }
  return true;
}

bool kp_read_float(const char **cursor, double *value) {
  bool negative = skip(cursor, '-');
  if (!skip(cursor, '0') || !skip(cursor, 'x')) return false;
  uint64_t mantissa = 0;
  int significant = 0, whole = 0, fraction = 0;
  if (!read_hex_digits(cursor, &mantissa, &significant, &whole)) return false;
  if (skip(cursor, '.') && !read_hex_digits(cursor, &mantissa, &significant, &fraction)) return false;
  if (whole + fraction == 0 || !skip(cursor, 'p')) return false;
  bool exponent_negative = skip(cursor, '-');
  if (!exponent_negative) skip(cursor, '+');
  int64_t exponent;
  if (!read_digits(cursor, &exponent) || exponent > LARGEST_EXPONENT) return false;
  if (exponent_negative) exponent = -exponent;
  double magnitude = ldexp((double)mantissa, (int)exponent - 4 * fraction);
  if (!isfinite(magnitude)) return false;
  *value = negative ? -magnitude : magnitude;
  return true;
}

bool kp_read_word(const char **cursor, size_t *length) {
  const char *start = *cursor;
  while (is_digit(**cursor) || (**cursor >= 'a' && **cursor <= 'z') || **cursor == '_') (*cursor)++;
  *length = (size_t)(*cursor - start);
  return *length > 0;
}

bool kp_read_shape(const char *text, kp_dim *dims, int32_t *rank) {
  *rank = 0;
  if (*text == '\0') return true;
  do {
    if (*rank == KP_MAX_RANK || !kp_read_dim(&text, &dims[*rank])) return false;
    (*rank)++;
  } while (skip(&text, ','));
  return *text == '\0';
}

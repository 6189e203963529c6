#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *kp_status_name(kp_status status) {
  switch (status) {
    case KP_OK:
      return "ok";
    case KP_ERROR_ARGUMENT:
      return "argument";
    case KP_ERROR_SHAPE:
      return "shape";
    case KP_ERROR_MODEL:
      return "model";
    case KP_ERROR_VERSION:
      return "version";
    case KP_ERROR_UNSUPPORTED:
      return "unsupported";
    case KP_ERROR_MEMORY:
      return "memory";
    case KP_ERROR_IO:
      return "io";
    case KP_ERROR_CANCELLED:
      return "cancelled";
  }
  return "unknown";
}

const char *kp_version(void) { return KP_VERSION; }

/* Cuts an incomplete UTF-8 sequence off the end of a message that was truncated. */
static void trim_partial_character(char *text, size_t size) {
  size_t start = size;
  while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
  if (start == 0) return;
  unsigned char lead = (unsigned char)text[start - 1];
  size_t expected = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  if (size - (start - 1) < expected) text[start - 1] = '\0';
}

static void format_message(char *message, size_t capacity, const char *format, va_list arguments) {
  int length = vsnprintf(message, capacity, format, arguments);
  if (length < 0) {
    message[0] = '\0';
  } else if ((size_t)length >= capacity) {
    trim_partial_character(message, capacity - 1);
  }
}

kp_status kp_fail(kp_error *error, kp_status status, const char *format, ...) {
  if (error != NULL) {
    va_list arguments;
    va_start(arguments, format);
    format_message(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    error->status = status;
  }
  return status;
}

kp_status kp_fail_in(kp_error *error, kp_status status, const char *format, ...) {
  if (error != NULL) {
    char inner[sizeof error->message];
    memcpy(inner, error->message, sizeof inner);
    va_list arguments;
    va_start(arguments, format);
    format_message(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    size_t used = strlen(error->message);
    size_t room = sizeof error->message - used;
    int length = snprintf(error->message + used, room, ": %s", inner);
    if (length >= 0 && (size_t)length >= room) trim_partial_character(error->message, sizeof error->message - 1);
    error->status = status;
  }
  return status;
}

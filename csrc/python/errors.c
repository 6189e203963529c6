#include "python/core.h"

PyObject *kp_py_raise(const kp_py_state *state, const kp_error *error) {
  if (error->status == KP_ERROR_MEMORY) return PyErr_NoMemory();
  PyErr_SetString(state->exceptions[error->status], error->message);
  return NULL;
}

PyObject *kp_py_fail(const kp_py_state *state, kp_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  PyErr_FormatV(state->exceptions[status], format, arguments);
  va_end(arguments);
  return NULL;
}

/* Digests of a Session's runs, collected as text. */
#include "python/core.h"

#include <string.h>

/* A kp_write_fn, called without the GIL. */
static bool append(void *context, const char *text, size_t size) {
  kp_py_text *all = context;
  if (size > all->capacity - all->size) {
    size_t capacity = all->capacity;
    while (capacity - all->size < size) capacity = capacity == 0 ? 4096 : 2 * capacity;
    char *data = PyMem_RawRealloc(all->data, capacity);
    if (data == NULL) return false;
    all->data = data;
    all->capacity = capacity;
  }
  memcpy(all->data + all->size, text, size);
  all->size += size;
  return true;
}

static bool is_free(const kp_py_session *self, const kp_py_state *state) {
  if (self->busy) kp_py_fail(state, KP_ERROR_ARGUMENT, "the session is in use by another thread");
  return !self->busy;
}

PyObject *kp_py_session_start_digest(PyObject *object, PyObject *Py_UNUSED(ignored)) {
  kp_py_session *self = (kp_py_session *)object;
  const kp_py_state *state = kp_py_state_of_instance(object);
  if (!is_free(self, state)) return NULL;
  kp_error error;
  self->digest.size = 0;
  if (kp_session_write_digest(self->session, append, &self->digest, &error) != KP_OK) {
    return kp_py_raise(state, &error);
  }
  Py_RETURN_NONE;
}

PyObject *kp_py_session_take_digest(PyObject *object, PyObject *Py_UNUSED(ignored)) {
  kp_py_session *self = (kp_py_session *)object;
  if (!is_free(self, kp_py_state_of_instance(object))) return NULL;
  kp_session_write_digest(self->session, NULL, NULL, NULL);
  PyObject *text = PyBytes_FromStringAndSize(self->digest.data, (Py_ssize_t)self->digest.size);
  PyMem_RawFree(self->digest.data);
  self->digest = (kp_py_text){0};
  return text;
}

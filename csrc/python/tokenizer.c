/* keypilot._core.Tokenizer: a tokenizer without a model. */
#include "python/core.h"

#include <string.h>

#include "text/tokenizer.h"

typedef struct kp_py_tokenizer {
  PyObject_HEAD kp_arena arena;
  kp_tokenizer *tokenizer;
} kp_py_tokenizer;

/* ---- Making one ---- */

/* A copy of the text in the arena. */
static bool copy_text(kp_arena *arena, PyObject *text, kp_string *copy) {
  if (!PyUnicode_Check(text)) {
    PyErr_Format(PyExc_TypeError, "expected a str, got %s", Py_TYPE(text)->tp_name);
    return false;
  }
  Py_ssize_t size;
  const char *data = PyUnicode_AsUTF8AndSize(text, &size);
  if (data == NULL) return false;
  char *bytes = kp_arena_calloc(arena, (size_t)size + 1, 1);
  if (bytes == NULL) {
    PyErr_NoMemory();
    return false;
  }
  memcpy(bytes, data, (size_t)size);
  *copy = (kp_string){bytes, (size_t)size};
  return true;
}

static bool copy_strings(kp_arena *arena, PyObject *list, kp_strings *strings) {
  size_t count = (size_t)PyList_GET_SIZE(list);
  kp_string *copies = kp_arena_calloc(arena, count, sizeof *copies);
  if (copies == NULL) {
    PyErr_NoMemory();
    return false;
  }
  for (size_t i = 0; i < count; i++) {
    if (!copy_text(arena, PyList_GET_ITEM(list, (Py_ssize_t)i), &copies[i])) return false;
  }
  *strings = (kp_strings){copies, count};
  return true;
}

static bool copy_ids(kp_arena *arena, PyObject *list, kp_ids *ids) {
  size_t count = (size_t)PyList_GET_SIZE(list);
  int32_t *copies = kp_arena_calloc(arena, count, sizeof *copies);
  if (copies == NULL) {
    PyErr_NoMemory();
    return false;
  }
  for (size_t i = 0; i < count; i++) {
    PyObject *item = PyList_GET_ITEM(list, (Py_ssize_t)i);
    if (!PyLong_Check(item)) { /* converting another object could run code that changes the list */
      PyErr_Format(PyExc_TypeError, "expected an int, got %s", Py_TYPE(item)->tp_name);
      return false;
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(item, &overflow);
    copies[i] = overflow != 0 || value < 0 || value > INT32_MAX ? -1 : (int32_t)value;
  }
  *ids = (kp_ids){copies, count};
  return true;
}

static bool read_spec(kp_arena *arena, PyObject *args, PyObject *kwargs, kp_tokenizer_spec *spec) {
  static char *names[] = {
      "model",      "pre",    "normalizer",       "tokens",      "merges",       "added_tokens", "added_flags",
      "prefix",     "suffix", "add_space_prefix", "word_suffix", "continuation", "unknown_id",   "max_word_characters",
      "max_tokens", NULL};
  PyObject *model, *pre, *normalizer, *tokens, *merges, *added, *flags, *prefix, *suffix, *word_suffix, *continuation;
  int add_space_prefix;
  unsigned int unknown_id, max_word_characters, max_tokens;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$UUUO!O!O!O!O!O!pUUIII:Tokenizer", names, &model, &pre, &normalizer,
                                   &PyList_Type, &tokens, &PyList_Type, &merges, &PyList_Type, &added, &PyList_Type,
                                   &flags, &PyList_Type, &prefix, &PyList_Type, &suffix, &add_space_prefix,
                                   &word_suffix, &continuation, &unknown_id, &max_word_characters, &max_tokens)) {
    return false;
  }
  kp_string model_name, pre_name, normalizer_names;
  bool read = copy_text(arena, model, &model_name) && copy_text(arena, pre, &pre_name) &&
              copy_text(arena, normalizer, &normalizer_names) && copy_strings(arena, tokens, &spec->tokens) &&
              copy_strings(arena, merges, &spec->merges) && copy_ids(arena, added, &spec->added_tokens) &&
              copy_strings(arena, flags, &spec->added_flags) && copy_ids(arena, prefix, &spec->prefix) &&
              copy_ids(arena, suffix, &spec->suffix) && copy_text(arena, word_suffix, &spec->word_suffix) &&
              copy_text(arena, continuation, &spec->continuation);
  if (!read) return false;
  spec->model = model_name.data;
  spec->pre = pre_name.data;
  spec->normalizer = normalizer_names.data;
  spec->add_space_prefix = add_space_prefix != 0;
  spec->unknown_id = unknown_id;
  spec->max_word_characters = max_word_characters;
  spec->max_tokens = max_tokens;
  return true;
}

static PyObject *tokenizer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  kp_py_tokenizer *self = (kp_py_tokenizer *)type->tp_alloc(type, 0);
  if (self == NULL) return NULL;
  kp_allocator allocator = kp_default_allocator();
  kp_arena_init(&self->arena, &allocator);
  kp_tokenizer_spec spec = {.model = NULL};
  if (!read_spec(&self->arena, args, kwargs, &spec)) {
    Py_DECREF(self);
    return NULL;
  }
  kp_error error;
  if (kp_tokenizer_create(&spec, &self->arena, &self->tokenizer, &error) != KP_OK) {
    Py_DECREF(self);
    return kp_py_raise(PyType_GetModuleState(type), &error);
  }
  return (PyObject *)self;
}

static void tokenizer_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  kp_arena_release(&((kp_py_tokenizer *)self)->arena);
  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- Encoding ---- */

#define STACK_IDS 1024
#define LONG_TEXT 4096 /* for which letting go of the GIL pays */

static PyObject *encode_bytes(PyObject *self, const char *text, size_t size) {
  const kp_tokenizer *tokenizer = ((kp_py_tokenizer *)self)->tokenizer;
  kp_allocator allocator = kp_default_allocator();
  int32_t stack[STACK_IDS];
  size_t capacity = kp_tokenizer_most_ids(tokenizer, size), count = 0;
  int32_t *ids = capacity > STACK_IDS ? PyMem_RawMalloc(capacity * sizeof *ids) : stack;
  if (ids == NULL) return PyErr_NoMemory();
  kp_error error = {.status = KP_OK};
  if (size < LONG_TEXT) {
    kp_tokenizer_encode(tokenizer, &allocator, text, size, ids, capacity, &count, &error);
  } else {
    Py_BEGIN_ALLOW_THREADS kp_tokenizer_encode(tokenizer, &allocator, text, size, ids, capacity, &count, &error);
    Py_END_ALLOW_THREADS
  }
  PyObject *array = NULL;
  if (error.status == KP_OK) {
    npy_intp length = (npy_intp)count;
    array = PyArray_SimpleNew(1, &length, NPY_INT32);
    if (array != NULL && count > 0) memcpy(PyArray_DATA((PyArrayObject *)array), ids, count * sizeof *ids);
  }
  if (ids != stack) PyMem_RawFree(ids);
  return error.status == KP_OK ? array : kp_py_raise(kp_py_state_of_instance(self), &error);
}

static PyObject *tokenizer_encode(PyObject *self, PyObject *text) {
  if (PyUnicode_Check(text)) {
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);
    if (data != NULL) return encode_bytes(self, data, (size_t)size);
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return NULL;
    PyErr_Clear(); /* a lone surrogate is three bytes that are not UTF-8 */
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
    if (bytes == NULL) return NULL;
    PyObject *array = encode_bytes(self, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return array;
  }
  Py_buffer buffer;
  if (PyObject_GetBuffer(text, &buffer, PyBUF_SIMPLE) < 0) return NULL;
  PyObject *array = encode_bytes(self, buffer.buf, (size_t)buffer.len);
  PyBuffer_Release(&buffer);
  return array;
}

/* ---- The type ---- */

static PyObject *tokenizer_vocab_size(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromSize_t(kp_tokenizer_vocabulary(((kp_py_tokenizer *)self)->tokenizer));
}

static PyMethodDef methods[] = {
    {"encode", tokenizer_encode, METH_O, "encode(text)\n--\n\nToken ids, int32, of a str or of UTF-8 bytes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"vocab_size", tokenizer_vocab_size, NULL, "The number of tokens.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A tokenizer, from the values of a model file's keys; immutable."},
    {Py_tp_new, tokenizer_new},
    {Py_tp_dealloc, tokenizer_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

PyType_Spec kp_py_tokenizer_spec = {
    .name = "keypilot._core.Tokenizer",
    .basicsize = sizeof(kp_py_tokenizer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

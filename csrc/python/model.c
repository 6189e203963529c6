/* keypilot._core.Model: an open model file. */
#include "python/core.h"

#include <string.h>

#include "runtime/model.h"

static const kp_model *model_of(PyObject *self) { return ((kp_py_model *)self)->model; }

/* ---- Opening ---- */

static bool options_from_isa(const kp_py_state *state, const char *isa, kp_model_options *options) {
  *options = (kp_model_options){.isa = kp_cpu_isa()};
  if (isa == NULL || kp_isa_cap(&options->isa, isa)) return true;
  kp_py_fail(state, KP_ERROR_ARGUMENT,
             "isa: expected one of scalar, avx2, avx512, avx512vnni, neon, dotprod, i8mm, got '%s'", isa);
  return false;
}

static PyObject *wrap(PyTypeObject *type, kp_model *model) {
  kp_py_model *self = (kp_py_model *)type->tp_alloc(type, 0);
  if (self == NULL) {
    kp_model_close(model);
    return NULL;
  }
  self->model = model;
  return (PyObject *)self;
}

static PyObject *model_open(PyObject *class, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"path", "isa", NULL};
  PyTypeObject *type = (PyTypeObject *)class;
  const kp_py_state *state = PyType_GetModuleState(type);
  PyObject *path = NULL;
  const char *isa = NULL;
  kp_model_options options;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|z:open", names, PyUnicode_FSConverter, &path, &isa)) return NULL;
  if (!options_from_isa(state, isa, &options)) {
    Py_DECREF(path);
    return NULL;
  }
  kp_model *model = NULL;
  kp_error error;
  kp_status status;
  Py_BEGIN_ALLOW_THREADS status = kp_model_open(PyBytes_AS_STRING(path), &options, &model, &error);
  Py_END_ALLOW_THREADS Py_DECREF(path);
  return status == KP_OK ? wrap(type, model) : kp_py_raise(state, &error);
}

static PyObject *model_from_bytes(PyObject *class, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"data", "isa", NULL};
  PyTypeObject *type = (PyTypeObject *)class;
  const kp_py_state *state = PyType_GetModuleState(type);
  Py_buffer data;
  const char *isa = NULL;
  kp_model_options options;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|z:from_bytes", names, &data, &isa)) return NULL;
  if (!options_from_isa(state, isa, &options)) {
    PyBuffer_Release(&data);
    return NULL;
  }
  kp_model *model = NULL;
  kp_error error;
  kp_status status;
  Py_BEGIN_ALLOW_THREADS status = kp_model_open_memory(data.buf, (size_t)data.len, &options, &model, &error);
  Py_END_ALLOW_THREADS PyBuffer_Release(&data);
  return status == KP_OK ? wrap(type, model) : kp_py_raise(state, &error);
}

static void model_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  kp_model_close(((kp_py_model *)self)->model);
  type->tp_free(self);
  Py_DECREF(type);
}

/* ---- Metadata ---- */

static uint64_t little_endian(const uint8_t *bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

static PyObject *number_from_raw(kp_gguf_type type, const uint8_t *raw, size_t index) {
  union {
    uint32_t bits;
    float value;
  } f32;
  union {
    uint64_t bits;
    double value;
  } f64;
  switch (type) {
    case KP_GGUF_U8:
      return PyLong_FromLong(raw[index]);
    case KP_GGUF_I8:
      return PyLong_FromLong((int8_t)raw[index]);
    case KP_GGUF_U16:
      return PyLong_FromLong((uint16_t)little_endian(raw + 2 * index, 2));
    case KP_GGUF_I16:
      return PyLong_FromLong((int16_t)little_endian(raw + 2 * index, 2));
    case KP_GGUF_U32:
      return PyLong_FromUnsignedLong((uint32_t)little_endian(raw + 4 * index, 4));
    case KP_GGUF_I32:
      return PyLong_FromLong((int32_t)little_endian(raw + 4 * index, 4));
    case KP_GGUF_U64:
      return PyLong_FromUnsignedLongLong(little_endian(raw + 8 * index, 8));
    case KP_GGUF_I64:
      return PyLong_FromLongLong((int64_t)little_endian(raw + 8 * index, 8));
    case KP_GGUF_BOOL:
      return PyBool_FromLong(raw[index]);
    case KP_GGUF_F32:
      f32.bits = (uint32_t)little_endian(raw + 4 * index, 4);
      return PyFloat_FromDouble(f32.value);
    case KP_GGUF_F64:
      f64.bits = little_endian(raw + 8 * index, 8);
      return PyFloat_FromDouble(f64.value);
    case KP_GGUF_STRING:
    case KP_GGUF_ARRAY:
      break;
  }
  Py_RETURN_NONE;
}

static PyObject *element(const kp_gguf_value *value, size_t index) {
  if (value->type != KP_GGUF_STRING) return number_from_raw(value->type, value->raw, index);
  return PyUnicode_DecodeUTF8(value->strings[index].data, (Py_ssize_t)value->strings[index].size, "replace");
}

static PyObject *model_metadata(PyObject *self, PyObject *key) {
  const char *text = PyUnicode_AsUTF8(key);
  if (text == NULL) return NULL;
  const kp_gguf_value *value = kp_gguf_find(&model_of(self)->gguf, text);
  if (value == NULL) {
    PyErr_SetObject(PyExc_KeyError, key);
    return NULL;
  }
  if (!value->is_array) return element(value, 0);
  PyObject *tuple = PyTuple_New((Py_ssize_t)value->count);
  for (size_t i = 0; tuple != NULL && i < value->count; i++) {
    PyObject *item = element(value, i);
    if (item == NULL) {
      Py_CLEAR(tuple);
    } else {
      PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, item);
    }
  }
  return tuple;
}

static PyObject *model_metadata_keys(PyObject *self, void *Py_UNUSED(closure)) {
  const kp_gguf *gguf = &model_of(self)->gguf;
  PyObject *keys = PyTuple_New((Py_ssize_t)gguf->value_count);
  for (size_t i = 0; keys != NULL && i < gguf->value_count; i++) {
    PyObject *key = PyUnicode_DecodeUTF8(gguf->values[i].key.data, (Py_ssize_t)gguf->values[i].key.size, "replace");
    if (key == NULL) {
      Py_CLEAR(keys);
    } else {
      PyTuple_SET_ITEM(keys, (Py_ssize_t)i, key);
    }
  }
  return keys;
}

/* ---- Weights ---- */

/* A read-only array over the model's own bytes, which it keeps alive. */
static PyObject *weight_view(PyObject *self, const kp_weight *weight) {
  npy_intp shape[KP_MAX_RANK];
  for (int32_t i = 0; i < weight->tensor.rank; i++) shape[i] = (npy_intp)weight->tensor.shape[i];
  PyArrayObject *view =
      (PyArrayObject *)PyArray_New(&PyArray_Type, weight->tensor.rank, shape, kp_py_numpy_type(weight->tensor.dtype),
                                   NULL, weight->tensor.data, 0, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED, NULL);
  if (view == NULL) return NULL;
  if (PyArray_SetBaseObject(view, Py_NewRef(self)) < 0) {
    Py_DECREF(view);
    return NULL;
  }
  return (PyObject *)view;
}

static PyObject *model_weights(PyObject *self, PyObject *Py_UNUSED(ignored)) {
  const kp_model *model = model_of(self);
  PyObject *weights = PyDict_New();
  for (size_t i = 0; weights != NULL && i < kp_model_weight_count(model); i++) {
    kp_weight weight;
    kp_error error;
    if (kp_model_weight(model, i, &weight, &error) != KP_OK) {
      Py_DECREF(weights);
      return kp_py_raise(kp_py_state_of_instance(self), &error);
    }
    PyObject *view = weight_view(self, &weight);
    if (view == NULL || PyDict_SetItemString(weights, weight.name, view) < 0) Py_CLEAR(weights);
    Py_XDECREF(view);
  }
  return weights;
}

/* ---- Programs ---- */

static PyObject *model_programs(PyObject *self, void *Py_UNUSED(closure)) {
  const kp_model *model = model_of(self);
  size_t count = kp_model_program_count(model);
  PyObject *names = PyTuple_New((Py_ssize_t)count);
  for (size_t i = 0; names != NULL && i < count; i++) {
    PyObject *name = PyUnicode_FromString(kp_model_program_name(model, i));
    if (name == NULL) {
      Py_CLEAR(names);
    } else {
      PyTuple_SET_ITEM(names, (Py_ssize_t)i, name);
    }
  }
  return names;
}

/* (name, dtype, shape): a dimension is an int, or the text of one with symbols, as "N". */
static PyObject *port_tuple(const kp_port *port) {
  PyObject *shape = PyTuple_New(port->rank);
  for (int32_t i = 0; shape != NULL && i < port->rank; i++) {
    kp_dim size = port->shape[i];
    char text[32];
    kp_py_dim_text(size, text);
    PyObject *dim = size.n || size.t ? PyUnicode_FromString(text) : PyLong_FromLongLong(size.value);
    if (dim == NULL) {
      Py_CLEAR(shape);
    } else {
      PyTuple_SET_ITEM(shape, i, dim);
    }
  }
  if (shape == NULL) return NULL;
  PyArray_Descr *dtype = PyArray_DescrFromType(kp_py_numpy_type(port->dtype));
  return dtype == NULL ? NULL : Py_BuildValue("sNN", port->name, dtype, shape);
}

static PyObject *model_ports(PyObject *self, PyObject *args) {
  static const char *const kinds[] = {"input", "output", "tap"};
  const kp_py_state *state = kp_py_state_of_instance(self);
  const kp_model *model = model_of(self);
  Py_ssize_t program;
  const char *kind_name;
  if (!PyArg_ParseTuple(args, "ns:ports", &program, &kind_name)) return NULL;
  size_t kind = 0;
  while (kind < 3 && strcmp(kinds[kind], kind_name) != 0) kind++;
  if (kind == 3) {
    return kp_py_fail(state, KP_ERROR_ARGUMENT, "kind: expected 'input', 'output' or 'tap', got '%s'", kind_name);
  }
  if (program < 0 || (size_t)program >= kp_model_program_count(model)) {
    return kp_py_fail(state, KP_ERROR_ARGUMENT, "program: expected 0 to %zd, got %zd",
                      (Py_ssize_t)kp_model_program_count(model) - 1, program);
  }
  size_t count = kp_model_port_count(model, (size_t)program, (kp_port_kind)kind);
  PyObject *ports = PyTuple_New((Py_ssize_t)count);
  for (size_t i = 0; ports != NULL && i < count; i++) {
    kp_port port;
    kp_error error;
    if (kp_model_port(model, (size_t)program, (kp_port_kind)kind, i, &port, &error) != KP_OK) {
      Py_DECREF(ports);
      return kp_py_raise(state, &error);
    }
    PyObject *item = port_tuple(&port);
    if (item == NULL) {
      Py_CLEAR(ports);
    } else {
      PyTuple_SET_ITEM(ports, (Py_ssize_t)i, item);
    }
  }
  return ports;
}

/* ---- Text and the encoder ---- */

static PyObject *model_tokenize(PyObject *self, PyObject *args) {
  const kp_py_state *state = kp_py_state_of_instance(self);
  const kp_model *model = model_of(self);
  Py_buffer text;
  if (!PyArg_ParseTuple(args, "y*:tokenize", &text)) return NULL;
  kp_error error = {.status = KP_OK};
  size_t count = 0;
  size_t capacity = model->tokenizer == NULL ? 0 : kp_tokenizer_max_tokens(model->tokenizer);
  npy_intp length = (npy_intp)capacity;
  PyArrayObject *ids = (PyArrayObject *)PyArray_SimpleNew(1, &length, NPY_INT32);
  if (ids != NULL) {
    Py_BEGIN_ALLOW_THREADS kp_model_tokenize(model, text.buf, (size_t)text.len, PyArray_DATA(ids), capacity, &count,
                                             &error);
    Py_END_ALLOW_THREADS
  }
  PyBuffer_Release(&text);
  if (ids == NULL) return NULL;
  if (error.status != KP_OK) {
    Py_DECREF(ids);
    return kp_py_raise(state, &error);
  }
  PyObject *used = PySequence_GetSlice((PyObject *)ids, 0, (Py_ssize_t)count);
  Py_DECREF(ids);
  return used;
}

static PyObject *model_encoder_info(PyObject *self, PyObject *Py_UNUSED(ignored)) {
  kp_encoder_info info;
  kp_error error;
  if (kp_model_encoder_info(model_of(self), &info, &error) != KP_OK) {
    return kp_py_raise(kp_py_state_of_instance(self), &error);
  }
  return Py_BuildValue("{s:i,s:i,s:i,s:(ii),s:i,s:L,s:N}", "image_side", info.image_side, "crop_side", info.crop_side,
                       "regions_side", info.regions_side, "mask_shape", info.mask_height, info.mask_width, "max_tokens",
                       info.max_tokens, "user_count", (long long)info.user_count, "trained",
                       PyBool_FromLong(info.trained));
}

static PyObject *model_isa(PyObject *self, void *Py_UNUSED(closure)) {
  return PyUnicode_FromString(kp_isa_name(kp_model_isa(model_of(self))));
}

static PyObject *model_file_bytes(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromSize_t(kp_model_file_bytes(model_of(self)));
}

/* ---- The type ---- */

static PyMethodDef methods[] = {
    {"open", (PyCFunction)(void (*)(void))model_open, METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "open(path, isa=None)\n--\n\nOpens a model file, with kernels up to the level `isa`."},
    {"from_bytes", (PyCFunction)(void (*)(void))model_from_bytes, METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "from_bytes(data, isa=None)\n--\n\nOpens a model file's content, which is copied."},
    {"ports", model_ports, METH_VARARGS,
     "ports(program, kind)\n--\n\n(name, dtype, shape) of each 'input', 'output' or 'tap' of a program, by its index."},
    {"metadata", model_metadata, METH_O, "metadata(key)\n--\n\nThe value of a key of the file; KeyError."},
    {"weights", model_weights, METH_NOARGS, "weights()\n--\n\nName -> read-only view of each weight as stored."},
    {"tokenize", model_tokenize, METH_VARARGS, "tokenize(text)\n--\n\nToken ids, int32, of UTF-8 bytes."},
    {"encoder_info", model_encoder_info, METH_NOARGS, "encoder_info()\n--\n\nThe encoder's settings, as a dict."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"programs", model_programs, NULL, "The programs' names, in the file's order.", NULL},
    {"isa", model_isa, NULL, "The highest instruction-set level in use.", NULL},
    {"file_bytes", model_file_bytes, NULL, "The size of the model file.", NULL},
    {"metadata_keys", model_metadata_keys, NULL, "Every key of the file.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "An open model file; immutable, shared by any number of sessions and threads."},
    {Py_tp_dealloc, model_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

PyType_Spec kp_py_model_spec = {
    .name = "keypilot._core.Model",
    .basicsize = sizeof(kp_py_model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

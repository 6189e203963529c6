/* keypilot._core: the module, and functions that need no model. */
#define KP_PY_IMPORTS_NUMPY
#include "python/core.h"

#include "ops/op.h"

/* ---- Functions ---- */

static PyObject *module_version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
  return PyUnicode_FromString(kp_version());
}

static PyObject *module_cpu_isa(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
  uint32_t mask = kp_cpu_isa();
  PyObject *names = PyList_New(0);
  PyObject *scalar = PyUnicode_FromString(kp_isa_name(KP_ISA_SCALAR));
  bool ok = names != NULL && scalar != NULL && PyList_Append(names, scalar) == 0;
  Py_XDECREF(scalar);
  for (uint32_t bit = 1; ok && bit != 0 && bit <= mask; bit <<= 1) {
    if ((mask & bit) == 0) continue;
    PyObject *name = PyUnicode_FromString(kp_isa_name(bit));
    ok = name != NULL && PyList_Append(names, name) == 0;
    Py_XDECREF(name);
  }
  PyObject *tuple = ok ? PyList_AsTuple(names) : NULL;
  Py_XDECREF(names);
  return tuple;
}

static PyObject *module_capped_isa(PyObject *module, PyObject *args) {
  uint32_t mask = kp_cpu_isa();
  const char *name;
  if (!PyArg_ParseTuple(args, "z:capped_isa", &name)) return NULL;
  if (name != NULL && !kp_isa_cap(&mask, name)) {
    return kp_py_fail(kp_py_state_of(module), KP_ERROR_ARGUMENT, "isa: no level is named '%s'", name);
  }
  return PyUnicode_FromString(kp_isa_name(mask));
}

static PyObject *attribute_words(const kp_attribute_schema *schema) {
  PyObject *words = PyList_New(0);
  for (size_t i = 0; words != NULL && schema->words != NULL && schema->words[i] != NULL; i++) {
    PyObject *word = PyUnicode_FromString(schema->words[i]);
    if (word == NULL || PyList_Append(words, word) < 0) Py_CLEAR(words);
    Py_XDECREF(word);
  }
  PyObject *tuple = words == NULL ? NULL : PyList_AsTuple(words);
  Py_XDECREF(words);
  return tuple;
}

/* None where the attribute is required; a word for a word; else a number. */
static PyObject *attribute_default(const kp_attribute_schema *schema) {
  if (schema->required) Py_RETURN_NONE;
  switch (schema->kind) {
    case KP_ATTR_FLOAT:
      return PyFloat_FromDouble(schema->default_float);
    case KP_ATTR_WORD:
      return PyUnicode_FromString(schema->words[schema->default_int]);
    case KP_ATTR_INT:
    case KP_ATTR_DIM:
      break;
  }
  return PyLong_FromLongLong(schema->default_int);
}

static PyObject *attribute_dict(const kp_attribute_schema *schema) {
  static const char *const kinds[] = {"int", "dim", "float", "word"};
  PyObject *words = attribute_words(schema);
  PyObject *value = words == NULL ? NULL : attribute_default(schema);
  if (value == NULL) {
    Py_XDECREF(words);
    return NULL;
  }
  return Py_BuildValue("{s:s,s:s,s:i,s:i,s:N,s:N,s:N}", "name", schema->name, "kind", kinds[schema->kind], "min_count",
                       (int)schema->min_count, "max_count", (int)schema->max_count, "words", words, "required",
                       PyBool_FromLong(schema->required), "default", value);
}

static PyObject *op_dict(const kp_op *op) {
  PyObject *attributes = PyTuple_New(op->attribute_count);
  for (uint8_t i = 0; attributes != NULL && i < op->attribute_count; i++) {
    PyObject *attribute = attribute_dict(&op->attributes[i]);
    if (attribute == NULL) {
      Py_CLEAR(attributes);
    } else {
      PyTuple_SET_ITEM(attributes, i, attribute);
    }
  }
  if (attributes == NULL) return NULL;
  return Py_BuildValue("{s:s,s:i,s:i,s:N}", "name", op->name, "min_inputs", (int)op->min_inputs, "max_inputs",
                       (int)op->max_inputs, "attributes", attributes);
}

static PyObject *module_op_schemas(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
  PyObject *schemas = PyList_New((Py_ssize_t)kp_op_count);
  for (size_t i = 0; schemas != NULL && i < kp_op_count; i++) {
    PyObject *schema = op_dict(kp_ops[i]);
    if (schema == NULL) {
      Py_CLEAR(schemas);
    } else {
      PyList_SET_ITEM(schemas, (Py_ssize_t)i, schema);
    }
  }
  return schemas;
}

static PyMethodDef functions[] = {
    {"version", module_version, METH_NOARGS, "version()\n--\n\nThe core's version."},
    {"cpu_isa", module_cpu_isa, METH_NOARGS,
     "cpu_isa()\n--\n\nNames of the instruction-set levels that this processor supports, lowest first."},
    {"capped_isa", module_capped_isa, METH_VARARGS,
     "capped_isa(name)\n--\n\nThe highest level that this processor supports and `name` allows; None allows all."},
    {"op_schemas", module_op_schemas, METH_NOARGS,
     "op_schemas()\n--\n\nEvery operator: name, min_inputs, max_inputs, attributes."},
    {NULL, NULL, 0, NULL},
};

/* ---- The module ---- */

static bool import_exceptions(kp_py_state *state) {
  static const struct {
    kp_status status;
    const char *module, *name;
  } classes[] = {
      {KP_ERROR_ARGUMENT, "keypilot.errors", "ArgumentError"},
      {KP_ERROR_SHAPE, "keypilot.errors", "ShapeError"},
      {KP_ERROR_MODEL, "keypilot.errors", "ModelFileError"},
      {KP_ERROR_VERSION, "keypilot.errors", "VersionError"},
      {KP_ERROR_UNSUPPORTED, "keypilot.errors", "UnsupportedError"},
      {KP_ERROR_MEMORY, "builtins", "MemoryError"},
      {KP_ERROR_IO, "builtins", "OSError"},
      {KP_ERROR_CANCELLED, "keypilot.errors", "KeyPilotError"},
  };
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
    PyObject *module = PyImport_ImportModule(classes[i].module);
    if (module == NULL) return false;
    state->exceptions[classes[i].status] = PyObject_GetAttrString(module, classes[i].name);
    Py_DECREF(module);
    if (state->exceptions[classes[i].status] == NULL) return false;
  }
  return true;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec) {
  PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
  if (type != NULL && PyModule_AddType(module, type) < 0) Py_CLEAR(type);
  return type;
}

static int module_exec(PyObject *module) {
  kp_py_state *state = kp_py_state_of(module);
  import_array1(-1);
  if (!import_exceptions(state)) return -1;
  state->model_type = add_type(module, &kp_py_model_spec);
  if (state->model_type == NULL) return -1;
  state->session_type = add_type(module, &kp_py_session_spec);
  if (state->session_type == NULL) return -1;
  state->tokenizer_type = add_type(module, &kp_py_tokenizer_spec);
  if (state->tokenizer_type == NULL) return -1;
  return PyModule_AddFunctions(module, kp_py_image_methods);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
  kp_py_state *state = kp_py_state_of(module);
  Py_VISIT(state->model_type);
  Py_VISIT(state->session_type);
  Py_VISIT(state->tokenizer_type);
  for (int i = 0; i <= KP_ERROR_CANCELLED; i++) Py_VISIT(state->exceptions[i]);
  return 0;
}

static int module_clear(PyObject *module) {
  kp_py_state *state = kp_py_state_of(module);
  Py_CLEAR(state->model_type);
  Py_CLEAR(state->session_type);
  Py_CLEAR(state->tokenizer_type);
  for (int i = 0; i <= KP_ERROR_CANCELLED; i++) Py_CLEAR(state->exceptions[i]);
  return 0;
}

static void module_free(void *module) { module_clear(module); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,         .m_name = "keypilot._core", .m_doc = "The C core.",
    .m_size = sizeof(kp_py_state), .m_methods = functions,     .m_slots = slots,
    .m_traverse = module_traverse, .m_clear = module_clear,    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }

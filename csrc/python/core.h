/* keypilot._core: the only folder that sees Python.h and NumPy.
 *
 * Multi-phase initialisation; every type is a heap type; all state is the module's. A run lets go of the GIL. */
#ifndef KP_PYTHON_CORE_H
#define KP_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL kp_py_numpy_api
#ifndef KP_PY_IMPORTS_NUMPY /* module.c alone defines NumPy's function table */
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include "keypilot/keypilot.h"

/* ---- The module's state ---- */

typedef struct kp_py_state {
  PyTypeObject *model_type;
  PyTypeObject *session_type;
  PyTypeObject *tokenizer_type;
  PyObject *exceptions[KP_ERROR_CANCELLED + 1]; /* by kp_status; from keypilot.errors and builtins */
} kp_py_state;

static inline kp_py_state *kp_py_state_of(PyObject *module) { return PyModule_GetState(module); }

/* The state of an instance of one of the module's types, none of which can be subclassed. */
static inline kp_py_state *kp_py_state_of_instance(PyObject *self) { return PyType_GetModuleState(Py_TYPE(self)); }

/* ---- Errors ---- */

/* Raises the exception that error->status maps to, with error->message. Returns NULL. */
PyObject *kp_py_raise(const kp_py_state *state, const kp_error *error);

/* Raises the exception of `status` with a formatted message (PyErr_Format's format). Returns NULL. */
PyObject *kp_py_fail(const kp_py_state *state, kp_status status, const char *format, ...);

/* ---- Arrays ---- */

int kp_py_numpy_type(kp_dtype dtype);

/* A fresh array, the port's tensor in logical order: a transposed view of a copy of `tensor`, in memory order. */
PyObject *kp_py_array_from_tensor(const kp_port *port, const kp_tensor *tensor);

/* Converts an array-like, in logical order, to what the port takes: dense, in memory order, of its dtype. Fills in
 * *tensor, whose data belong to the array that is returned: the argument itself, or a view, or a copy made in one step.
 * `program` is for messages. NULL with an exception where shape, dtype or an integer's range is wrong. */
PyObject *kp_py_tensor_from_object(const kp_py_state *state, const char *program, const kp_port *port, PyObject *object,
                                   kp_tensor *tensor);

/* The dimension as "3", "N", "4N" or "NT"; `text` has room for 32. */
void kp_py_dim_text(kp_dim dim, char text[32]);

/* A picture as the core takes it: (H, W) or (H, W, 1, 3 or 4), uint8 or uint16, dense within a row. *image points into
 * the array that is returned: the argument itself or a copy. NULL with an exception for anything else. */
PyArrayObject *kp_py_image_from_object(const kp_py_state *state, PyObject *object, kp_image *image);

/* ---- Types ---- */

typedef struct kp_py_model {
  PyObject_HEAD kp_model *model;
} kp_py_model;

/* Text that grows without the GIL. */
typedef struct kp_py_text {
  char *data;
  size_t size, capacity;
} kp_py_text;

typedef struct kp_py_session {
  PyObject_HEAD PyObject *model; /* a kp_py_model */
  kp_session *session;
  bool busy;
  kp_py_text digest;
} kp_py_session;

/* Methods of Session, in digest.c. */
PyObject *kp_py_session_start_digest(PyObject *session, PyObject *ignored);
PyObject *kp_py_session_take_digest(PyObject *session, PyObject *ignored);

extern PyType_Spec kp_py_model_spec;
extern PyType_Spec kp_py_session_spec;
extern PyType_Spec kp_py_tokenizer_spec; /* tokenizer.c */

/* ---- Functions of layers below the runtime, for tests and tools, ending with a sentinel ---- */

extern PyMethodDef kp_py_image_methods[]; /* image.c */

#endif /* KP_PYTHON_CORE_H */

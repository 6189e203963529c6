/* keypilot._core.Session: runs programs and the encoder, without the GIL. */
#include "python/core.h"

#include <string.h>

/* ---- Exclusive use ---- */

/* A session has one caller at a time; false, with an exception, where it has one already. */
static bool acquire(const kp_py_state *state, kp_py_session *self) {
  if (self->busy) {
    kp_py_fail(state, KP_ERROR_ARGUMENT, "the session is in use by another thread; take a session for each");
    return false;
  }
  self->busy = true;
  return true;
}

/* ---- Taps ---- */

/* Which tensors a run records, and where to. */
typedef struct tap_recorder {
  const kp_model *model;
  PyObject *masks;      /* a tuple: for each program, one byte for each of its taps; NULL: nothing is recorded */
  PyObject *record;     /* a list of (program, tap, array) */
  PyThreadState *state; /* of the thread that runs, while it does not hold the GIL */
} tap_recorder;

static bool recorder_create(const kp_py_state *state, const kp_model *model, PyObject *taps, tap_recorder *recorder) {
  *recorder = (tap_recorder){.model = model};
  size_t count = kp_model_program_count(model);
  PyObject *record = PyList_New(0);
  if (record == NULL) return false;
  if (taps == Py_None) {
    recorder->record = record;
    return true;
  }
  PyObject *masks = PySequence_Tuple(taps);
  bool ok = masks != NULL;
  if (ok && (size_t)PyTuple_GET_SIZE(masks) != count) {
    kp_py_fail(state, KP_ERROR_ARGUMENT, "taps: expected a mask for each of %zd programs, got %zd", (Py_ssize_t)count,
               PyTuple_GET_SIZE(masks));
    ok = false;
  }
  for (size_t i = 0; ok && i < count; i++) {
    PyObject *mask = PyTuple_GET_ITEM(masks, (Py_ssize_t)i);
    Py_ssize_t expected = (Py_ssize_t)kp_model_port_count(model, i, KP_TAP);
    if (!PyBytes_Check(mask) || PyBytes_GET_SIZE(mask) != expected) {
      kp_py_fail(state, KP_ERROR_ARGUMENT, "taps: expected %zd bytes for program '%s', got %R", expected,
                 kp_model_program_name(model, i), mask);
      ok = false;
    }
  }
  if (!ok) {
    Py_XDECREF(masks);
    Py_DECREF(record);
    return false;
  }
  recorder->masks = masks;
  recorder->record = record;
  return true;
}

static void recorder_release(tap_recorder *recorder) {
  Py_XDECREF(recorder->masks);
  Py_XDECREF(recorder->record);
}

/* A kp_tap_fn. Takes the GIL for the tensors that are recorded only. */
static bool record_tap(void *context, size_t program, size_t tap, const kp_tensor *tensor) {
  tap_recorder *recorder = context;
  PyObject *mask = PyTuple_GET_ITEM(recorder->masks, (Py_ssize_t)program);
  if (PyBytes_AS_STRING(mask)[tap] == 0) return true;
  kp_port port;
  if (kp_model_port(recorder->model, program, KP_TAP, tap, &port, NULL) != KP_OK) return false;
  PyEval_RestoreThread(recorder->state);
  PyObject *array = kp_py_array_from_tensor(&port, tensor);
  PyObject *entry = array == NULL ? NULL : Py_BuildValue("nnN", (Py_ssize_t)program, (Py_ssize_t)tap, array);
  bool ok = entry != NULL && PyList_Append(recorder->record, entry) == 0;
  Py_XDECREF(entry);
  recorder->state = PyEval_SaveThread();
  return ok;
}

/* The exception of a failed run: what the tap raised, or the core's error. Returns NULL. */
static PyObject *run_failed(const kp_py_state *state, const kp_error *error) {
  return PyErr_Occurred() ? NULL : kp_py_raise(state, error);
}

/* ---- Life ---- */

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  static char *names[] = {"model", "threads", NULL};
  const kp_py_state *state = PyType_GetModuleState(type);
  PyObject *model;
  int threads = 1;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|i:Session", names, state->model_type, &model, &threads)) {
    return NULL;
  }
  kp_session *session = NULL;
  kp_error error;
  if (kp_session_create(((kp_py_model *)model)->model, threads, &session, &error) != KP_OK) {
    return kp_py_raise(state, &error);
  }
  kp_py_session *self = (kp_py_session *)type->tp_alloc(type, 0);
  if (self == NULL) {
    kp_session_close(session);
    return NULL;
  }
  self->session = session;
  self->model = Py_NewRef(model);
  return (PyObject *)self;
}

static void session_dealloc(PyObject *object) {
  kp_py_session *self = (kp_py_session *)object;
  PyTypeObject *type = Py_TYPE(object);
  kp_session_close(self->session);
  PyMem_RawFree(self->digest.data);
  Py_XDECREF(self->model);
  type->tp_free(object);
  Py_DECREF(type);
}

/* ---- Programs ---- */

typedef struct input_set {
  kp_tensor *tensors;
  PyObject **owners; /* arrays that hold the tensors' data */
  size_t count;
} input_set;

static void inputs_release(input_set *inputs) {
  for (size_t i = 0; inputs->owners != NULL && i < inputs->count; i++) Py_XDECREF(inputs->owners[i]);
  PyMem_Free(inputs->owners);
  PyMem_Free(inputs->tensors);
}

/* Names that are not the program's. Returns false. */
static bool fail_unknown_input(const kp_py_state *state, const kp_model *model, size_t program, PyObject *values) {
  size_t count = kp_model_port_count(model, program, KP_INPUT);
  PyObject *known = PyTuple_New((Py_ssize_t)count);
  for (size_t i = 0; known != NULL && i < count; i++) {
    kp_port port;
    kp_status status = kp_model_port(model, program, KP_INPUT, i, &port, NULL);
    PyObject *name = status == KP_OK ? PyUnicode_FromString(port.name) : NULL;
    if (name == NULL) {
      Py_CLEAR(known);
    } else {
      PyTuple_SET_ITEM(known, (Py_ssize_t)i, name);
    }
  }
  PyObject *given = PyDict_Keys(values);
  if (known != NULL && given != NULL) {
    kp_py_fail(state, KP_ERROR_ARGUMENT, "program '%s': expected the inputs %S, got %S",
               kp_model_program_name(model, program), known, given);
  }
  Py_XDECREF(known);
  Py_XDECREF(given);
  return false;
}

static bool inputs_create(const kp_py_state *state, const kp_model *model, size_t program, PyObject *values,
                          input_set *inputs) {
  size_t count = kp_model_port_count(model, program, KP_INPUT);
  *inputs = (input_set){.tensors = PyMem_Calloc(count + 1, sizeof *inputs->tensors),
                        .owners = PyMem_Calloc(count + 1, sizeof *inputs->owners),
                        .count = count};
  if (inputs->tensors == NULL || inputs->owners == NULL) {
    PyErr_NoMemory();
    return false;
  }
  if ((size_t)PyDict_GET_SIZE(values) != count) return fail_unknown_input(state, model, program, values);
  for (size_t i = 0; i < count; i++) {
    kp_port port;
    kp_error error;
    if (kp_model_port(model, program, KP_INPUT, i, &port, &error) != KP_OK) {
      kp_py_raise(state, &error);
      return false;
    }
    PyObject *value = PyDict_GetItemString(values, port.name); /* borrowed */
    if (value == NULL) return fail_unknown_input(state, model, program, values);
    inputs->owners[i] =
        kp_py_tensor_from_object(state, kp_model_program_name(model, program), &port, value, &inputs->tensors[i]);
    if (inputs->owners[i] == NULL) return false;
  }
  return true;
}

static PyObject *outputs_to_dict(const kp_model *model, size_t program, const kp_tensor *outputs, size_t count) {
  PyObject *result = PyDict_New();
  for (size_t i = 0; result != NULL && i < count; i++) {
    kp_port port;
    PyObject *array = kp_model_port(model, program, KP_OUTPUT, i, &port, NULL) == KP_OK
                          ? kp_py_array_from_tensor(&port, &outputs[i])
                          : NULL;
    if (array == NULL || PyDict_SetItemString(result, port.name, array) < 0) Py_CLEAR(result);
    Py_XDECREF(array);
  }
  return result;
}

/* run(program, inputs, taps=None) -> (outputs, record) */
static PyObject *session_run(PyObject *object, PyObject *args) {
  kp_py_session *self = (kp_py_session *)object;
  const kp_py_state *state = kp_py_state_of_instance(object);
  const kp_model *model = ((kp_py_model *)self->model)->model;
  Py_ssize_t index;
  PyObject *values, *taps = Py_None;
  if (!PyArg_ParseTuple(args, "nO!|O:run", &index, &PyDict_Type, &values, &taps)) return NULL;
  if (index < 0 || (size_t)index >= kp_model_program_count(model)) {
    return kp_py_fail(state, KP_ERROR_ARGUMENT, "program: expected 0 to %zd, got %zd",
                      (Py_ssize_t)kp_model_program_count(model) - 1, index);
  }
  size_t program = (size_t)index;
  PyObject *result = NULL;
  input_set inputs = {0};
  tap_recorder recorder = {0};
  size_t output_count = kp_model_port_count(model, program, KP_OUTPUT);
  kp_tensor *outputs = PyMem_Calloc(output_count + 1, sizeof *outputs);
  if (outputs == NULL) {
    PyErr_NoMemory();
  } else if (inputs_create(state, model, program, values, &inputs) && recorder_create(state, model, taps, &recorder) &&
             acquire(state, self)) {
    kp_error error;
    kp_tap_fn tap = recorder.masks == NULL ? NULL : record_tap;
    recorder.state = PyEval_SaveThread();
    kp_status status = kp_session_run(self->session, program, inputs.tensors, inputs.count, outputs, output_count, tap,
                                      &recorder, &error);
    PyEval_RestoreThread(recorder.state);
    if (status == KP_OK) {
      PyObject *arrays = outputs_to_dict(model, program, outputs, output_count);
      result = arrays == NULL ? NULL : Py_BuildValue("NO", arrays, recorder.record);
    } else {
      run_failed(state, &error);
    }
    self->busy = false; /* outputs lie in the session until here */
  }
  recorder_release(&recorder);
  inputs_release(&inputs);
  PyMem_Free(outputs);
  return result;
}

static PyObject *copied(int rank, const npy_intp *shape, int type, const void *data) {
  PyArrayObject *array = (PyArrayObject *)PyArray_SimpleNew(rank, shape, type);
  if (array != NULL) memcpy(PyArray_DATA(array), data, (size_t)PyArray_NBYTES(array));
  return (PyObject *)array;
}

static PyObject *encoding_to_dict(const kp_encoding *encoding, const kp_encoder_info *info) {
  npy_intp embedding[] = {KP_REGION_COUNT, KP_EMBEDDING_SIZE};
  npy_intp boxes[] = {KP_REGION_COUNT, 4};
  npy_intp masks[] = {KP_REGION_COUNT, info->mask_height, info->mask_width};
  PyObject *timings = PyDict_New();
  for (int stage = 0; timings != NULL && stage < KP_STAGE_COUNT; stage++) {
    PyObject *seconds = PyFloat_FromDouble((double)encoding->nanoseconds[stage] * 1e-9);
    const char *name = kp_stage_name((kp_stage)stage);
    if (seconds == NULL || PyDict_SetItemString(timings, name, seconds) < 0) Py_CLEAR(timings);
    Py_XDECREF(seconds);
  }
  if (timings == NULL) return NULL;
  return Py_BuildValue("{s:N,s:N,s:N,s:N,s:N,s:N,s:N,s:i,s:N}",                             /* */
                       "context", copied(1, embedding + 1, NPY_FLOAT32, encoding->context), /* */
                       "image", copied(1, embedding + 1, NPY_FLOAT32, encoding->image),     /* */
                       "rois", copied(2, embedding, NPY_FLOAT32, encoding->rois),           /* */
                       "text", copied(1, embedding + 1, NPY_FLOAT32, encoding->text),       /* */
                       "masks", copied(3, masks, NPY_BOOL, encoding->masks),                /* */
                       "boxes", copied(2, boxes, NPY_INT32, encoding->boxes),               /* */
                       "roi_valid", copied(1, embedding, NPY_BOOL, encoding->roi_valid),    /* */
                       "tokens", encoding->token_count, "timings", timings);
}

/* Who types: None, a number, or KP_USER_SIZE floats, which lie in the array that *vector receives a reference to. */
static bool user_from_object(const kp_py_state *state, PyObject *object, const kp_encoder_info *info, kp_user *user,
                             PyArrayObject **vector) {
  *user = (kp_user){.id = KP_UNKNOWN_USER};
  if (object == Py_None) return true;
  if (PyLong_Check(object)) {
    user->id = PyLong_AsLongLong(object);
    if (user->id == -1 && PyErr_Occurred()) return false;
    if (user->id != KP_UNKNOWN_USER) return true; /* kp_encode checks it */
    if (info->user_count == 0) {
      kp_py_fail(state, KP_ERROR_ARGUMENT,
                 "user: expected none, as the model does not ask who types, got a user's number");
    } else {
      kp_py_fail(state, KP_ERROR_ARGUMENT, "user: expected 0 to %lld, got %d", (long long)info->user_count - 1,
                 KP_UNKNOWN_USER);
    }
    return false;
  }
  *vector = (PyArrayObject *)PyArray_FROMANY(object, NPY_FLOAT32, 0, 0, NPY_ARRAY_CARRAY_RO);
  if (*vector == NULL) return false;
  if (PyArray_NDIM(*vector) != 1 || PyArray_DIM(*vector, 0) != KP_USER_SIZE) {
    kp_py_fail(state, KP_ERROR_SHAPE, "user: expected a vector of %d numbers, got %zd in %d dimensions", KP_USER_SIZE,
               (Py_ssize_t)PyArray_SIZE(*vector), PyArray_NDIM(*vector));
    return false;
  }
  user->vector = PyArray_DATA(*vector);
  return true;
}

/* encode(image, text, user, taps=None) -> (fields, record) */
static PyObject *session_encode(PyObject *object, PyObject *args) {
  kp_py_session *self = (kp_py_session *)object;
  const kp_py_state *state = kp_py_state_of_instance(object);
  const kp_model *model = ((kp_py_model *)self->model)->model;
  PyObject *picture, *who, *taps = Py_None;
  Py_buffer text;
  if (!PyArg_ParseTuple(args, "Oy*O|O:encode", &picture, &text, &who, &taps)) return NULL;
  PyObject *result = NULL;
  kp_error error;
  kp_encoder_info info;
  kp_image image;
  tap_recorder recorder = {0};
  kp_user user;
  PyArrayObject *pixels = NULL, *vector = NULL;
  if (kp_model_encoder_info(model, &info, &error) != KP_OK) {
    kp_py_raise(state, &error);
  } else if ((pixels = kp_py_image_from_object(state, picture, &image)) != NULL &&
             user_from_object(state, who, &info, &user, &vector) && recorder_create(state, model, taps, &recorder) &&
             acquire(state, self)) {
    kp_encoding encoding;
    kp_tap_fn tap = recorder.masks == NULL ? NULL : record_tap;
    recorder.state = PyEval_SaveThread();
    kp_status status =
        kp_encode(self->session, &image, text.buf, (size_t)text.len, &user, &encoding, tap, &recorder, &error);
    PyEval_RestoreThread(recorder.state);
    if (status == KP_OK) {
      PyObject *fields = encoding_to_dict(&encoding, &info);
      result = fields == NULL ? NULL : Py_BuildValue("NO", fields, recorder.record);
    } else {
      run_failed(state, &error);
    }
    self->busy = false; /* the masks lie in the session until here */
  }
  recorder_release(&recorder);
  Py_XDECREF(pixels);
  Py_XDECREF(vector);
  PyBuffer_Release(&text);
  return result;
}

/* ---- Cost ---- */

/* cost(program, n, t) -> (arena_bytes, macs, [(type, output, macs, output_bytes), ...]) */
static PyObject *session_cost(PyObject *object, PyObject *args) {
  kp_py_session *self = (kp_py_session *)object;
  const kp_py_state *state = kp_py_state_of_instance(object);
  Py_ssize_t program;
  long long n, t;
  if (!PyArg_ParseTuple(args, "nLL:cost", &program, &n, &t)) return NULL;
  kp_program_cost cost;
  kp_error error;
  if (!acquire(state, self)) return NULL;
  PyObject *ops = NULL;
  if (kp_session_cost(self->session, (size_t)program, n, t, &cost, &error) != KP_OK) {
    kp_py_raise(state, &error);
  } else {
    ops = PyTuple_New((Py_ssize_t)cost.op_count);
    for (size_t i = 0; ops != NULL && i < cost.op_count; i++) {
      kp_op_info info;
      PyObject *op = NULL;
      if (kp_session_op(self->session, (size_t)program, n, t, i, &info, &error) != KP_OK) {
        kp_py_raise(state, &error);
      } else {
        op =
            Py_BuildValue("ssKn", info.type, info.output, (unsigned long long)info.macs, (Py_ssize_t)info.output_bytes);
      }
      if (op == NULL) {
        Py_CLEAR(ops);
      } else {
        PyTuple_SET_ITEM(ops, (Py_ssize_t)i, op);
      }
    }
  }
  self->busy = false;
  if (ops == NULL) return NULL;
  return Py_BuildValue("nKN", (Py_ssize_t)cost.arena_bytes, (unsigned long long)cost.macs, ops);
}

static PyObject *session_threads(PyObject *self, void *Py_UNUSED(closure)) {
  return PyLong_FromLong(kp_session_threads(((kp_py_session *)self)->session));
}

/* ---- The type ---- */

static PyMethodDef methods[] = {
    {"run", session_run, METH_VARARGS,
     "run(program, inputs, taps=None)\n--\n\nRuns a program, by its index. Returns (outputs, record): name -> array,\n"
     "and (program, tap, array) of each tensor that `taps` asks for: for each program, one byte for each of its taps."},
    {"encode", session_encode, METH_VARARGS,
     "encode(image, text, user, taps=None)\n--\n\nEncodes a picture and UTF-8 text for a user: None, a number, or a\n"
     "vector of 64 floats. Returns (fields, record)."},
    {"cost", session_cost, METH_VARARGS,
     "cost(program, n, t)\n--\n\n(arena_bytes, macs, ops) at batch n and t text tokens; an op is\n"
     "(type, output, macs, output_bytes)."},
    {"start_digest", kp_py_session_start_digest, METH_NOARGS,
     "start_digest()\n--\n\nHas the session keep a digest of what it runs from here on."},
    {"take_digest", kp_py_session_take_digest, METH_NOARGS,
     "take_digest()\n--\n\nEnds the digest and returns it as bytes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"threads", session_threads, NULL, "The number of threads, the calling one included.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Session(model, threads=1)\n--\n\nWhat a run needs beside the model. One caller at a time."},
    {Py_tp_new, session_new},
    {Py_tp_dealloc, session_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

PyType_Spec kp_py_session_spec = {
    .name = "keypilot._core.Session",
    .basicsize = sizeof(kp_py_session),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

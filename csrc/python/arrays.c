/* Between NumPy's arrays, in PyTorch's order of dimensions, and the core's tensors, in memory order. */
#include "python/core.h"

#include <stdio.h>
#include <string.h>

int kp_py_numpy_type(kp_dtype dtype) {
  switch (dtype) {
    case KP_F32:
      return NPY_FLOAT32;
    case KP_I32:
      return NPY_INT32;
    case KP_BOOL:
      return NPY_BOOL;
    case KP_U8:
      return NPY_UINT8;
    case KP_I8:
      return NPY_INT8;
  }
  return NPY_NOTYPE;
}

void kp_py_dim_text(kp_dim dim, char text[32]) {
  const char *symbols = dim.n ? (dim.t ? "NT" : "N") : (dim.t ? "T" : "");
  if (dim.value == 1 && symbols[0] != '\0') {
    snprintf(text, 32, "%s", symbols);
  } else {
    snprintf(text, 32, "%lld%s", (long long)dim.value, symbols);
  }
}

/* ---- Out ---- */

static void dequantize(const kp_port *port, const int8_t *quantized, size_t count, float *real) {
  size_t channels = (size_t)port->channels;
  for (size_t i = 0; i < count; i++) {
    size_t c = i % channels;
    real[i] = (float)(quantized[i] - port->zero_point[c]) * port->scale[c];
  }
}

/* Quantised tensors become the real numbers that they stand for. */
PyObject *kp_py_array_from_tensor(const kp_port *port, const kp_tensor *tensor) {
  npy_intp shape[KP_MAX_RANK];
  for (int32_t i = 0; i < tensor->rank; i++) shape[i] = (npy_intp)tensor->shape[i];
  bool quantized = port->scale != NULL;
  int type = quantized ? NPY_FLOAT32 : kp_py_numpy_type(tensor->dtype);
  PyArrayObject *memory = (PyArrayObject *)PyArray_SimpleNew(tensor->rank, shape, type);
  if (memory == NULL) return NULL;
  size_t bytes = (size_t)PyArray_NBYTES(memory);
  if (quantized) {
    dequantize(port, tensor->data, (size_t)PyArray_SIZE(memory), PyArray_DATA(memory));
  } else if (bytes > 0) {
    memcpy(PyArray_DATA(memory), tensor->data, bytes);
  }

  npy_intp axes[KP_MAX_RANK]; /* the inverse of the port's order */
  bool permuted = false;
  for (int32_t i = 0; i < port->rank; i++) {
    axes[port->order[i]] = i;
    permuted = permuted || port->order[i] != i;
  }
  if (!permuted) return (PyObject *)memory;
  PyArray_Dims permutation = {axes, port->rank};
  PyObject *logical = PyArray_Transpose(memory, &permutation);
  Py_DECREF(memory);
  return logical;
}

/* ---- In ---- */

/* "(N, 3, 256, 256)", cut off where it does not fit. */
static void port_shape_text(const kp_port *port, char *text, size_t capacity) {
  size_t used = (size_t)snprintf(text, capacity, "(");
  for (int32_t i = 0; i < port->rank && used < capacity; i++) {
    char dim[32];
    kp_py_dim_text(port->shape[i], dim);
    used += (size_t)snprintf(text + used, capacity - used, "%s%s", dim, i + 1 < port->rank ? ", " : "");
  }
  if (used < capacity) snprintf(text + used, capacity - used, ")");
}

static bool shape_fits(const kp_port *port, PyArrayObject *array) {
  if (PyArray_NDIM(array) != port->rank) return false;
  for (int32_t i = 0; i < port->rank; i++) {
    int64_t size = PyArray_DIM(array, i);
    kp_dim dim = port->shape[i];
    if (dim.n || dim.t ? (dim.value > 0 && size % dim.value != 0) : size != dim.value) return false;
  }
  return true;
}

static const char *accepted_dtypes(kp_dtype dtype) {
  switch (dtype) {
    case KP_F32:
      return "real numbers (float32, or what converts to it)";
    case KP_I32:
      return "integers that fit int32";
    case KP_BOOL:
      return "bool";
    case KP_U8:
      return "uint8";
    case KP_I8:
      return "int8";
  }
  return "a supported dtype";
}

static bool dtype_fits(kp_dtype dtype, PyArrayObject *array) {
  int type = PyArray_TYPE(array);
  switch (dtype) {
    case KP_F32:
      return PyTypeNum_ISFLOAT(type) || PyTypeNum_ISINTEGER(type) || PyTypeNum_ISBOOL(type);
    case KP_I32:
      return PyTypeNum_ISINTEGER(type);
    default:
      return type == kp_py_numpy_type(dtype);
  }
}

static PyArrayObject *dense(PyArrayObject *array, int type) {
  return (PyArrayObject *)PyArray_FromArray(array, PyArray_DescrFromType(type),
                                            NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST);
}

/* A picture (N, H, W, 3) whose channels are planes, as PyTorch has them: NumPy copies such views element by element. */
static bool is_planar(PyArrayObject *array) {
  return PyArray_NDIM(array) == 4 && PyArray_TYPE(array) == NPY_FLOAT32 && PyArray_ISBEHAVED_RO(array) &&
         PyArray_DIM(array, 3) == 3 && PyArray_STRIDE(array, 2) == sizeof(float);
}

static PyArrayObject *interleave(PyArrayObject *planes) {
  PyArrayObject *result = (PyArrayObject *)PyArray_SimpleNew(4, PyArray_DIMS(planes), NPY_FLOAT32);
  if (result == NULL) return NULL;
  float *to = PyArray_DATA(result);
  npy_intp width = PyArray_DIM(planes, 2);
  for (npy_intp n = 0; n < PyArray_DIM(planes, 0); n++) {
    for (npy_intp y = 0; y < PyArray_DIM(planes, 1); y++, to += 3 * width) {
      const float *red = PyArray_GETPTR4(planes, n, y, 0, 0), *green = PyArray_GETPTR4(planes, n, y, 0, 1);
      const float *blue = PyArray_GETPTR4(planes, n, y, 0, 2);
      for (npy_intp x = 0; x < width; x++) {
        to[3 * x] = red[x];
        to[3 * x + 1] = green[x];
        to[3 * x + 2] = blue[x];
      }
    }
  }
  return result;
}

/* Integers of any width to int32, or NULL with an exception where one does not fit. */
static PyArrayObject *dense_int32(const kp_py_state *state, const char *program, const char *name,
                                  PyArrayObject *array) {
  int type = PyArray_TYPE(array);
  if (PyArray_CanCastSafely(type, NPY_INT32)) return dense(array, NPY_INT32);
  bool is_unsigned = PyTypeNum_ISUNSIGNED(type);
  PyArrayObject *wide = dense(array, is_unsigned ? NPY_UINT64 : NPY_INT64);
  if (wide == NULL) return NULL;
  PyArrayObject *narrow = (PyArrayObject *)PyArray_SimpleNew(PyArray_NDIM(wide), PyArray_DIMS(wide), NPY_INT32);
  if (narrow == NULL) {
    Py_DECREF(wide);
    return NULL;
  }
  const int64_t *from = PyArray_DATA(wide);
  int32_t *to = PyArray_DATA(narrow);
  for (npy_intp i = 0; i < PyArray_SIZE(wide); i++) {
    /* An unsigned number above INT64_MAX is negative here, and refused as such. */
    if (from[i] > INT32_MAX || from[i] < (is_unsigned ? 0 : INT32_MIN)) {
      PyObject *number = is_unsigned ? PyLong_FromUnsignedLongLong((uint64_t)from[i]) : PyLong_FromLongLong(from[i]);
      if (number != NULL) {
        kp_py_fail(state, KP_ERROR_ARGUMENT, "program '%s', input '%s': expected integers that fit int32, got %S",
                   program, name, number);
        Py_DECREF(number);
      }
      Py_DECREF(narrow);
      Py_DECREF(wide);
      return NULL;
    }
    to[i] = (int32_t)from[i];
  }
  Py_DECREF(wide);
  return narrow;
}

PyObject *kp_py_tensor_from_object(const kp_py_state *state, const char *program, const kp_port *port, PyObject *object,
                                   kp_tensor *tensor) {
  PyArrayObject *array = (PyArrayObject *)PyArray_FromAny(object, NULL, 0, 0, 0, NULL);
  if (array == NULL) return NULL;
  if (!dtype_fits(port->dtype, array)) {
    kp_py_fail(state, KP_ERROR_SHAPE, "program '%s', input '%s': expected %s, got dtype %S", program, port->name,
               accepted_dtypes(port->dtype), PyArray_DESCR(array));
    Py_DECREF(array);
    return NULL;
  }
  if (!shape_fits(port, array)) {
    char expected[256];
    port_shape_text(port, expected, sizeof expected);
    PyObject *shape = PyObject_GetAttrString((PyObject *)array, "shape");
    if (shape != NULL) {
      kp_py_fail(state, KP_ERROR_SHAPE, "program '%s', input '%s': expected shape %s, got %S", program, port->name,
                 expected, shape);
      Py_DECREF(shape);
    }
    Py_DECREF(array);
    return NULL;
  }

  npy_intp axes[KP_MAX_RANK];
  for (int32_t i = 0; i < port->rank; i++) axes[i] = port->order[i];
  PyArray_Dims permutation = {axes, port->rank};
  PyArrayObject *memory = (PyArrayObject *)PyArray_Transpose(array, &permutation);
  Py_DECREF(array);
  if (memory == NULL) return NULL;
  PyArrayObject *result = is_planar(memory)       ? interleave(memory)
                          : port->dtype == KP_I32 ? dense_int32(state, program, port->name, memory)
                                                  : dense(memory, kp_py_numpy_type(port->dtype));
  Py_DECREF(memory);
  if (result == NULL) return NULL;

  tensor->dtype = port->dtype;
  tensor->rank = port->rank;
  for (int32_t i = 0; i < port->rank; i++) tensor->shape[i] = PyArray_DIM(result, i);
  tensor->data = PyArray_DATA(result);
  return (PyObject *)result;
}

/* ---- Pictures ---- */

PyArrayObject *kp_py_image_from_object(const kp_py_state *state, PyObject *object, kp_image *image) {
  int flags = NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED;
  PyArrayObject *array = (PyArrayObject *)PyArray_CheckFromAny(object, NULL, 2, 3, flags, NULL);
  if (array == NULL) return NULL;
  int type = PyArray_TYPE(array);
  npy_intp channels = PyArray_NDIM(array) == 3 ? PyArray_DIM(array, 2) : 1;
  npy_intp height = PyArray_DIM(array, 0), width = PyArray_DIM(array, 1);
  bool fits = (type == NPY_UINT8 || type == NPY_UINT16) && (channels == 1 || channels == 3 || channels == 4) &&
              height >= 1 && width >= 1 && height <= KP_MAX_IMAGE_SIDE && width <= KP_MAX_IMAGE_SIDE;
  if (!fits) {
    PyObject *shape = PyObject_GetAttrString((PyObject *)array, "shape");
    if (shape != NULL) {
      kp_py_fail(state, KP_ERROR_ARGUMENT,
                 "image: expected uint8 or uint16, (height, width) or (height, width, 1, 3 or 4), sides of 1 to %d "
                 "pixels, got %S %S",
                 KP_MAX_IMAGE_SIDE, PyArray_DESCR(array), shape);
      Py_DECREF(shape);
    }
    Py_DECREF(array);
    return NULL;
  }
  npy_intp size = PyArray_ITEMSIZE(array);
  bool dense_rows = PyArray_STRIDE(array, 0) >= width * channels * size &&
                    PyArray_STRIDE(array, 1) == channels * size &&
                    (PyArray_NDIM(array) == 2 || PyArray_STRIDE(array, 2) == size);
  if (!dense_rows) {
    PyArrayObject *copy = (PyArrayObject *)PyArray_NewCopy(array, NPY_CORDER);
    Py_DECREF(array);
    if (copy == NULL) return NULL;
    array = copy;
  }
  *image = (kp_image){.data = PyArray_DATA(array),
                      .width = (int32_t)width,
                      .height = (int32_t)height,
                      .channels = (int32_t)channels,
                      .bits = (int32_t)(8 * size),
                      .row_bytes = (size_t)PyArray_STRIDE(array, 0)};
  return array;
}

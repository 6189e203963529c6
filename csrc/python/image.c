/* Letterboxing and regions as functions of arrays: what tests compare with Pillow and NumPy, without a model. */
#include "image/image.h"
#include "encoder/detections.h"
#include "python/core.h"

/* ---- letterbox ---- */

static bool rect_in_image(const kp_py_state *state, const kp_image *image, kp_rect rect) {
  if (0 <= rect.x0 && rect.x0 < rect.x1 && rect.x1 <= image->width && 0 <= rect.y0 && rect.y0 < rect.y1 &&
      rect.y1 <= image->height) {
    return true;
  }
  kp_py_fail(state, KP_ERROR_ARGUMENT,
             "rect: expected x0 < x1 and y0 < y1 inside a picture of width %d, height %d, got (%d, %d, %d, %d)",
             (int)image->width, (int)image->height, (int)rect.x0, (int)rect.y0, (int)rect.x1, (int)rect.y1);
  return false;
}

static kp_status letterbox(const kp_image *image, kp_rect rect, int32_t side, const uint8_t pad[3], int threads,
                           uint32_t isa, uint8_t *dst, kp_error *error) {
  kp_kernels kernels;
  kp_allocator allocator = kp_default_allocator();
  kp_pool *pool;
  kp_resizer resizer;
  kp_kernels_init(&kernels, isa);
  KP_TRY(kp_pool_create(&allocator, threads, &pool, error));
  kp_resizer_init(&resizer, &kernels, pool, &allocator);
  kp_status status = kp_image_letterbox(&resizer, image, rect, side, pad, dst, error);
  kp_resizer_release(&resizer);
  kp_pool_close(pool);
  return status;
}

/* letterbox(image, rect, side, pad, threads=1, isa=None) -> uint8 (side, side, 3) */
static PyObject *image_letterbox(PyObject *module, PyObject *args) {
  const kp_py_state *state = kp_py_state_of(module);
  PyObject *picture;
  kp_rect rect;
  int side, threads = 1;
  uint8_t pad[3];
  const char *level = NULL;
  if (!PyArg_ParseTuple(args, "O(iiii)i(bbb)|iz:letterbox", &picture, &rect.x0, &rect.y0, &rect.x1, &rect.y1, &side,
                        &pad[0], &pad[1], &pad[2], &threads, &level)) {
    return NULL;
  }
  uint32_t isa = kp_cpu_isa();
  if (level != NULL && !kp_isa_cap(&isa, level)) {
    return kp_py_fail(state, KP_ERROR_ARGUMENT, "isa: no level is named '%s'", level);
  }
  if (side < 1 || side > KP_MAX_IMAGE_SIDE) {
    return kp_py_fail(state, KP_ERROR_ARGUMENT, "side: expected 1 to %d, got %d", KP_MAX_IMAGE_SIDE, side);
  }
  kp_image image;
  PyArrayObject *pixels = kp_py_image_from_object(state, picture, &image);
  if (pixels == NULL) return NULL;
  npy_intp shape[] = {side, side, 3};
  PyArrayObject *square =
      rect_in_image(state, &image, rect) ? (PyArrayObject *)PyArray_SimpleNew(3, shape, NPY_UINT8) : NULL;
  if (square != NULL) {
    kp_error error;
    kp_status status;
    uint8_t *dst = PyArray_DATA(square);
    Py_BEGIN_ALLOW_THREADS;
    status = letterbox(&image, rect, side, pad, threads, isa, dst, &error);
    Py_END_ALLOW_THREADS;
    if (status != KP_OK) {
      Py_CLEAR(square);
      kp_py_raise(state, &error);
    }
  }
  Py_DECREF(pixels);
  return (PyObject *)square;
}

/* ---- regions ---- */

static bool sizes_fit(const kp_py_state *state, npy_intp mask_side, int image_side, int width, int height) {
  if (width >= 1 && width <= KP_MAX_IMAGE_SIDE && height >= 1 && height <= KP_MAX_IMAGE_SIDE && mask_side >= 1 &&
      image_side >= mask_side && image_side <= KP_MAX_IMAGE_SIDE && image_side % mask_side == 0) {
    return true;
  }
  kp_py_fail(
      state, KP_ERROR_ARGUMENT,
      "expected an image_side that is a multiple of the masks', and width and height of 1 to %d, got image_side %d, "
      "masks of side %zd, width %d, height %d",
      KP_MAX_IMAGE_SIDE, image_side, (Py_ssize_t)mask_side, width, height);
  return false;
}

static kp_mask_frame mask_frame(int32_t side, int32_t image_side, int32_t width, int32_t height) {
  return (kp_mask_frame){.side = side,
                         .scale = image_side / side,
                         .box = kp_letterbox_fit(width, height, image_side),
                         .width = width,
                         .height = height};
}

/* regions(masks, image_side, width, height) -> (masks, boxes, valid): the largest component of each mask, (n, S, S)
 * uint8 of 0 and 1, and its box, (n, 4) int32; zeros and False where a mask is empty. */
static PyObject *image_regions(PyObject *module, PyObject *args) {
  const kp_py_state *state = kp_py_state_of(module);
  PyObject *object;
  int image_side, width, height;
  if (!PyArg_ParseTuple(args, "Oiii:regions", &object, &image_side, &width, &height)) return NULL;
  PyArrayObject *given = (PyArrayObject *)PyArray_FROMANY(object, NPY_UINT8, 3, 3, NPY_ARRAY_C_CONTIGUOUS);
  if (given == NULL) return NULL;
  npy_intp count = PyArray_DIM(given, 0), side = PyArray_DIM(given, 1);
  bool fits = sizes_fit(state, side, image_side, width, height);
  if (fits && PyArray_DIM(given, 2) != side) {
    kp_py_fail(state, KP_ERROR_ARGUMENT, "masks: expected (n, side, side), got height %zd, width %zd", (Py_ssize_t)side,
               (Py_ssize_t)PyArray_DIM(given, 2));
    fits = false;
  }
  if (!fits) {
    Py_DECREF(given);
    return NULL;
  }
  npy_intp boxes_shape[] = {count, 4};
  PyArrayObject *masks = (PyArrayObject *)PyArray_NewCopy(given, NPY_CORDER);
  PyArrayObject *boxes = (PyArrayObject *)PyArray_ZEROS(2, boxes_shape, NPY_INT32, 0);
  PyArrayObject *valid = (PyArrayObject *)PyArray_ZEROS(1, boxes_shape, NPY_BOOL, 0);
  int32_t *queue = PyMem_Malloc((size_t)(side * side) * sizeof *queue);
  Py_DECREF(given);
  if (masks == NULL || boxes == NULL || valid == NULL || queue == NULL) {
    if (queue == NULL) PyErr_NoMemory();
    Py_XDECREF(masks);
    Py_XDECREF(boxes);
    Py_XDECREF(valid);
    PyMem_Free(queue);
    return NULL;
  }
  uint8_t *mask = PyArray_DATA(masks);
  int32_t *box = PyArray_DATA(boxes);
  npy_bool *is_valid = PyArray_DATA(valid);
  Py_BEGIN_ALLOW_THREADS;
  kp_mask_frame frame = mask_frame((int32_t)side, image_side, width, height);
  for (npy_intp i = 0; i < count; i++, mask += side * side, box += 4) {
    for (npy_intp j = 0; j < side * side; j++) mask[j] = mask[j] != 0;
    is_valid[i] = kp_mask_largest_component(mask, &frame, queue) > 0;
    if (!is_valid[i]) continue;
    kp_rect rect = kp_mask_box(mask, &frame);
    box[0] = rect.x0;
    box[1] = rect.y0;
    box[2] = rect.x1;
    box[3] = rect.y1;
  }
  Py_END_ALLOW_THREADS;
  PyMem_Free(queue);
  return Py_BuildValue("(NNN)", masks, boxes, valid);
}

/* grid_region(cell, side, image_side, width, height) -> (mask, box) */
static PyObject *image_grid_region(PyObject *module, PyObject *args) {
  const kp_py_state *state = kp_py_state_of(module);
  uint32_t cell[4];
  int side, image_side, width, height;
  if (!PyArg_ParseTuple(args, "(IIII)iiii:grid_region", &cell[0], &cell[1], &cell[2], &cell[3], &side, &image_side,
                        &width, &height)) {
    return NULL;
  }
  if (cell[0] >= cell[2] || cell[1] >= cell[3] || cell[2] > 1000 || cell[3] > 1000) {
    return kp_py_fail(state, KP_ERROR_ARGUMENT,
                      "cell: expected x0 < x1 <= 1000 and y0 < y1 <= 1000, got (%u, %u, %u, %u)", (unsigned)cell[0],
                      (unsigned)cell[1], (unsigned)cell[2], (unsigned)cell[3]);
  }
  if (!sizes_fit(state, side, image_side, width, height)) return NULL;
  npy_intp shape[] = {side, side};
  PyArrayObject *mask = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_UINT8, 0);
  if (mask == NULL) return NULL;
  kp_mask_frame frame = mask_frame(side, image_side, width, height);
  kp_rect rect = kp_grid_box(cell, width, height);
  kp_mask_fill(PyArray_DATA(mask), side, kp_mask_rect(&frame, rect));
  return Py_BuildValue("(N(iiii))", mask, (int)rect.x0, (int)rect.y0, (int)rect.x1, (int)rect.y1);
}

/* ---- detections ---- */

/* A float array of this shape as the core's port would hold it. NULL with an exception for another. */
static PyArrayObject *float_array(const kp_py_state *state, PyObject *object, const char *name, int rank,
                                  const npy_intp *shape) {
  PyArrayObject *array = (PyArrayObject *)PyArray_FROMANY(object, NPY_FLOAT32, rank, rank, NPY_ARRAY_CARRAY_RO);
  if (array == NULL || PyArray_CompareLists(PyArray_DIMS(array), shape, rank)) return array;
  kp_py_fail(state, KP_ERROR_SHAPE, "%s: its shape does not fit the others'", name);
  Py_DECREF(array);
  return NULL;
}

static kp_planes dense_planes(PyArrayObject *array) {
  kp_planes view = {.data = PyArray_DATA(array), .sizes = {1, 1, 1}};
  for (int i = 0; i < PyArray_NDIM(array); i++) {
    view.sizes[i] = (size_t)PyArray_DIM(array, i);
    view.strides[i] = (size_t)PyArray_STRIDE(array, i) / sizeof(float);
  }
  return view;
}

/* detection_masks((boxes, scores, coefficients, prototypes), (min_score, max_overlap, max_count), grid, image_side,
 * width, height) -> (kept, masks) */
static PyObject *image_detection_masks(PyObject *module, PyObject *args) {
  const kp_py_state *state = kp_py_state_of(module);
  PyObject *objects[4], *grid_object;
  kp_detection_settings settings;
  int image_side, width, height;
  if (!PyArg_ParseTuple(args, "(OOOO)(ffi)Oiii:detection_masks", &objects[0], &objects[1], &objects[2], &objects[3],
                        &settings.min_score, &settings.max_overlap, &settings.max_count, &grid_object, &image_side,
                        &width, &height)) {
    return NULL;
  }
  PyArrayObject *scores = (PyArrayObject *)PyArray_FROMANY(objects[1], NPY_FLOAT32, 1, 1, NPY_ARRAY_CARRAY_RO);
  npy_intp anchors = scores == NULL ? 0 : PyArray_DIM(scores, 0);
  PyArrayObject *grid = (PyArrayObject *)PyArray_FROMANY(grid_object, NPY_UINT32, 2, 2, NPY_ARRAY_CARRAY_RO);
  PyArrayObject *prototypes = (PyArrayObject *)PyArray_FROMANY(objects[3], NPY_FLOAT32, 3, 3, NPY_ARRAY_CARRAY_RO);
  npy_intp side = prototypes == NULL ? 1 : PyArray_DIM(prototypes, 1);
  npy_intp grid_shape[] = {KP_REGION_COUNT, 4}, prototypes_shape[] = {KP_DETECTION_COEFFICIENTS, side, side};
  npy_intp shapes[][2] = {{anchors, 4}, {anchors, KP_DETECTION_COEFFICIENTS}};
  PyArrayObject *boxes = float_array(state, objects[0], "boxes", 2, shapes[0]);
  PyArrayObject *coefficients = float_array(state, objects[2], "coefficients", 2, shapes[1]);
  PyObject *result = NULL;
  bool fits = grid && prototypes && PyArray_CompareLists(PyArray_DIMS(grid), grid_shape, 2) &&
              PyArray_CompareLists(PyArray_DIMS(prototypes), prototypes_shape, 3);
  if (!fits && !PyErr_Occurred()) kp_py_fail(state, KP_ERROR_SHAPE, "grid, prototypes: expected (4, 4), (32, S, S)");
  if (fits && boxes && scores && coefficients && sizes_fit(state, side, image_side, width, height)) {
    npy_intp kept_shape[] = {anchors}, masks_shape[] = {KP_REGION_COUNT, side, side};
    PyArrayObject *kept = (PyArrayObject *)PyArray_ZEROS(1, kept_shape, NPY_INT32, 0);
    PyArrayObject *masks = (PyArrayObject *)PyArray_ZEROS(3, masks_shape, NPY_UINT8, 0);
    kp_detection_buffers buffers = {
        .kept = kept == NULL ? NULL : PyArray_DATA(kept),
        .prototypes = PyMem_Calloc(kp_detection_prototype_size((int32_t)side), sizeof(float)),
        .mask = PyMem_Malloc((size_t)(side * side))};
    if (kept && masks && buffers.prototypes && buffers.mask) {
      kp_detections detections = {.boxes = dense_planes(boxes),
                                  .scores = PyArray_DATA(scores),
                                  .coefficients = dense_planes(coefficients),
                                  .prototypes = dense_planes(prototypes)};
      kp_mask_frame frame = mask_frame((int32_t)side, image_side, width, height);
      settings.anchors = (int32_t)anchors;
      const uint32_t(*cells)[4] = PyArray_DATA(grid);
      int32_t count = kp_detections_choose(&detections, &settings, cells, &frame, &buffers, PyArray_DATA(masks));
      PyObject *indices = PySequence_GetSlice((PyObject *)kept, 0, count);
      result = indices == NULL ? NULL : Py_BuildValue("NO", indices, masks);
    } else if (!PyErr_Occurred()) {
      PyErr_NoMemory();
    }
    PyMem_Free(buffers.prototypes);
    PyMem_Free(buffers.mask);
    Py_XDECREF(kept);
    Py_XDECREF(masks);
  }
  Py_XDECREF(grid);
  Py_XDECREF(prototypes);
  Py_XDECREF(boxes);
  Py_XDECREF(scores);
  Py_XDECREF(coefficients);
  return result;
}

PyMethodDef kp_py_image_methods[] = {
    {"letterbox", image_letterbox, METH_VARARGS,
     "letterbox(image, rect, side, pad, threads=1, isa=None)\n--\n\n"
     "The picture's rectangle (x0, y0, x1, y1), scaled into a square with margins of colour `pad`: uint8 (side, side, "
     "3)."},
    {"regions", image_regions, METH_VARARGS,
     "regions(masks, image_side, width, height)\n--\n\n"
     "(masks, boxes, valid): each mask's largest component, uint8 (n, S, S), and its box in the picture, int32 (n, 4); "
     "zeros and False where a mask is empty."},
    {"detection_masks", image_detection_masks, METH_VARARGS,
     "detection_masks(detections, limits, grid, image_side, width, height)\n--\n\n"
     "(kept, masks) of (boxes, scores, coefficients, prototypes) under (min_score, max_overlap, max_count): the "
     "indices "
     "that non-maximum suppression keeps, and the mask for each cell of the grid, uint8 (4, S, S)."},
    {"grid_region", image_grid_region, METH_VARARGS,
     "grid_region(cell, side, image_side, width, height)\n--\n\n"
     "(mask, box) of a cell of the fixed grid, in thousandths of the picture's sides."},
    {NULL, NULL, 0, NULL},
};

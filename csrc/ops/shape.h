/* What several operators share: checks with messages, broadcasting, loops over strided operands, shares of a pool. */
#ifndef KP_OPS_SHAPE_H
#define KP_OPS_SHAPE_H

#include "ops/op.h"

/* No tensor that an operator reads or writes has more elements, so that products of dimensions, strides and element
 * sizes fit in 64 bits, and OpenBLAS's 32-bit sizes hold every dimension. */
#define KP_MAX_ELEMENTS INT32_MAX

/* Elements that make a task of element-wise work: some microseconds, far more than handing it out costs. */
#define KP_TASK_ELEMENTS 16384
/* Multiply-accumulates that do: about a microsecond. */
#define KP_TASK_MACS ((size_t)1 << 16)

/* ---- Checks ---- */

typedef struct kp_shape_string {
  char text[KP_MAX_RANK * 21 + 3];
} kp_shape_string;

/* "(4,64,12)", for messages. */
kp_shape_string kp_shape_format(const kp_shape *shape);

/* Each names operator and operand, says what was expected and what came. */
kp_status kp_check_dtype(const char *op, const char *operand, const kp_view *view, kp_dtype dtype, kp_error *error);
kp_status kp_check_rank(const char *op, const char *operand, const kp_view *view, int32_t rank, kp_error *error);
kp_status kp_check_range(const char *op, const char *attribute, const kp_attribute *values, int64_t low, int64_t high,
                         kp_error *error);
/* Dimensions >= 0, at most KP_MAX_ELEMENTS elements. */
kp_status kp_check_elements(const char *op, const char *operand, const kp_shape *shape, kp_error *error);
/* That, and at least one element. */
kp_status kp_check_not_empty(const char *op, const char *operand, const kp_shape *shape, kp_error *error);

bool kp_shape_equal(const kp_shape *a, const kp_shape *b);

/* A shape as (outer, length, inner) around one of its dimensions. */
typedef struct kp_axis {
  size_t outer, length, inner;
} kp_axis;

kp_axis kp_axis_of(const kp_shape *shape, int64_t axis);

/* A lane is what lies along the axis: outer * inner of them, elements `inner` apart. How many make a task, and the
 * element that one starts with. */
size_t kp_task_lanes(kp_axis axis);
static inline size_t kp_lane_start(kp_axis axis, size_t lane) {
  return lane / axis.inner * axis.length * axis.inner + lane % axis.inner;
}

/* ---- Broadcasting ---- */

/* NumPy's broadcast of `shape` with *result, into *result. */
kp_status kp_broadcast_shape(const char *op, const kp_shape *shape, kp_shape *result, kp_error *error);

/* A loop nest over strided operands: adjacent dimensions that every operand steps through alike are merged, those of
 * size 1 dropped. rank >= 1. Strides in elements. */
#define KP_MAX_OPERANDS 3
typedef struct kp_loop {
  int32_t rank;
  int64_t dim[KP_MAX_RANK];
  int64_t stride[KP_MAX_OPERANDS][KP_MAX_RANK];
} kp_loop;

/* Merges and drops dimensions of a nest that is filled in as written. */
void kp_loop_collapse(kp_loop *loop, int operands);

/* Where a nest is, the innermost dimension left out. */
typedef struct kp_cursor {
  int64_t index[KP_MAX_RANK];
  int64_t offset[KP_MAX_OPERANDS];
} kp_cursor;

/* The cursor at iteration `outer` of all dimensions but the innermost. */
void kp_cursor_start(const kp_loop *loop, int operands, int64_t outer, kp_cursor *cursor);
void kp_cursor_next(const kp_loop *loop, int operands, kp_cursor *cursor);

/* Applies `span` to runs of call->output: out[0..n) from inputs i at in[i], whose elements are step[i] (0 or 1) apart.
 * The first `operands` inputs broadcast to the output's shape. */
typedef void (*kp_span_fn)(const kp_op_call *call, void *out, const void *const in[KP_MAX_OPERANDS],
                           const size_t step[KP_MAX_OPERANDS], size_t n);
void kp_broadcast_run(const kp_op_call *call, int operands, kp_span_fn span);

/* ---- Sharing work ---- */

/* A range of [0, total). */
typedef struct kp_range {
  size_t begin, end;
} kp_range;

/* The range of task `task` where each has `step` of `total`, the last one what is left. */
kp_range kp_task_range(size_t total, size_t step, size_t task);

/* ceil(a / b), b >= 1. */
static inline size_t kp_divide_up(size_t a, size_t b) { return a / b + (a % b != 0); }

static inline size_t kp_round_up(size_t a, size_t multiple) { return kp_divide_up(a, multiple) * multiple; }

static inline size_t kp_min_size(size_t a, size_t b) { return a < b ? a : b; }

static inline size_t kp_max_size(size_t a, size_t b) { return a > b ? a : b; }

/* Bytes of `floats` floats, up to the next multiple of the scratch's alignment. */
static inline size_t kp_scratch_bytes(size_t floats) { return kp_round_up(floats * sizeof(float), 64); }

#endif /* KP_OPS_SHAPE_H */

/* What an operator is: a schema, a shape rule, a cost and a run function. One file per operator; kp_ops, in table.c, is
 * the only list of them. kp_op tables are constant; nothing here allocates. */
#ifndef KP_OPS_OP_H
#define KP_OPS_OP_H

#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/blas.h"

#define KP_MAX_OP_INPUTS 16
#define KP_MAX_OP_ATTRIBUTES 12
#define KP_MAX_ATTRIBUTE_VALUES 8

/* ---- Schema ---- */

typedef enum kp_attribute_kind {
  KP_ATTR_INT = 0, /* integers */
  KP_ATTR_DIM,     /* dimensions, which may hold N and T; resolved before an operator sees them */
  KP_ATTR_FLOAT,
  KP_ATTR_WORD /* one of `words`; an operator sees its index */
} kp_attribute_kind;

typedef struct kp_attribute_schema {
  const char *name;
  kp_attribute_kind kind;
  uint8_t min_count, max_count; /* how many values; max <= KP_MAX_ATTRIBUTE_VALUES */
  const char *const *words;     /* KP_ATTR_WORD: NULL-terminated */
  bool required;
  int64_t default_int; /* INT, DIM, WORD: every one of min_count values, where absent */
  double default_float;
} kp_attribute_schema;

typedef struct kp_attribute {
  uint8_t count;
  int64_t i[KP_MAX_ATTRIBUTE_VALUES]; /* INT, DIM, WORD */
  double f[KP_MAX_ATTRIBUTE_VALUES];  /* FLOAT */
} kp_attribute;

/* ---- One call ---- */

typedef struct kp_shape {
  int32_t rank;
  int64_t dim[KP_MAX_RANK];
} kp_shape;

/* Elements; the plan has checked that this does not overflow. */
static inline int64_t kp_shape_elements(const kp_shape *shape) {
  int64_t n = 1;
  for (int32_t i = 0; i < shape->rank; i++) n *= shape->dim[i];
  return n;
}

/* real = scale[c] * (q - zero_point[c]), c the index in the last dimension. */
typedef struct kp_quantization {
  const float *scale;
  const int8_t *zero_point;
} kp_quantization;

typedef struct kp_view {
  kp_dtype dtype;
  kp_shape shape;
  void *data; /* NULL while planning; for an absent optional input too */
  bool is_weight;
  kp_quantization quantization; /* of i8 that is no weight */
  const float *channel_scale;   /* of an i8 weight: by output channel */
  const int8_t *multiplier;     /* of a weight in four bits, whose data are nibbles; else NULL */
} kp_view;

/* An operator applied to concrete shapes. `infer`, `scratch` and `macs` see it with data == NULL throughout. */
typedef struct kp_op_call {
  const kp_attribute *attributes; /* in the schema's order */
  size_t input_count;             /* as written in the file; a trailing optional input may be left out */
  kp_view inputs[KP_MAX_OP_INPUTS];
  bool present[KP_MAX_OP_INPUTS]; /* false: an optional input that is absent */
  kp_view output;
  bool exact;                     /* an int8 model: float products on gemm_f32, the same bytes everywhere */
  const void *packed, *constants; /* what `pack` and `set_constants` made; NULL: nothing */
  const kp_kernels *kernels;
  const kp_blas *blas; /* not in an int8 model, nor when one is opened */
  kp_pool *pool;
  int threads;   /* of the pool; fixed when the plan was made */
  void *scratch; /* `scratch` bytes, aligned to 64 */
} kp_op_call;

typedef struct kp_op {
  const char *name;
  uint8_t min_inputs, max_inputs;
  uint8_t attribute_count;
  kp_attribute_schema attributes[KP_MAX_OP_ATTRIBUTES];
  /* Checks inputs and attributes in full, so that `run` need not, and fills in call->output.dtype and .shape. */
  kp_status (*infer)(kp_op_call *call, kp_error *error);
  /* Once, when the model is opened, for the kernels in use; shapes that hold N or T are those at some N and T. */
  /* Bytes for input 1 in the kernels' layout, where it is a weight (NULL: none). Calls share them whose weight is the
   * same, in the same shape, and whose input 0 has as many channels. A weight in four bits comes unpacked. */
  size_t (*pack_bytes)(const kp_op_call *call);
  void (*pack)(const kp_op_call *call, void *packed);
  /* Bytes for what else follows from weights and quantisations (NULL: none). `packed` is there. */
  size_t (*constants_bytes)(const kp_op_call *call);
  void (*set_constants)(const kp_op_call *call, void *constants);
  /* Bytes of scratch that `run` needs (NULL: none). May depend on call->threads. */
  size_t (*scratch)(const kp_op_call *call);
  /* Multiply-accumulates (NULL: none counted). */
  uint64_t (*macs)(const kp_op_call *call);
  /* Computes the output (NULL: the output is input 0's memory: an alias). Cannot fail but on values that only the data
   * shows, as an index out of range. */
  kp_status (*run)(const kp_op_call *call, kp_error *error);
  /* Inputs, as a bit mask, whose memory the output may take over when they die here and the sizes are equal. */
  uint32_t in_place;
} kp_op;

extern const kp_op *const kp_ops[];
extern const size_t kp_op_count;

/* The operator of that name, or NULL. */
const kp_op *kp_find_op(const char *name);

#endif /* KP_OPS_OP_H */

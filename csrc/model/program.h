/* A program as the file gives it: values, operators, ports; validated, still with symbolic shapes. */
#ifndef KP_MODEL_PROGRAM_H
#define KP_MODEL_PROGRAM_H

#include "model/gguf.h"
#include "ops/op.h"

#define KP_MAX_SYMBOL 4096 /* N and T each lie in 1..KP_MAX_SYMBOL */

typedef struct kp_value {
  const char *name;
  kp_dtype dtype;
  int32_t rank;
  kp_dim shape[KP_MAX_RANK];
  const kp_gguf_tensor *weight;     /* NULL: an input or an operator's output. In four bits: the nibbles */
  const kp_gguf_tensor *multiplier; /* of a weight in four bits; else NULL */
  const float *channel_scale;       /* of an i8 weight */
  kp_quantization quantization;     /* of i8 that is no weight */
} kp_value;

typedef struct kp_node_attribute { /* a KP_ATTR_DIM keeps its symbols until a plan resolves it */
  uint8_t count;
  kp_dim dims[KP_MAX_ATTRIBUTE_VALUES]; /* INT and WORD too, with exponents 0 */
  double f[KP_MAX_ATTRIBUTE_VALUES];
} kp_node_attribute;

typedef struct kp_node {
  const kp_op *op;
  size_t input_count;
  int32_t inputs[KP_MAX_OP_INPUTS]; /* value indices; -1: absent */
  int32_t output;
  const kp_node_attribute *attributes; /* op->attribute_count of them */
  const void *packed, *constants;      /* see kp_op */
} kp_node;

typedef struct kp_program_port {
  kp_port port;
  int32_t value;
} kp_program_port;

typedef struct kp_program {
  const char *name;
  bool exact; /* see kp_op_call */
  kp_value *values;
  size_t value_count;
  kp_node *nodes;
  size_t node_count;
  kp_program_port *ports[3]; /* by kp_port_kind */
  size_t port_count[3];
} kp_program;

/* Reads program `name` from the file and validates it: see docs/model-file.md. Allocations come from `arena`. */
kp_status kp_program_parse(const kp_gguf *gguf, const char *name, bool exact, kp_arena *arena, kp_program *program,
                           kp_error *error);

/* dim at concrete N and T. */
static inline int64_t kp_dim_at(kp_dim dim, int64_t n, int64_t t) {
  return dim.value * (dim.n ? n : 1) * (dim.t ? t : 1);
}

#endif /* KP_MODEL_PROGRAM_H */

/* Shapes at concrete N and T, and the operators' rules over them. */
#ifndef KP_MODEL_INFER_H
#define KP_MODEL_INFER_H

#include "model/program.h"

/* The most that one tensor, or a run's whole arena, may take. */
#define KP_MAX_RUN_BYTES ((uint64_t)16 << 30)

/* The shape of every value, into shapes[program->value_count]; dimensions and sizes checked. */
kp_status kp_program_shapes(const kp_program *program, int64_t n, int64_t t, kp_shape *shapes, kp_error *error);

/* Fills in `call` (no data, no pool; `blas` may be NULL, as there is then no scratch to ask for) for the node `index`, resolves its attributes into `attributes`, which has room
 * for them, and applies the operator's rule, whose result must be the output value's dtype and shape. */
kp_status kp_node_infer(const kp_program *program, size_t index, const kp_shape *shapes, int64_t n, int64_t t,
                        int threads, const kp_blas *blas, kp_attribute *attributes, kp_op_call *call, kp_error *error);

/* Applies every rule at n and t. Temporary memory comes from `allocator`. */
kp_status kp_program_infer(const kp_program *program, int64_t n, int64_t t, const kp_allocator *allocator,
                           kp_error *error);

/* "(2, 256, 256, 3)" into text; returns text. */
#define KP_SHAPE_TEXT 128
const char *kp_shape_text(const int64_t *dims, int32_t rank, char text[KP_SHAPE_TEXT]);

#endif /* KP_MODEL_INFER_H */

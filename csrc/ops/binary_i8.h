/* `binary` with an operand in int8. */
#ifndef KP_OPS_BINARY_I8_H
#define KP_OPS_BINARY_I8_H

#include "ops/op.h"

/* Checks dtypes and gives the output its own; its shape is known. `out` is the attribute's word. */
kp_status kp_binary_i8_check(kp_op_call *call, int64_t out, kp_error *error);
size_t kp_binary_i8_constants_bytes(const kp_op_call *call);
void kp_binary_i8_set_constants(const kp_op_call *call, void *constants);
size_t kp_binary_i8_scratch(const kp_op_call *call);
void kp_binary_i8_run(const kp_op_call *call);

#endif /* KP_OPS_BINARY_I8_H */

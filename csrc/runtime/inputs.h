/* A run's inputs: untrusted tensors, against a program's input ports. */
#ifndef KP_RUNTIME_INPUTS_H
#define KP_RUNTIME_INPUTS_H

#include "model/program.h"

/* Checks number, dtypes, shapes and pointers, and finds N and T (1 where no input has the symbol). */
kp_status kp_inputs_bind(const kp_program *program, const kp_tensor *inputs, size_t input_count, int64_t *n, int64_t *t,
                         kp_error *error);

/* Checks elements: floats are finite, bools are 0 or 1. The inputs are bound. */
kp_status kp_inputs_check_elements(const kp_program *program, const kp_tensor *inputs, kp_error *error);

/* A port's tensor in memory order at n and t, without data. */
kp_tensor kp_port_tensor(const kp_port *port, int64_t n, int64_t t);

#endif /* KP_RUNTIME_INPUTS_H */

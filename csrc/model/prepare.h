/* What operators make of weights when a model is opened: packed for the kernels in use, shared by all programs. */
#ifndef KP_MODEL_PREPARE_H
#define KP_MODEL_PREPARE_H

#include "model/program.h"

/* Packs the weights of `count` programs and computes their operators' constants, into `arena`. */
kp_status kp_programs_prepare(kp_program *programs, size_t count, const kp_kernels *kernels, kp_arena *arena,
                              kp_error *error);

#endif /* KP_MODEL_PREPARE_H */

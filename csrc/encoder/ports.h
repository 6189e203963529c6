/* The programs of the pipeline: their ports, found by name and checked, and their tensors whatever the memory order. */
#ifndef KP_ENCODER_PORTS_H
#define KP_ENCODER_PORTS_H

#include "runtime/model.h"

/* The most inputs and outputs of a program that the pipeline runs. */
#define KP_ENCODER_MAX_PORTS 8

#define KP_NO_PORT SIZE_MAX

/* A program with the places of the ports that the pipeline uses, in the order of the rules it was bound by. */
typedef struct kp_encoder_program {
  size_t index; /* in the model */
  const kp_program *program;
  size_t inputs[KP_ENCODER_MAX_PORTS]; /* KP_NO_PORT beyond the rules, and where an optional port is absent */
  size_t outputs[KP_ENCODER_MAX_PORTS];
} kp_encoder_program;

/* What the pipeline expects of a port. */
typedef struct kp_port_rule {
  const char *name; /* NULL: this model uses none */
  kp_dtype dtype;
  const char *shape; /* logical, in the file's notation */
  const char *order; /* memory order; NULL: any */
  bool optional;
} kp_port_rule;

/* Binds the program `name`. Its inputs are those of the rules and no others; other outputs may stand beside theirs. */
kp_status kp_encoder_bind(const kp_model *model, const char *name, const kp_port_rule *inputs, size_t input_count,
                          const kp_port_rule *outputs, size_t output_count, kp_encoder_program *bound, kp_error *error);

/* The output port of that name, or NULL. */
const kp_port *kp_encoder_find_output(const kp_model *model, const char *program, const char *name);

/* A float tensor of batch 1 and up to three more dimensions in some memory order: element (i, j, k) of these is
 * data[i * strides[0] + j * strides[1] + k * strides[2]]; dimensions that it lacks have size 1. */
typedef struct kp_planes {
  float *data;
  size_t sizes[3];
  size_t strides[3];
} kp_planes;

/* Of a port whose rank is 2 to 4, and whose first dimension is N. */
kp_planes kp_planes_of(const kp_port *port, float *data);

/* Both have the same sizes. */
void kp_planes_copy(const kp_planes *to, const kp_planes *from);

#endif /* KP_ENCODER_PORTS_H */

/* An operator's attributes, from the file's "stride=2,2 act=silu" to values along its schema. */
#ifndef KP_MODEL_ATTRIBUTES_H
#define KP_MODEL_ATTRIBUTES_H

#include "model/program.h"

/* Fills attributes[op->attribute_count], in the schema's order, with what `text` gives and defaults for the rest. */
kp_status kp_attributes_parse(const kp_op *op, const char *text, kp_node_attribute *attributes, kp_error *error);

/* The attributes at concrete n and t, into resolved[op->attribute_count]. */
kp_status kp_attributes_resolve(const kp_op *op, const kp_node_attribute *attributes, int64_t n, int64_t t,
                                kp_attribute *resolved, kp_error *error);

#endif /* KP_MODEL_ATTRIBUTES_H */

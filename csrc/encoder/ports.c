#include "encoder/ports.h"

#include <stdio.h>
#include <string.h>

#include "model/notation.h"

#define LONGEST_SHAPE 96

static const char *const kind_names[] = {"input", "output"};

/* The port's logical shape in the file's notation. */
static const char *shape_text(const kp_port *port, char text[LONGEST_SHAPE]) {
  size_t used = 0;
  text[0] = '\0';
  for (int32_t i = 0; i < port->rank && used < LONGEST_SHAPE; i++) {
    kp_dim dim = port->shape[i];
    char number[24] = "";
    if (dim.value != 1 || (dim.n == 0 && dim.t == 0)) snprintf(number, sizeof number, "%lld", (long long)dim.value);
    used += (size_t)snprintf(text + used, LONGEST_SHAPE - used, "%s%s%s%s", i > 0 ? "," : "", number, dim.n ? "N" : "",
                             dim.t ? "T" : "");
  }
  return text;
}

static const char *order_text(const kp_port *port, char text[2 * KP_MAX_RANK]) {
  for (int32_t i = 0; i < port->rank; i++) {
    text[2 * i] = (char)('0' + port->order[i]);
    text[2 * i + 1] = i + 1 < port->rank ? ',' : '\0';
  }
  return text;
}

static bool same_shape(const kp_port *port, const char *expected) {
  kp_dim dims[KP_MAX_RANK];
  int32_t rank;
  if (!kp_read_shape(expected, dims, &rank) || rank != port->rank) return false;
  for (int32_t i = 0; i < rank; i++) {
    const kp_dim *dim = &port->shape[i];
    if (dim->value != dims[i].value || dim->n != dims[i].n || dim->t != dims[i].t) return false;
  }
  return true;
}

static kp_status check_port(const kp_program *program, kp_port_kind kind, const kp_port *port, const kp_port_rule *rule,
                            kp_error *error) {
  char shape[LONGEST_SHAPE], order[2 * KP_MAX_RANK];
  if (port->dtype != rule->dtype || !same_shape(port, rule->shape)) {
    return kp_fail(error, KP_ERROR_MODEL, "program '%s': %s '%s': the encoder expects %s (%s), got %s (%s)",
                   program->name, kind_names[kind], rule->name, kp_dtype_name(rule->dtype), rule->shape,
                   kp_dtype_name(port->dtype), shape_text(port, shape));
  }
  if (rule->order != NULL && strcmp(order_text(port, order), rule->order) != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "program '%s': %s '%s': the encoder expects memory order %s, got %s",
                   program->name, kind_names[kind], rule->name, rule->order, order);
  }
  return KP_OK;
}

/* Its index among the program's ports, or KP_NO_PORT. */
static size_t find_port(const kp_program *program, kp_port_kind kind, const char *name) {
  for (size_t i = 0; i < program->port_count[kind]; i++) {
    if (strcmp(program->ports[kind][i].port.name, name) == 0) return i;
  }
  return KP_NO_PORT;
}

/* *found: how many ports of the rules the program has. */
static kp_status bind_ports(const kp_program *program, kp_port_kind kind, const kp_port_rule *rules, size_t rule_count,
                            size_t indices[KP_ENCODER_MAX_PORTS], size_t *found, kp_error *error) {
  *found = 0;
  for (size_t i = 0; i < KP_ENCODER_MAX_PORTS; i++) indices[i] = KP_NO_PORT;
  for (size_t i = 0; i < rule_count; i++) {
    const kp_port_rule *rule = &rules[i];
    if (rule->name == NULL) continue;
    size_t index = find_port(program, kind, rule->name);
    if (index == KP_NO_PORT && rule->optional) continue;
    if (index == KP_NO_PORT) {
      return kp_fail(error, KP_ERROR_MODEL, "program '%s': the encoder expects an %s '%s'", program->name,
                     kind_names[kind], rule->name);
    }
    KP_TRY(check_port(program, kind, &program->ports[kind][index].port, rule, error));
    indices[i] = index;
    *found += 1;
  }
  return KP_OK;
}

kp_status kp_encoder_bind(const kp_model *model, const char *name, const kp_port_rule *inputs, size_t input_count,
                          const kp_port_rule *outputs, size_t output_count, kp_encoder_program *bound,
                          kp_error *error) {
  int index = kp_model_find_program(model, name);
  if (index < 0) return kp_fail(error, KP_ERROR_MODEL, "the encoder expects a program '%s'", name);
  const kp_program *program = &model->programs[index];
  size_t found_inputs, found_outputs;
  KP_TRY(bind_ports(program, KP_INPUT, inputs, input_count, bound->inputs, &found_inputs, error));
  KP_TRY(bind_ports(program, KP_OUTPUT, outputs, output_count, bound->outputs, &found_outputs, error));
  if (program->port_count[KP_INPUT] != found_inputs || program->port_count[KP_OUTPUT] > KP_ENCODER_MAX_PORTS) {
    return kp_fail(error, KP_ERROR_MODEL,
                   "program '%s': the encoder expects %zu inputs and at most %d outputs, got %zu and %zu", name,
                   found_inputs, KP_ENCODER_MAX_PORTS, program->port_count[KP_INPUT], program->port_count[KP_OUTPUT]);
  }
  bound->index = (size_t)index;
  bound->program = program;
  return KP_OK;
}

const kp_port *kp_encoder_find_output(const kp_model *model, const char *program, const char *name) {
  int index = kp_model_find_program(model, program);
  if (index < 0) return NULL;
  size_t port = find_port(&model->programs[index], KP_OUTPUT, name);
  return port == KP_NO_PORT ? NULL : &model->programs[index].ports[KP_OUTPUT][port].port;
}

/* ---- Tensors ---- */

kp_planes kp_planes_of(const kp_port *port, float *data) {
  kp_planes view = {.data = data, .sizes = {1, 1, 1}, .strides = {0, 0, 0}};
  size_t stride = 1;
  for (int32_t i = port->rank - 1; i >= 0; i--) {
    int32_t dim = port->order[i];
    if (dim == 0) continue; /* the batch */
    view.sizes[dim - 1] = (size_t)port->shape[dim].value;
    view.strides[dim - 1] = stride;
    stride *= (size_t)port->shape[dim].value;
  }
  return view;
}

void kp_planes_copy(const kp_planes *to, const kp_planes *from) {
  if (memcmp(to->strides, from->strides, sizeof to->strides) == 0) {
    memcpy(to->data, from->data, to->sizes[0] * to->sizes[1] * to->sizes[2] * sizeof(float));
    return;
  }
  for (size_t i = 0; i < to->sizes[0]; i++) {
    for (size_t j = 0; j < to->sizes[1]; j++) {
      float *row = to->data + i * to->strides[0] + j * to->strides[1];
      const float *source = from->data + i * from->strides[0] + j * from->strides[1];
      for (size_t k = 0; k < to->sizes[2]; k++) row[k * to->strides[2]] = source[k * from->strides[2]];
    }
  }
}

#include "runtime/inputs.h"

#include <stdio.h>
#include <string.h>

#include "model/infer.h"

#define UNKNOWN 0 /* N and T are at least 1 */

kp_tensor kp_port_tensor(const kp_port *port, int64_t n, int64_t t) {
  kp_tensor tensor = {.dtype = port->dtype, .rank = port->rank};
  for (int32_t i = 0; i < port->rank; i++) tensor.shape[i] = kp_dim_at(port->shape[port->order[i]], n, t);
  return tensor;
}

/* "(N, 256, 256, 3)", in memory order. */
static const char *port_text(const kp_port *port, char text[KP_SHAPE_TEXT]) {
  size_t used = 1;
  strcpy(text, "(");
  for (int32_t i = 0; i < port->rank && used < KP_SHAPE_TEXT; i++) {
    kp_dim dim = port->shape[port->order[i]];
    char number[24] = "";
    if (dim.value != 1 || (dim.n == 0 && dim.t == 0)) snprintf(number, sizeof number, "%lld", (long long)dim.value);
    const char *separator = i + 1 < port->rank ? ", " : port->rank == 1 ? "," : "";
    used += (size_t)snprintf(text + used, KP_SHAPE_TEXT - used, "%s%s%s%s", number, dim.n ? "N" : "", dim.t ? "T" : "",
                             separator);
  }
  if (used < KP_SHAPE_TEXT) snprintf(text + used, KP_SHAPE_TEXT - used, ")");
  return text;
}

/* " with N = 2, T from 1 to 4096": what is known of the symbols that the port has. */
static const char *symbols_text(const kp_port *port, int64_t n, int64_t t, char text[KP_SHAPE_TEXT]) {
  const char names[2] = {'N', 'T'};
  int64_t values[2] = {n, t};
  bool has[2] = {false, false};
  for (int32_t i = 0; i < port->rank; i++) {
    has[0] |= port->shape[i].n != 0;
    has[1] |= port->shape[i].t != 0;
  }
  size_t used = 0;
  text[0] = '\0';
  for (int i = 0; i < 2; i++) {
    if (!has[i]) continue;
    used += (size_t)snprintf(text + used, KP_SHAPE_TEXT - used, "%s%c", used == 0 ? " with " : ", ", names[i]);
    if (values[i] != UNKNOWN) {
      used += (size_t)snprintf(text + used, KP_SHAPE_TEXT - used, " = %lld", (long long)values[i]);
    } else {
      used += (size_t)snprintf(text + used, KP_SHAPE_TEXT - used, " from 1 to %d", KP_MAX_SYMBOL);
    }
  }
  return text;
}

static kp_status wrong_shape(const kp_port *port, const kp_tensor *input, int64_t n, int64_t t, kp_error *error) {
  char expected[KP_SHAPE_TEXT], symbols[KP_SHAPE_TEXT], got[KP_SHAPE_TEXT];
  return kp_fail(error, KP_ERROR_SHAPE, "input '%s': expected shape %s%s, got %s", port->name,
                 port_text(port, expected), symbols_text(port, n, t, symbols),
                 kp_shape_text(input->shape, input->rank, got));
}

/* Solves value * N^n * T^t = size for the one symbol that is unknown, if that is so. */
static void solve(kp_dim dim, int64_t size, int64_t *n, int64_t *t) {
  int64_t known = dim.value * (dim.n && *n != UNKNOWN ? *n : 1) * (dim.t && *t != UNKNOWN ? *t : 1);
  bool n_unknown = dim.n && *n == UNKNOWN, t_unknown = dim.t && *t == UNKNOWN;
  if (n_unknown == t_unknown || known == 0 || size % known != 0) return;
  int64_t solution = size / known;
  if (solution < 1 || solution > KP_MAX_SYMBOL) return;
  if (n_unknown) {
    *n = solution;
  } else {
    *t = solution;
  }
}

static kp_status check_tensor(const kp_port *port, const kp_tensor *input, kp_error *error) {
  if (input->dtype != port->dtype) {
    return kp_fail(error, KP_ERROR_SHAPE, "input '%s': expected dtype %s, got %s", port->name,
                   kp_dtype_name(port->dtype), kp_dtype_name(input->dtype));
  }
  if (input->rank < 0 || input->rank > KP_MAX_RANK) {
    return kp_fail(error, KP_ERROR_SHAPE, "input '%s': rank: expected 0 to %d, got %d", port->name, KP_MAX_RANK,
                   (int)input->rank);
  }
  if (input->rank != port->rank) return wrong_shape(port, input, UNKNOWN, UNKNOWN, error);
  return KP_OK;
}

/* A symbol that no input has may have any value. */
static int64_t value_of(int64_t symbol) { return symbol != UNKNOWN ? symbol : 1; }

static kp_status check_shape(const kp_port *port, const kp_tensor *input, int64_t n, int64_t t, kp_error *error) {
  kp_tensor expected = kp_port_tensor(port, value_of(n), value_of(t));
  size_t elements = 1; /* no overflow: checked with the plan's shapes, or refused below */
  for (int32_t i = 0; i < port->rank; i++) {
    if (input->shape[i] != expected.shape[i]) return wrong_shape(port, input, n, t, error);
    if (!kp_mul_size(elements, (size_t)input->shape[i], &elements)) return wrong_shape(port, input, n, t, error);
  }
  if (input->data == NULL && elements > 0) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "input '%s': expected data, got NULL", port->name);
  }
  if ((uintptr_t)input->data % kp_dtype_size(port->dtype) != 0) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "input '%s': expected data aligned to %zu bytes", port->name,
                   kp_dtype_size(port->dtype));
  }
  return KP_OK;
}

kp_status kp_inputs_bind(const kp_program *program, const kp_tensor *inputs, size_t input_count, int64_t *n, int64_t *t,
                         kp_error *error) {
  size_t count = program->port_count[KP_INPUT];
  if (input_count != count) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "inputs: expected %zu, got %zu", count, input_count);
  }
  if (inputs == NULL && count > 0) return kp_fail(error, KP_ERROR_ARGUMENT, "inputs: expected a pointer, got NULL");
  int64_t found_n = UNKNOWN, found_t = UNKNOWN;
  /* The second pass solves dimensions with both symbols, of which the first found one further on. */
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < count; i++) {
      const kp_port *port = &program->ports[KP_INPUT][i].port;
      KP_TRY(check_tensor(port, &inputs[i], error));
      for (int32_t axis = 0; axis < port->rank; axis++) {
        solve(port->shape[port->order[axis]], inputs[i].shape[axis], &found_n, &found_t);
      }
    }
  }
  for (size_t i = 0; i < count; i++) {
    KP_TRY(check_shape(&program->ports[KP_INPUT][i].port, &inputs[i], found_n, found_t, error));
  }
  *n = value_of(found_n);
  *t = value_of(found_t);
  return KP_OK;
}

/* ---- Elements ---- */

#define EXPONENT_MASK 0x7F800000u /* all ones in an infinity and a NaN */
#define BLOCK 1024

static bool is_finite(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (bits & EXPONENT_MASK) != EXPONENT_MASK;
}

/* A loop of constant length without a branch inside: compilers vectorise it. */
static bool block_is_finite(const float data[BLOCK]) {
  uint32_t found = 0;
  for (size_t i = 0; i < BLOCK; i++) found |= (uint32_t)!is_finite(data[i]);
  return found == 0;
}

/* The place is looked for only in the block that has one. */
static size_t find_non_finite(const float *data, size_t count) {
  size_t start = 0;
  while (count - start >= BLOCK && block_is_finite(data + start)) start += BLOCK;
  for (size_t i = start; i < count; i++) {
    if (!is_finite(data[i])) return i;
  }
  return count;
}

static size_t find_non_bool(const uint8_t *data, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (data[i] > 1) return i;
  }
  return count;
}

static kp_status check_elements(const char *name, const kp_tensor *input, kp_error *error) {
  size_t count = 1;
  for (int32_t i = 0; i < input->rank; i++) count *= (size_t)input->shape[i];
  if (input->dtype == KP_F32) {
    const float *data = input->data;
    size_t index = find_non_finite(data, count);
    if (index < count) {
      return kp_fail(error, KP_ERROR_ARGUMENT, "input '%s': expected finite numbers, got %f at element %zu", name,
                     (double)data[index], index);
    }
  } else if (input->dtype == KP_BOOL) {
    const uint8_t *data = input->data;
    size_t index = find_non_bool(data, count);
    if (index < count) {
      return kp_fail(error, KP_ERROR_ARGUMENT, "input '%s': expected 0 or 1, got %u at element %zu", name,
                     (unsigned)data[index], index);
    }
  }
  return KP_OK;
}

kp_status kp_inputs_check_elements(const kp_program *program, const kp_tensor *inputs, kp_error *error) {
  for (size_t i = 0; i < program->port_count[KP_INPUT]; i++) {
    KP_TRY(check_elements(program->ports[KP_INPUT][i].port.name, &inputs[i], error));
  }
  return KP_OK;
}

#include "model/program.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/sort.h"
#include "model/attributes.h"
#include "model/infer.h"
#include "model/notation.h"
#include "ops/quantized.h"

#define LONGEST_PROGRAM_NAME 63
#define LONGEST_NAME 255 /* of a value or port: an error message has room for it */
#define MOST_VALUES 65536u
#define MOST_NODES 16384u

typedef struct parser {
  const kp_gguf *gguf;
  kp_arena *arena;
  kp_program *program;
  bool *defined; /* by value: an input, a weight, or the output of an operator read so far */
  kp_error *error;
} parser;

static const char *const port_kind_names[] = {[KP_INPUT] = "input", [KP_OUTPUT] = "output", [KP_TAP] = "tap"};

/* ---- Columns ---- */

#define KEY_ROOM 128

static const char *make_key(const parser *p, const char *suffix, char key[KEY_ROOM]) {
  snprintf(key, KEY_ROOM, "keypilot.%s.%s", p->program->name, suffix);
  return key;
}

static kp_status check_count(const parser *p, const char *suffix, size_t count, size_t expected) {
  if (count == expected) return KP_OK;
  return kp_fail(p->error, KP_ERROR_MODEL, "%s: expected %zu elements, got %zu", suffix, expected, count);
}

static kp_status read_strings(const parser *p, const char *suffix, const kp_string **column, size_t *count) {
  char key[KEY_ROOM];
  return kp_gguf_strings(p->gguf, make_key(p, suffix, key), column, count, p->error);
}

static kp_status read_integers(const parser *p, const char *suffix, const int32_t **column, size_t *count) {
  char key[KEY_ROOM];
  return kp_gguf_i32s(p->gguf, p->arena, make_key(p, suffix, key), column, count, p->error);
}

/* A column that must be as long as the first of its table. */
static kp_status read_strings_of(const parser *p, const char *suffix, size_t expected, const kp_string **column) {
  size_t count;
  KP_TRY(read_strings(p, suffix, column, &count));
  return check_count(p, suffix, count, expected);
}

static kp_status read_integers_of(const parser *p, const char *suffix, size_t expected, const int32_t **column) {
  size_t count;
  KP_TRY(read_integers(p, suffix, column, &count));
  return check_count(p, suffix, count, expected);
}

static void *allocate(const parser *p, size_t count, size_t size) {
  void *pointer = kp_arena_calloc(p->arena, count, size);
  if (pointer == NULL) kp_fail(p->error, KP_ERROR_MEMORY, "no memory for the program");
  return pointer;
}

static bool string_less(const void *context, uint32_t a, uint32_t b) {
  const kp_string *strings = context;
  return strcmp(strings[a].data, strings[b].data) < 0;
}

/* Names are not empty, not too long, and no two are the same. */
static kp_status check_names(const parser *p, const char *what, const kp_string *names, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (names[i].size == 0 || names[i].size > LONGEST_NAME) {
      return kp_fail(p->error, KP_ERROR_MODEL, "%s %zu: expected a name of 1 to %d bytes, got %zu", what, i,
                     LONGEST_NAME, names[i].size);
    }
  }
  uint32_t *order = allocate(p, count, sizeof *order);
  if (order == NULL) return KP_ERROR_MEMORY;
  kp_sort_indices(order, count, string_less, names);
  for (size_t i = 1; i < count; i++) {
    if (strcmp(names[order[i - 1]].data, names[order[i]].data) == 0) {
      return kp_fail(p->error, KP_ERROR_MODEL, "%s '%s': the name appears twice", what, names[order[i]].data);
    }
  }
  return KP_OK;
}

static kp_status check_value_index(const parser *p, int64_t index) {
  if (index >= 0 && (uint64_t)index < p->program->value_count) return KP_OK;
  return kp_fail(p->error, KP_ERROR_MODEL, "expected a value index below %zu, got %lld", p->program->value_count,
                 (long long)index);
}

/* ---- Values and weights ---- */

#define MOST_LINKED_NAME (LONGEST_NAME + 32)

/* The tensor `<name><suffix>`, which must have this dtype and `count` elements in one dimension, or NULL, having failed. */
static const kp_gguf_tensor *find_vector(const parser *p, const char *name, const char *suffix, kp_dtype dtype,
                                         int64_t count) {
  char key[MOST_LINKED_NAME];
  snprintf(key, sizeof key, "%s%s", name, suffix);
  const kp_gguf_tensor *tensor = kp_gguf_find_tensor(p->gguf, key);
  if (tensor == NULL) {
    kp_fail(p->error, KP_ERROR_MODEL, "the file has no tensor '%s'", key);
    return NULL;
  }
  if (tensor->dtype != dtype || tensor->rank != 1 || tensor->shape[0] != count) {
    char shape[KP_SHAPE_TEXT];
    kp_fail(p->error, KP_ERROR_MODEL, "tensor '%s': expected %s (%lld,), got %s %s", key, kp_dtype_name(dtype),
            (long long)count, kp_dtype_name(tensor->dtype), kp_shape_text(tensor->shape, tensor->rank, shape));
    return NULL;
  }
  return tensor;
}

static kp_status check_scales(const parser *p, const kp_gguf_tensor *tensor) {
  const float *scale = tensor->data;
  for (int64_t i = 0; i < tensor->shape[0]; i++) {
    if (!(scale[i] > 0.0f && scale[i] < INFINITY)) {
      return kp_fail(p->error, KP_ERROR_MODEL, "tensor '%s': expected finite scales above 0, got %g at %lld",
                     tensor->name.data, (double)scale[i], (long long)i);
    }
  }
  return KP_OK;
}

static kp_status parse_quantization(const parser *p, const char *name, kp_value *value) {
  if (value->rank < 1 || value->shape[value->rank - 1].n != 0 || value->shape[value->rank - 1].t != 0) {
    return kp_fail(p->error, KP_ERROR_MODEL, "value '%s': expected a quantised value with a fixed last dimension",
                   value->name);
  }
  int64_t channels = value->shape[value->rank - 1].value;
  const kp_gguf_tensor *scale = find_vector(p, name, ".scale", KP_F32, channels);
  const kp_gguf_tensor *zero_point = find_vector(p, name, ".zero_point", KP_I8, channels);
  if (scale == NULL || zero_point == NULL) return kp_fail_in(p->error, KP_ERROR_MODEL, "value '%s'", value->name);
  KP_TRY(check_scales(p, scale));
  value->quantization = (kp_quantization){.scale = scale->data, .zero_point = zero_point->data};
  return KP_OK;
}

/* Quantisations: of each i8 value that is no weight, and of no other. */
static kp_status parse_quantizations(const parser *p) {
  const kp_string *names;
  size_t count;
  KP_TRY(read_strings(p, "values.quantization", &names, &count));
  if (count > 0) KP_TRY(check_count(p, "values.quantization", count, p->program->value_count));
  for (size_t i = 0; i < p->program->value_count; i++) {
    kp_value *value = &p->program->values[i];
    bool expected = value->dtype == KP_I8 && value->weight == NULL, named = count > 0 && names[i].size > 0;
    if (named != expected) {
      return kp_fail(p->error, KP_ERROR_MODEL, "value '%s' of dtype %s: expected %s quantisation", value->name,
                     kp_dtype_name(value->dtype), expected ? "a" : "no");
    }
    if (named) KP_TRY(parse_quantization(p, names[i].data, value));
  }
  return KP_OK;
}

static kp_status parse_value(const parser *p, const kp_string *dtype, const kp_string *shape, kp_value *value) {
  static const kp_dtype dtypes[] = {KP_F32, KP_I32, KP_BOOL, KP_U8, KP_I8};
  bool known = false;
  for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0] && !known; i++) {
    known = strcmp(dtype->data, kp_dtype_name(dtypes[i])) == 0;
    value->dtype = dtypes[i];
  }
  if (!known) {
    return kp_fail(p->error, KP_ERROR_MODEL, "value '%s': dtype: expected f32, i32, bool, u8 or i8, got '%s'",
                   value->name, dtype->data);
  }
  if (!kp_read_shape(shape->data, value->shape, &value->rank)) {
    return kp_fail(p->error, KP_ERROR_MODEL, "value '%s': shape: expected up to %d dimensions as '4N,64', got '%s'",
                   value->name, KP_MAX_RANK, shape->data);
  }
  return KP_OK;
}

static kp_status parse_values(parser *p) {
  const kp_string *names, *dtypes, *shapes;
  size_t count;
  KP_TRY(read_strings(p, "values.name", &names, &count));
  KP_TRY(read_strings_of(p, "values.dtype", count, &dtypes));
  KP_TRY(read_strings_of(p, "values.shape", count, &shapes));
  if (count > MOST_VALUES) {
    return kp_fail(p->error, KP_ERROR_MODEL, "expected at most %u values, got %zu", MOST_VALUES, count);
  }
  KP_TRY(check_names(p, "value", names, count));
  p->program->values = allocate(p, count, sizeof *p->program->values);
  p->defined = allocate(p, count, sizeof *p->defined);
  if (p->program->values == NULL || p->defined == NULL) return KP_ERROR_MEMORY;
  p->program->value_count = count;
  for (size_t i = 0; i < count; i++) {
    p->program->values[i].name = names[i].data;
    KP_TRY(parse_value(p, &dtypes[i], &shapes[i], &p->program->values[i]));
  }
  return KP_OK;
}

/* A dense i8 weight or table has its output channels first, a depthwise weight (kh, kw, channels) last. */
static int64_t channels_of(const kp_value *value) { return value->shape[value->rank == 3 ? value->rank - 1 : 0].value; }

static bool has_symbols(const kp_value *value) {
  bool found = false;
  for (int32_t i = 0; i < value->rank; i++) found = found || value->shape[i].n != 0 || value->shape[i].t != 0;
  return found;
}

/* Elements of a row of a weight in four bits; 0 where there is none. */
static int64_t columns_of(const kp_value *value) {
  int64_t columns = has_symbols(value) ? 0 : 1;
  for (int32_t i = 1; i < value->rank; i++) {
    if (__builtin_mul_overflow(columns, value->shape[i].value, &columns) || columns > INT32_MAX) return 0;
  }
  return columns;
}

static bool is_matrix(const kp_gguf_tensor *tensor, int64_t rows, int64_t columns) {
  return tensor->dtype == KP_I8 && tensor->rank == 2 && tensor->shape[0] == rows && tensor->shape[1] == columns;
}

#define LARGEST_MULTIPLIER 18     /* 7 * 18 is 126 */
#define LARGEST_OF_ALL_NIBBLES 15 /* -8 * 15 is -120 */

/* Multipliers are 1 to 18, and no element is beyond -127 to 127. */
static kp_status check_nibbles(const parser *p, const kp_value *value, int64_t columns) {
  const int8_t *nibbles = value->weight->data, *multipliers = value->multiplier->data;
  int64_t row_groups = value->multiplier->shape[1], row_bytes = value->weight->shape[1];
  for (int64_t i = 0; i < (int64_t)value->multiplier->bytes; i++) {
    if (multipliers[i] < 1 || multipliers[i] > LARGEST_MULTIPLIER) {
      return kp_fail(p->error, KP_ERROR_MODEL, "in four bits: expected multipliers from 1 to %d, got %d",
                     LARGEST_MULTIPLIER, (int)multipliers[i]);
    }
    if (multipliers[i] <= LARGEST_OF_ALL_NIBBLES) continue;
    int64_t first = i % row_groups * KP_NIBBLE_GROUP, end = first + KP_NIBBLE_GROUP;
    const int8_t *row = nibbles + i / row_groups * row_bytes;
    for (int64_t c = first; c < (end < columns ? end : columns); c++) {
      if (kp_nibble(row, (size_t)c) != -8) continue;
      return kp_fail(p->error, KP_ERROR_MODEL, "in four bits: expected elements from -127 to 127, got -8 * %d",
                     (int)multipliers[i]);
    }
  }
  return KP_OK;
}

/* The weight as nibbles and multipliers, where the file has it so. */
static kp_status find_four_bits(const parser *p, kp_value *value) {
  char key[MOST_LINKED_NAME];
  snprintf(key, sizeof key, "%s.q4", value->name);
  value->weight = kp_gguf_find_tensor(p->gguf, key);
  snprintf(key, sizeof key, "%s.q4.multiplier", value->name);
  value->multiplier = kp_gguf_find_tensor(p->gguf, key);
  if (value->weight == NULL || value->multiplier == NULL) {
    return kp_fail(p->error, KP_ERROR_MODEL, "the file has no tensor of this name, nor in four bits");
  }
  int64_t rows = value->rank > 0 ? value->shape[0].value : 0, columns = columns_of(value);
  if (value->dtype != KP_I8 || value->rank < 2 || value->rank == 3 || rows < 1 || columns < 1) {
    return kp_fail(p->error, KP_ERROR_MODEL, "expected a dense i8 weight for four bits");
  }
  if (!is_matrix(value->weight, rows, (columns + 1) / 2) ||
      !is_matrix(value->multiplier, rows, (columns + KP_NIBBLE_GROUP - 1) / KP_NIBBLE_GROUP)) {
    return kp_fail(p->error, KP_ERROR_MODEL, "expected nibbles of (%lld, %lld) and multipliers of (%lld, %lld)",
                   (long long)rows, (long long)((columns + 1) / 2), (long long)rows,
                   (long long)((columns + KP_NIBBLE_GROUP - 1) / KP_NIBBLE_GROUP));
  }
  return check_nibbles(p, value, columns);
}

static bool weight_matches(const kp_value *value, const kp_gguf_tensor *tensor) {
  bool same = value->dtype == tensor->dtype && value->rank == tensor->rank && !has_symbols(value);
  for (int32_t i = 0; i < value->rank && same; i++) same = value->shape[i].value == tensor->shape[i];
  return same;
}

/* The bytes of an i8 weight: -128 is none of them. */
static kp_status check_weight_bytes(const parser *p, const kp_gguf_tensor *weight) {
  const int8_t *bytes = weight->data;
  const int8_t *found = weight->bytes > 0 ? memchr(bytes, 0x80, weight->bytes) : NULL;
  if (found == NULL) return KP_OK;
  return kp_fail(p->error, KP_ERROR_MODEL, "expected elements from -127 to 127, got -128 at %td", found - bytes);
}

static kp_status parse_weight(const parser *p, kp_value *value) {
  value->weight = kp_gguf_find_tensor(p->gguf, value->name);
  if (value->weight == NULL) {
    KP_TRY(find_four_bits(p, value));
  } else if (!weight_matches(value, value->weight)) {
    char shape[KP_SHAPE_TEXT];
    return kp_fail(p->error, KP_ERROR_MODEL, "its dtype and shape are not the tensor's, %s %s",
                   kp_dtype_name(value->weight->dtype),
                   kp_shape_text(value->weight->shape, value->weight->rank, shape));
  }
  if (value->dtype != KP_I8) return KP_OK;
  if (value->multiplier == NULL) KP_TRY(check_weight_bytes(p, value->weight));
  if (value->rank < 2) return kp_fail(p->error, KP_ERROR_MODEL, "expected an i8 weight of rank 2 or more");
  const kp_gguf_tensor *scale = find_vector(p, value->name, ".scale", KP_F32, channels_of(value));
  if (scale == NULL) return KP_ERROR_MODEL;
  KP_TRY(check_scales(p, scale));
  value->channel_scale = scale->data;
  return KP_OK;
}

static kp_status define(parser *p, int64_t index) {
  KP_TRY(check_value_index(p, index));
  if (p->defined[index]) {
    return kp_fail(p->error, KP_ERROR_MODEL, "value '%s': it is defined twice", p->program->values[index].name);
  }
  p->defined[index] = true;
  return KP_OK;
}

static kp_status parse_weights(parser *p) {
  const int32_t *weights;
  size_t count;
  KP_TRY(read_integers(p, "weights", &weights, &count));
  for (size_t i = 0; i < count; i++) {
    kp_status status = define(p, weights[i]);
    if (status != KP_OK) return kp_fail_in(p->error, status, "weight %zu", i);
    kp_value *value = &p->program->values[weights[i]];
    status = parse_weight(p, value);
    if (status != KP_OK) return kp_fail_in(p->error, status, "weight '%s'", value->name);
  }
  return KP_OK;
}

/* ---- Ports ---- */

/* The product of dimensions as a dimension whose exponents may exceed 1. False on overflow. */
static bool product_of(const kp_dim *dims, int32_t rank, kp_dim *product) {
  *product = (kp_dim){.value = 1};
  for (int32_t i = 0; i < rank; i++) {
    if (__builtin_mul_overflow(product->value, dims[i].value, &product->value)) return false;
    product->n = (uint8_t)(product->n + dims[i].n);
    product->t = (uint8_t)(product->t + dims[i].t);
  }
  if (product->value == 0) *product = (kp_dim){.value = 0};
  return true;
}

/* A permutation of 0 .. rank - 1, joined by commas. */
static bool parse_order(const char *text, int32_t rank, uint8_t *order) {
  uint32_t seen = 0;
  for (int32_t i = 0; i < rank; i++) {
    int64_t axis;
    if (i > 0 && *text++ != ',') return false;
    if (!kp_read_integer(&text, &axis) || axis < 0 || axis >= rank || (seen & 1u << axis) != 0) return false;
    seen |= 1u << axis;
    order[i] = (uint8_t)axis;
  }
  return *text == '\0';
}

static kp_status parse_port(const parser *p, int64_t index, const kp_string *shape, const kp_string *order,
                            kp_program_port *port) {
  KP_TRY(check_value_index(p, index));
  const kp_value *value = &p->program->values[index];
  port->value = (int32_t)index;
  port->port.dtype = value->dtype;
  if (value->quantization.scale != NULL) {
    port->port.channels = value->shape[value->rank - 1].value;
    port->port.scale = value->quantization.scale;
    port->port.zero_point = value->quantization.zero_point;
  }
  kp_dim product, expected;
  if (!kp_read_shape(shape->data, port->port.shape, &port->port.rank)) {
    return kp_fail(p->error, KP_ERROR_MODEL, "shape: expected up to %d dimensions as '4N,64', got '%s'", KP_MAX_RANK,
                   shape->data);
  }
  if (!product_of(port->port.shape, port->port.rank, &product) || !product_of(value->shape, value->rank, &expected) ||
      product.value != expected.value || product.n != expected.n || product.t != expected.t) {
    return kp_fail(p->error, KP_ERROR_MODEL, "shape: '%s' has not as many elements as its value '%s'", shape->data,
                   value->name);
  }
  if (!parse_order(order->data, port->port.rank, port->port.order)) {
    return kp_fail(p->error, KP_ERROR_MODEL, "order: expected each of 0 to %d once, got '%s'", (int)port->port.rank - 1,
                   order->data);
  }
  return KP_OK;
}

static kp_status parse_ports(parser *p, kp_port_kind kind) {
  static const char *const suffixes[][4] = {
      [KP_INPUT] = {"inputs.name", "inputs.value", "inputs.shape", "inputs.order"},
      [KP_OUTPUT] = {"outputs.name", "outputs.value", "outputs.shape", "outputs.order"},
      [KP_TAP] = {"taps.name", "taps.value", "taps.shape", "taps.order"}};
  const kp_string *names, *shapes, *orders;
  const int32_t *values;
  size_t count;
  KP_TRY(read_strings(p, suffixes[kind][0], &names, &count));
  KP_TRY(read_integers_of(p, suffixes[kind][1], count, &values));
  KP_TRY(read_strings_of(p, suffixes[kind][2], count, &shapes));
  KP_TRY(read_strings_of(p, suffixes[kind][3], count, &orders));
  KP_TRY(check_names(p, port_kind_names[kind], names, count));
  kp_program_port *ports = allocate(p, count, sizeof *ports);
  if (ports == NULL) return KP_ERROR_MEMORY;
  for (size_t i = 0; i < count; i++) {
    ports[i].port.name = names[i].data;
    kp_status status = parse_port(p, values[i], &shapes[i], &orders[i], &ports[i]);
    if (status == KP_OK && kind == KP_INPUT) status = define(p, values[i]);
    if (status != KP_OK) return kp_fail_in(p->error, status, "%s '%s'", port_kind_names[kind], names[i].data);
  }
  p->program->ports[kind] = ports;
  p->program->port_count[kind] = count;
  return KP_OK;
}

/* ---- Operators ---- */

static kp_status parse_node_inputs(const parser *p, const char *text, kp_node *node) {
  const kp_op *op = node->op;
  for (bool more = *text != '\0'; more;) {
    size_t index = node->input_count;
    if (index == op->max_inputs || index == KP_MAX_OP_INPUTS) {
      return kp_fail(p->error, KP_ERROR_MODEL, "inputs: expected at most %d", (int)op->max_inputs);
    }
    int64_t value;
    if (!kp_read_integer(&text, &value) || (*text != ',' && *text != '\0')) {
      return kp_fail(p->error, KP_ERROR_MODEL, "input %zu: expected value indices joined by commas", index);
    }
    bool absent = value == -1 && index >= op->min_inputs;
    if (!absent) {
      KP_TRY(check_value_index(p, value));
      if (!p->defined[value]) {
        return kp_fail(p->error, KP_ERROR_MODEL, "input %zu: value '%s' is not computed before", index,
                       p->program->values[value].name);
      }
    }
    node->inputs[index] = (int32_t)value;
    node->input_count++;
    more = *text == ',';
    if (more) text++;
  }
  if (node->input_count < op->min_inputs) {
    return kp_fail(p->error, KP_ERROR_MODEL, "inputs: expected at least %d, got %zu", (int)op->min_inputs,
                   node->input_count);
  }
  return KP_OK;
}

static kp_status parse_node(parser *p, const kp_string *inputs, int32_t output, const kp_string *attributes,
                            kp_node *node) {
  KP_TRY(parse_node_inputs(p, inputs->data, node));
  KP_TRY(define(p, output));
  node->output = output;
  kp_node_attribute *parsed = allocate(p, node->op->attribute_count, sizeof *parsed);
  if (parsed == NULL) return KP_ERROR_MEMORY;
  node->attributes = parsed;
  return kp_attributes_parse(node->op, attributes->data, parsed, p->error);
}

static kp_status parse_nodes(parser *p) {
  const kp_string *types, *inputs, *attributes;
  const int32_t *outputs;
  size_t count;
  KP_TRY(read_strings(p, "ops.type", &types, &count));
  KP_TRY(read_strings_of(p, "ops.inputs", count, &inputs));
  KP_TRY(read_integers_of(p, "ops.output", count, &outputs));
  KP_TRY(read_strings_of(p, "ops.attributes", count, &attributes));
  if (count > MOST_NODES) {
    return kp_fail(p->error, KP_ERROR_MODEL, "expected at most %u operators, got %zu", MOST_NODES, count);
  }
  kp_node *nodes = allocate(p, count, sizeof *nodes);
  if (nodes == NULL) return KP_ERROR_MEMORY;
  p->program->nodes = nodes;
  p->program->node_count = count;
  for (size_t i = 0; i < count; i++) {
    nodes[i].op = kp_find_op(types[i].data);
    if (nodes[i].op == NULL) {
      return kp_fail(p->error, KP_ERROR_MODEL, "operator %zu: this library has no operator '%s'", i, types[i].data);
    }
    kp_status status = parse_node(p, &inputs[i], outputs[i], &attributes[i], &nodes[i]);
    if (status != KP_OK) return kp_fail_in(p->error, status, "operator %zu (%s)", i, nodes[i].op->name);
  }
  return KP_OK;
}

/* ---- The program ---- */

static kp_status check_all_defined(const parser *p) {
  for (size_t i = 0; i < p->program->value_count; i++) {
    if (!p->defined[i]) {
      return kp_fail(p->error, KP_ERROR_MODEL, "value '%s': it is no input, no weight and no operator's output",
                     p->program->values[i].name);
    }
  }
  return KP_OK;
}

/* A program may need some least N or T, or be meant for 1 only; one that holds at neither size is damaged. */
static kp_status check_rules(const parser *p) {
  const kp_allocator *allocator = &p->arena->allocator;
  kp_status status = kp_program_infer(p->program, 2, 3, allocator, NULL);
  if (status == KP_OK) return KP_OK;
  if (status == KP_ERROR_MEMORY) return kp_fail(p->error, status, "no memory for the program");
  status = kp_program_infer(p->program, 1, 1, allocator, p->error);
  if (status == KP_OK || status == KP_ERROR_MEMORY) return status;
  return kp_fail_in(p->error, KP_ERROR_MODEL, "at N = 1, T = 1");
}

static kp_status parse_program(parser *p) {
  KP_TRY(parse_values(p));
  KP_TRY(parse_weights(p));
  KP_TRY(parse_quantizations(p));
  KP_TRY(parse_ports(p, KP_INPUT));
  KP_TRY(parse_nodes(p));
  KP_TRY(check_all_defined(p));
  KP_TRY(parse_ports(p, KP_OUTPUT));
  KP_TRY(parse_ports(p, KP_TAP));
  return check_rules(p);
}

static bool is_program_name(const char *name) {
  size_t length = strlen(name);
  return length >= 1 && length <= LONGEST_PROGRAM_NAME && name[0] >= 'a' && name[0] <= 'z' &&
         strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

kp_status kp_program_parse(const kp_gguf *gguf, const char *name, bool exact, kp_arena *arena, kp_program *program,
                           kp_error *error) {
  *program = (kp_program){.name = name, .exact = exact};
  if (!is_program_name(name)) {
    return kp_fail(error, KP_ERROR_MODEL, "program name: expected [a-z][a-z0-9_]*, at most %d characters, got '%s'",
                   LONGEST_PROGRAM_NAME, name);
  }
  parser p = {.gguf = gguf, .arena = arena, .program = program, .error = error};
  kp_status status = parse_program(&p);
  return status == KP_OK ? KP_OK : kp_fail_in(error, status, "program '%s'", name);
}

#include "model/attributes.h"

#include <string.h>

#include "model/notation.h"

#define ATTRIBUTE_NAME_ROOM 32 /* of what is not a known name, how much a message shows */

static const char *const kind_names[] = {[KP_ATTR_INT] = "integers",
                                         [KP_ATTR_DIM] = "dimensions",
                                         [KP_ATTR_FLOAT] = "hexadecimal floats",
                                         [KP_ATTR_WORD] = "a known word"};

static bool read_known_word(const char **cursor, const char *const *words, int64_t *index) {
  const char *start = *cursor;
  size_t length;
  if (!kp_read_word(cursor, &length)) return false;
  for (*index = 0; words[*index] != NULL; (*index)++) {
    if (strlen(words[*index]) == length && memcmp(words[*index], start, length) == 0) return true;
  }
  return false;
}

static bool read_element(const char **cursor, const kp_attribute_schema *schema, kp_node_attribute *attribute,
                         size_t index) {
  switch (schema->kind) {
    case KP_ATTR_INT:
      return kp_read_integer(cursor, &attribute->dims[index].value);
    case KP_ATTR_DIM:
      return kp_read_dim(cursor, &attribute->dims[index]);
    case KP_ATTR_FLOAT:
      return kp_read_float(cursor, &attribute->f[index]);
    case KP_ATTR_WORD:
      return read_known_word(cursor, schema->words, &attribute->dims[index].value);
  }
  return false;
}

/* The list after "name=", up to a space or the end. An empty list is a list of none, as a scalar's shape. */
static kp_status read_list(const char **cursor, const kp_attribute_schema *schema, kp_node_attribute *attribute,
                           kp_error *error) {
  attribute->count = 0;
  bool more = **cursor != ' ' && **cursor != '\0';
  while (more) {
    if (attribute->count == schema->max_count) {
      return kp_fail(error, KP_ERROR_MODEL, "attribute '%s': expected at most %d values", schema->name,
                     (int)schema->max_count);
    }
    if (!read_element(cursor, schema, attribute, attribute->count)) {
      return kp_fail(error, KP_ERROR_MODEL, "attribute '%s': value %d: expected %s", schema->name,
                     (int)attribute->count, kind_names[schema->kind]);
    }
    attribute->count++;
    more = **cursor == ',';
    if (more) (*cursor)++;
  }
  if (**cursor != ' ' && **cursor != '\0') {
    return kp_fail(error, KP_ERROR_MODEL, "attribute '%s': unexpected text after value %d", schema->name,
                   (int)attribute->count - 1);
  }
  if (attribute->count < schema->min_count) {
    return kp_fail(error, KP_ERROR_MODEL, "attribute '%s': expected at least %d values, got %d", schema->name,
                   (int)schema->min_count, (int)attribute->count);
  }
  return KP_OK;
}

static const kp_attribute_schema *find_schema(const kp_op *op, const char *name, size_t length) {
  for (size_t i = 0; i < op->attribute_count; i++) {
    const kp_attribute_schema *schema = &op->attributes[i];
    if (strlen(schema->name) == length && memcmp(schema->name, name, length) == 0) return schema;
  }
  return NULL;
}

static void set_default(const kp_attribute_schema *schema, kp_node_attribute *attribute) {
  attribute->count = schema->min_count;
  for (size_t i = 0; i < attribute->count; i++) {
    attribute->dims[i].value = schema->default_int;
    attribute->f[i] = schema->default_float;
  }
}

kp_status kp_attributes_parse(const kp_op *op, const char *text, kp_node_attribute *attributes, kp_error *error) {
  bool given[KP_MAX_OP_ATTRIBUTES] = {false};
  const char *cursor = text;
  while (*cursor != '\0') {
    const char *name = cursor;
    size_t length;
    if (!kp_read_word(&cursor, &length) || *cursor != '=') {
      return kp_fail(error, KP_ERROR_MODEL, "attributes: expected 'name=value' at character %zu",
                     (size_t)(name - text));
    }
    cursor++;
    const kp_attribute_schema *schema = find_schema(op, name, length);
    if (schema == NULL) {
      int shown = length < ATTRIBUTE_NAME_ROOM ? (int)length : ATTRIBUTE_NAME_ROOM;
      return kp_fail(error, KP_ERROR_MODEL, "attribute '%.*s': the operator has none of this name", shown, name);
    }
    size_t index = (size_t)(schema - op->attributes);
    if (given[index]) return kp_fail(error, KP_ERROR_MODEL, "attribute '%s': it appears twice", schema->name);
    given[index] = true;
    KP_TRY(read_list(&cursor, schema, &attributes[index], error));
    if (*cursor == ' ') {
      cursor++;
      if (*cursor == '\0') return kp_fail(error, KP_ERROR_MODEL, "attributes: they end with a space");
    }
  }
  for (size_t i = 0; i < op->attribute_count; i++) {
    const kp_attribute_schema *schema = &op->attributes[i];
    if (given[i]) continue;
    if (schema->required) return kp_fail(error, KP_ERROR_MODEL, "attribute '%s' is missing", schema->name);
    set_default(schema, &attributes[i]);
  }
  return KP_OK;
}

kp_status kp_attributes_resolve(const kp_op *op, const kp_node_attribute *attributes, int64_t n, int64_t t,
                                kp_attribute *resolved, kp_error *error) {
  for (size_t i = 0; i < op->attribute_count; i++) {
    resolved[i].count = attributes[i].count;
    for (size_t j = 0; j < attributes[i].count; j++) {
      resolved[i].f[j] = attributes[i].f[j];
      resolved[i].i[j] = kp_dim_at(attributes[i].dims[j], n, t);
      if (resolved[i].i[j] > INT32_MAX) {
        return kp_fail(error, KP_ERROR_SHAPE, "attribute '%s': expected at most %d, got %lld at N = %lld, T = %lld",
                       op->attributes[i].name, INT32_MAX, (long long)resolved[i].i[j], (long long)n, (long long)t);
      }
    }
  }
  return KP_OK;
}

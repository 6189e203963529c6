/* Typed access to GGUF metadata. */
#include <string.h>

#include "model/gguf.h"

static const char *const type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};

static kp_status wrong_type(kp_error *error, const kp_gguf_value *value, const char *expected) {
  return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected %s, got %s%s", value->key.data, expected,
                 value->is_array ? "an array of " : "", type_names[value->type]);
}

static kp_status find_required(const kp_gguf *gguf, const char *key, const kp_gguf_value **value, kp_error *error) {
  *value = kp_gguf_find(gguf, key);
  if (*value == NULL) return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s' is missing", key);
  return KP_OK;
}

kp_status kp_gguf_string(const kp_gguf *gguf, const char *key, const char **value, kp_error *error) {
  const kp_gguf_value *found;
  KP_TRY(find_required(gguf, key, &found, error));
  if (found->is_array || found->type != KP_GGUF_STRING) return wrong_type(error, found, "a string");
  *value = found->strings[0].data;
  return KP_OK;
}

kp_status kp_gguf_u32(const kp_gguf *gguf, const char *key, uint32_t *value, kp_error *error) {
  const kp_gguf_value *found;
  KP_TRY(find_required(gguf, key, &found, error));
  if (found->is_array || found->type != KP_GGUF_U32) return wrong_type(error, found, "u32");
  *value = (uint32_t)kp_little_endian(found->raw, 4);
  return KP_OK;
}

kp_status kp_gguf_bool(const kp_gguf *gguf, const char *key, bool *value, kp_error *error) {
  const kp_gguf_value *found;
  KP_TRY(find_required(gguf, key, &found, error));
  if (found->is_array || found->type != KP_GGUF_BOOL) return wrong_type(error, found, "bool");
  *value = found->raw[0] != 0;
  return KP_OK;
}

kp_status kp_gguf_f32(const kp_gguf *gguf, const char *key, float *value, kp_error *error) {
  const kp_gguf_value *found;
  KP_TRY(find_required(gguf, key, &found, error));
  if (found->is_array || found->type != KP_GGUF_F32) return wrong_type(error, found, "f32");
  uint32_t bits = (uint32_t)kp_little_endian(found->raw, 4);
  memcpy(value, &bits, sizeof bits);
  return KP_OK;
}

/* Element `index` of an array of integers of any width; writers choose the width. u64 values beyond INT64_MAX are given
 * as INT64_MAX: no caller takes that many. False where the elements are no integers. */
static bool integer_at(const kp_gguf_value *value, size_t index, int64_t *result) {
  switch (value->type) {
    case KP_GGUF_U8:
      *result = value->raw[index];
      return true;
    case KP_GGUF_I8:
      *result = (int8_t)value->raw[index];
      return true;
    case KP_GGUF_U16:
      *result = (uint16_t)kp_little_endian(value->raw + 2 * index, 2);
      return true;
    case KP_GGUF_I16:
      *result = (int16_t)kp_little_endian(value->raw + 2 * index, 2);
      return true;
    case KP_GGUF_U32:
      *result = (uint32_t)kp_little_endian(value->raw + 4 * index, 4);
      return true;
    case KP_GGUF_I32:
      *result = (int32_t)kp_little_endian(value->raw + 4 * index, 4);
      return true;
    case KP_GGUF_I64:
      *result = (int64_t)kp_little_endian(value->raw + 8 * index, 8);
      return true;
    case KP_GGUF_U64: {
      uint64_t bits = kp_little_endian(value->raw + 8 * index, 8);
      *result = bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
      return true;
    }
    default:
      return false;
  }
}

/* Element `index`, which must lie in low..high. */
static kp_status bounded_integer(const kp_gguf_value *value, size_t index, int64_t low, int64_t high, int64_t *result,
                                 kp_error *error) {
  if (!value->is_array || !integer_at(value, index, result)) return wrong_type(error, value, "an array of integers");
  if (*result < low || *result > high) {
    return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': element %zu: expected %lld to %lld, got %lld",
                   value->key.data, index, (long long)low, (long long)high, (long long)*result);
  }
  return KP_OK;
}

static kp_status find_array(const kp_gguf *gguf, const char *key, size_t count, const kp_gguf_value **value,
                            kp_error *error) {
  KP_TRY(find_required(gguf, key, value, error));
  if (!(*value)->is_array) return wrong_type(error, *value, "an array");
  if ((*value)->count != count) {
    return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected %zu elements, got %zu", key, count,
                   (*value)->count);
  }
  return KP_OK;
}

kp_status kp_gguf_u32_array(const kp_gguf *gguf, const char *key, size_t count, uint32_t *values, kp_error *error) {
  const kp_gguf_value *found;
  KP_TRY(find_array(gguf, key, count, &found, error));
  for (size_t i = 0; i < count; i++) {
    int64_t element;
    KP_TRY(bounded_integer(found, i, 0, UINT32_MAX, &element, error));
    values[i] = (uint32_t)element;
  }
  return KP_OK;
}

kp_status kp_gguf_f32_array(const kp_gguf *gguf, const char *key, size_t count, float *values, kp_error *error) {
  const kp_gguf_value *found;
  KP_TRY(find_array(gguf, key, count, &found, error));
  if (found->type != KP_GGUF_F32) return wrong_type(error, found, "an array of f32");
  for (size_t i = 0; i < count; i++) {
    uint32_t bits = (uint32_t)kp_little_endian(found->raw + 4 * i, 4);
    memcpy(&values[i], &bits, sizeof bits);
  }
  return KP_OK;
}

kp_status kp_gguf_strings(const kp_gguf *gguf, const char *key, const kp_string **values, size_t *count,
                          kp_error *error) {
  const kp_gguf_value *found = kp_gguf_find(gguf, key);
  *values = NULL;
  *count = 0;
  if (found == NULL) return KP_OK;
  if (!found->is_array || found->type != KP_GGUF_STRING) return wrong_type(error, found, "an array of strings");
  *values = found->strings;
  *count = found->count;
  return KP_OK;
}

kp_status kp_gguf_i32s(const kp_gguf *gguf, kp_arena *arena, const char *key, const int32_t **values, size_t *count,
                       kp_error *error) {
  const kp_gguf_value *found = kp_gguf_find(gguf, key);
  *values = NULL;
  *count = 0;
  if (found == NULL) return KP_OK;
  if (!found->is_array) return wrong_type(error, found, "an array of integers");
  int32_t *copy = kp_arena_calloc(arena, found->count, sizeof *copy);
  if (copy == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for metadata key '%s'", key);
  for (size_t i = 0; i < found->count; i++) {
    int64_t element;
    KP_TRY(bounded_integer(found, i, INT32_MIN, INT32_MAX, &element, error));
    copy[i] = (int32_t)element;
  }
  *values = copy;
  *count = found->count;
  return KP_OK;
}

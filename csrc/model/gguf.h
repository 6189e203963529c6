/* A bounded reader for GGUF version 3. The bytes are untrusted. */
#ifndef KP_MODEL_GGUF_H
#define KP_MODEL_GGUF_H

#include "base/memory.h"
#include "base/status.h"

/* GGUF's metadata value types. */
typedef enum kp_gguf_type {
  KP_GGUF_U8 = 0,
  KP_GGUF_I8,
  KP_GGUF_U16,
  KP_GGUF_I16,
  KP_GGUF_U32,
  KP_GGUF_I32,
  KP_GGUF_F32,
  KP_GGUF_BOOL,
  KP_GGUF_STRING,
  KP_GGUF_ARRAY,
  KP_GGUF_U64,
  KP_GGUF_I64,
  KP_GGUF_F64
} kp_gguf_type;

typedef struct kp_string { /* NUL-terminated copy in the reader's arena; no NUL inside */
  const char *data;
  size_t size;
} kp_string;

typedef struct kp_gguf_value {
  kp_string key;
  kp_gguf_type type; /* the element's type where is_array */
  bool is_array;
  size_t count;             /* 1 where not an array */
  const uint8_t *raw;       /* scalars and arrays of numbers: little-endian, unaligned */
  const kp_string *strings; /* type KP_GGUF_STRING */
} kp_gguf_value;

typedef struct kp_gguf_tensor {
  kp_string name;
  kp_dtype dtype; /* F32, I32, I8: others are refused */
  int32_t rank;
  int64_t shape[KP_MAX_RANK]; /* outermost first; every product checked */
  const void *data;           /* aligned to 32 bytes at least; inside the file's bytes */
  size_t bytes;
} kp_gguf_tensor;

typedef struct kp_gguf {
  const uint8_t *bytes; /* the caller's; must outlive this, aligned to 64 */
  size_t size;
  kp_gguf_value *values; /* sorted by key */
  size_t value_count;
  kp_gguf_tensor *tensors; /* in the file's order */
  size_t tensor_count;
  uint32_t *tensors_by_name; /* positions in `tensors`, sorted by name */
} kp_gguf;

/* The little-endian number in `bytes` (1 to 8) bytes. */
static inline uint64_t kp_little_endian(const uint8_t *raw, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; i++) value |= (uint64_t)raw[i] << (8 * i);
  return value;
}

/* Parses and checks everything: header, metadata, tensor table, that tensors lie inside the file and do not overlap,
 * unique names and keys, UTF-8. Allocations come from `arena`. */
kp_status kp_gguf_parse(const uint8_t *bytes, size_t size, kp_arena *arena, kp_gguf *gguf, kp_error *error);

const kp_gguf_value *kp_gguf_find(const kp_gguf *gguf, const char *key);          /* or NULL */
const kp_gguf_tensor *kp_gguf_find_tensor(const kp_gguf *gguf, const char *name); /* or NULL */

/* The required key with its type; KP_ERROR_MODEL names what is missing or of another type. */
kp_status kp_gguf_string(const kp_gguf *gguf, const char *key, const char **value, kp_error *error);
kp_status kp_gguf_u32(const kp_gguf *gguf, const char *key, uint32_t *value, kp_error *error);
kp_status kp_gguf_f32(const kp_gguf *gguf, const char *key, float *value, kp_error *error);
kp_status kp_gguf_bool(const kp_gguf *gguf, const char *key, bool *value, kp_error *error);
/* An array of exactly `count` numbers. */
kp_status kp_gguf_u32_array(const kp_gguf *gguf, const char *key, size_t count, uint32_t *values, kp_error *error);
kp_status kp_gguf_f32_array(const kp_gguf *gguf, const char *key, size_t count, float *values, kp_error *error);
/* Arrays of any length; an absent key is an empty array. Strings and values stay the reader's. */
kp_status kp_gguf_strings(const kp_gguf *gguf, const char *key, const kp_string **values, size_t *count,
                          kp_error *error);
kp_status kp_gguf_i32s(const kp_gguf *gguf, kp_arena *arena, const char *key, const int32_t **values, size_t *count,
                       kp_error *error);

#endif /* KP_MODEL_GGUF_H */

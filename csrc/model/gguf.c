#include "model/gguf.h"

#include <string.h>

#include "base/sort.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors are used where they lie in the file, which is little-endian"
#endif

#define GGUF_VERSION 3u
#define DEFAULT_ALIGNMENT 32u
#define SMALLEST_ALIGNMENT 32u
#define LARGEST_ALIGNMENT 4096u
#define LONGEST_NAME 255u /* of a key or a tensor, in bytes: an error message has room for it */

/* The least that an entry takes in the file; counts are checked against it before anything is allocated for them. */
#define SMALLEST_KEY_VALUE_BYTES (8 + 4 + 1)
#define SMALLEST_TENSOR_BYTES (8 + 4 + 4 + 8)

/* GGML's tensor types that are read here. */
enum { GGML_F32 = 0, GGML_I8 = 24, GGML_I32 = 26 };

static const uint8_t element_bytes[] = {
    [KP_GGUF_U8] = 1,    [KP_GGUF_I8] = 1,  [KP_GGUF_U16] = 2,  [KP_GGUF_I16] = 2,    [KP_GGUF_U32] = 4,
    [KP_GGUF_I32] = 4,   [KP_GGUF_F32] = 4, [KP_GGUF_BOOL] = 1, [KP_GGUF_STRING] = 8, /* at least: the length */
    [KP_GGUF_ARRAY] = 0, [KP_GGUF_U64] = 8, [KP_GGUF_I64] = 8,  [KP_GGUF_F64] = 8};

#define TYPE_COUNT (sizeof element_bytes / sizeof element_bytes[0])

/* ---- Reading ---- */

typedef struct reader {
  const uint8_t *bytes;
  size_t size;
  size_t position; /* <= size */
  kp_arena *arena;
  kp_error *error;
} reader;

static kp_status out_of_memory(kp_error *error) {
  return kp_fail(error, KP_ERROR_MEMORY, "no memory for the model's metadata");
}

static size_t remaining(const reader *r) { return r->size - r->position; }

static kp_status read_unsigned(reader *r, size_t bytes, const char *what, uint64_t *value) {
  *value = 0;
  if (remaining(r) < bytes) {
    return kp_fail(r->error, KP_ERROR_MODEL, "%s at byte %zu: expected %zu bytes, the file ends after %zu", what,
                   r->position, bytes, remaining(r));
  }
  *value = kp_little_endian(r->bytes + r->position, bytes);
  r->position += bytes;
  return KP_OK;
}

/* The length of the UTF-8 sequence at `text` (Unicode 15, table 3-7), or 0. */
static size_t utf8_sequence(const uint8_t *text, size_t size) {
  uint8_t lead = text[0];
  if (lead < 0x80) return 1;
  size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || size < length) return 0;
  uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  if (text[1] < low || text[1] > high) return 0;
  for (size_t i = 2; i < length; i++) {
    if (text[i] < 0x80 || text[i] > 0xBF) return 0;
  }
  return length;
}

static bool is_text(const uint8_t *text, size_t size) {
  for (size_t i = 0; i < size;) {
    size_t length = utf8_sequence(text + i, size - i);
    if (length == 0 || text[i] == 0) return false;
    i += length;
  }
  return true;
}

/* A string's extent in the file, checked: it lies inside, is UTF-8 and has no NUL. */
static kp_status read_span(reader *r, const char *what, size_t longest, const uint8_t **text, size_t *size) {
  size_t start = r->position;
  uint64_t length;
  KP_TRY(read_unsigned(r, 8, what, &length));
  if (length > longest) {
    return kp_fail(r->error, KP_ERROR_MODEL, "%s at byte %zu: expected at most %zu bytes, got %llu", what, start,
                   longest, (unsigned long long)length);
  }
  if (length > remaining(r)) {
    return kp_fail(r->error, KP_ERROR_MODEL, "%s at byte %zu: its %llu bytes go beyond the end of the file", what,
                   start, (unsigned long long)length);
  }
  *text = r->bytes + r->position;
  *size = (size_t)length;
  if (!is_text(*text, *size)) {
    return kp_fail(r->error, KP_ERROR_MODEL, "%s at byte %zu: not UTF-8 text, or it holds a NUL", what, start);
  }
  r->position += *size;
  return KP_OK;
}

static kp_status read_string(reader *r, const char *what, size_t longest, kp_string *string) {
  const uint8_t *text;
  size_t size;
  KP_TRY(read_span(r, what, longest, &text, &size));
  char *copy = kp_arena_calloc(r->arena, size + 1, 1);
  if (copy == NULL) return out_of_memory(r->error);
  memcpy(copy, text, size);
  *string = (kp_string){.data = copy, .size = size};
  return KP_OK;
}

static kp_status read_name(reader *r, const char *what, kp_string *name) {
  size_t start = r->position;
  KP_TRY(read_string(r, what, LONGEST_NAME, name));
  if (name->size == 0) return kp_fail(r->error, KP_ERROR_MODEL, "%s at byte %zu: it is empty", what, start);
  return KP_OK;
}

/* ---- Metadata ---- */

/* All strings of an array lie in one allocation, so that a vocabulary does not cost an allocation per token. */
static kp_status read_strings(reader *r, kp_gguf_value *value) {
  size_t start = r->position;
  size_t total = 0;
  const uint8_t *text;
  size_t size;
  for (size_t i = 0; i < value->count; i++) {
    KP_TRY(read_span(r, "string", SIZE_MAX, &text, &size));
    total += size + 1; /* at most the file's size: every string has 8 bytes of length */
  }
  kp_string *strings = kp_arena_calloc(r->arena, value->count, sizeof *strings);
  char *copy = kp_arena_calloc(r->arena, total, 1);
  if (strings == NULL || copy == NULL) return out_of_memory(r->error);
  size_t position = start;
  for (size_t i = 0; i < value->count; i++) {
    size = (size_t)kp_little_endian(r->bytes + position, 8);
    memcpy(copy, r->bytes + position + 8, size);
    strings[i] = (kp_string){.data = copy, .size = size};
    copy += size + 1;
    position += 8 + size;
  }
  value->strings = strings;
  return KP_OK;
}

static kp_status read_numbers(reader *r, kp_gguf_value *value) {
  size_t bytes = value->count * element_bytes[value->type]; /* the caller has checked count */
  if (remaining(r) < bytes) {
    return kp_fail(r->error, KP_ERROR_MODEL, "value at byte %zu: expected %zu bytes, the file ends after %zu",
                   r->position, bytes, remaining(r));
  }
  value->raw = r->bytes + r->position;
  if (value->type == KP_GGUF_BOOL) {
    for (size_t i = 0; i < value->count; i++) {
      if (value->raw[i] > 1) {
        return kp_fail(r->error, KP_ERROR_MODEL, "bool at byte %zu: expected 0 or 1, got %u", r->position + i,
                       (unsigned)value->raw[i]);
      }
    }
  }
  r->position += bytes;
  return KP_OK;
}

static kp_status read_type(reader *r, kp_gguf_type *type) {
  size_t start = r->position;
  uint64_t code;
  KP_TRY(read_unsigned(r, 4, "value type", &code));
  if (code >= TYPE_COUNT) {
    return kp_fail(r->error, KP_ERROR_MODEL, "value type at byte %zu: expected 0 to %zu, got %llu", start,
                   TYPE_COUNT - 1, (unsigned long long)code);
  }
  *type = (kp_gguf_type)code;
  return KP_OK;
}

static kp_status read_value(reader *r, kp_gguf_value *value) {
  value->count = 1;
  KP_TRY(read_type(r, &value->type));
  if (value->type == KP_GGUF_ARRAY) {
    value->is_array = true;
    size_t start = r->position;
    KP_TRY(read_type(r, &value->type));
    if (value->type == KP_GGUF_ARRAY) {
      return kp_fail(r->error, KP_ERROR_MODEL, "array at byte %zu: arrays of arrays are not supported", start);
    }
    uint64_t count;
    KP_TRY(read_unsigned(r, 8, "array length", &count));
    if (count > remaining(r) / element_bytes[value->type]) {
      return kp_fail(r->error, KP_ERROR_MODEL, "array at byte %zu: its %llu elements go beyond the end of the file",
                     start, (unsigned long long)count);
    }
    value->count = (size_t)count;
  }
  return value->type == KP_GGUF_STRING ? read_strings(r, value) : read_numbers(r, value);
}

static int compare_strings(const kp_string *a, const kp_string *b) { return strcmp(a->data, b->data); }

static bool value_less(const void *context, uint32_t a, uint32_t b) {
  const kp_gguf_value *values = context;
  return compare_strings(&values[a].key, &values[b].key) < 0;
}

static kp_status read_values(reader *r, kp_gguf *gguf) {
  size_t count = gguf->value_count;
  kp_gguf_value *read = kp_arena_calloc(r->arena, count, sizeof *read);
  uint32_t *order = kp_arena_calloc(r->arena, count, sizeof *order);
  gguf->values = kp_arena_calloc(r->arena, count, sizeof *gguf->values);
  if (read == NULL || order == NULL || gguf->values == NULL) return out_of_memory(r->error);
  for (size_t i = 0; i < count; i++) {
    KP_TRY(read_name(r, "metadata key", &read[i].key));
    kp_status status = read_value(r, &read[i]);
    if (status != KP_OK) return kp_fail_in(r->error, status, "metadata key '%s'", read[i].key.data);
  }
  kp_sort_indices(order, count, value_less, read);
  for (size_t i = 0; i < count; i++) {
    gguf->values[i] = read[order[i]];
    if (i > 0 && compare_strings(&gguf->values[i - 1].key, &gguf->values[i].key) == 0) {
      return kp_fail(r->error, KP_ERROR_MODEL, "metadata key '%s': it appears twice", gguf->values[i].key.data);
    }
  }
  return KP_OK;
}

/* ---- Tensors ---- */

static kp_status read_tensor_type(reader *r, kp_dtype *dtype) {
  uint64_t type;
  KP_TRY(read_unsigned(r, 4, "tensor type", &type));
  switch (type) {
    case GGML_F32:
      *dtype = KP_F32;
      return KP_OK;
    case GGML_I32:
      *dtype = KP_I32;
      return KP_OK;
    case GGML_I8:
      *dtype = KP_I8;
      return KP_OK;
    default:
      return kp_fail(r->error, KP_ERROR_MODEL, "type: expected %d (F32), %d (I8) or %d (I32), got %llu", GGML_F32,
                     GGML_I8, GGML_I32, (unsigned long long)type);
  }
}

/* One entry of the tensor table; *offset is relative to the data section, whose place is not yet known. */
static kp_status read_tensor(reader *r, kp_gguf_tensor *tensor, uint64_t *offset) {
  uint64_t rank;
  KP_TRY(read_unsigned(r, 4, "rank", &rank));
  if (rank > KP_MAX_RANK) {
    return kp_fail(r->error, KP_ERROR_MODEL, "rank: expected at most %d, got %llu", KP_MAX_RANK,
                   (unsigned long long)rank);
  }
  tensor->rank = (int32_t)rank;
  for (int32_t i = tensor->rank - 1; i >= 0; i--) { /* the file has the innermost dimension first */
    uint64_t dim;
    KP_TRY(read_unsigned(r, 8, "dimension", &dim));
    if (dim > INT32_MAX) {
      return kp_fail(r->error, KP_ERROR_MODEL, "dimension: expected at most %d, got %llu", INT32_MAX,
                     (unsigned long long)dim);
    }
    tensor->shape[i] = (int64_t)dim;
  }
  KP_TRY(read_tensor_type(r, &tensor->dtype));
  size_t bytes = kp_dtype_size(tensor->dtype);
  for (int32_t i = 0; i < tensor->rank; i++) {
    if (!kp_mul_size(bytes, (size_t)tensor->shape[i], &bytes)) {
      return kp_fail(r->error, KP_ERROR_MODEL, "the size of its shape overflows");
    }
  }
  tensor->bytes = bytes;
  return read_unsigned(r, 8, "offset", offset);
}

static bool tensor_name_less(const void *context, uint32_t a, uint32_t b) {
  const kp_gguf_tensor *tensors = context;
  return compare_strings(&tensors[a].name, &tensors[b].name) < 0;
}

/* By address; an empty tensor before what starts at the same place. */
static bool tensor_place_less(const void *context, uint32_t a, uint32_t b) {
  const kp_gguf_tensor *left = (const kp_gguf_tensor *)context + a;
  const kp_gguf_tensor *right = (const kp_gguf_tensor *)context + b;
  uintptr_t at_left = (uintptr_t)left->data, at_right = (uintptr_t)right->data;
  return at_left != at_right ? at_left < at_right : left->bytes < right->bytes;
}

static kp_status place_tensor(const reader *r, size_t data_start, uint32_t alignment, uint64_t offset,
                              kp_gguf_tensor *tensor) {
  const char *name = tensor->name.data;
  if (offset % alignment != 0) {
    return kp_fail(r->error, KP_ERROR_MODEL, "tensor '%s': its offset %llu is not a multiple of the alignment %u", name,
                   (unsigned long long)offset, alignment);
  }
  size_t room = r->size - data_start;
  if (offset > room || tensor->bytes > room - (size_t)offset) {
    return kp_fail(r->error, KP_ERROR_MODEL,
                   "tensor '%s': its %zu bytes at offset %llu go beyond the end of the file (%zu bytes of data)", name,
                   tensor->bytes, (unsigned long long)offset, room);
  }
  tensor->data = r->bytes + data_start + (size_t)offset;
  return KP_OK;
}

static kp_status check_names_and_overlaps(const reader *r, const kp_gguf *gguf) {
  const kp_gguf_tensor *tensors = gguf->tensors;
  uint32_t *order = gguf->tensors_by_name;
  kp_sort_indices(order, gguf->tensor_count, tensor_place_less, tensors);
  for (size_t i = 1; i < gguf->tensor_count; i++) {
    const kp_gguf_tensor *before = &tensors[order[i - 1]], *after = &tensors[order[i]];
    if ((size_t)((const uint8_t *)after->data - (const uint8_t *)before->data) < before->bytes) {
      return kp_fail(r->error, KP_ERROR_MODEL, "tensors '%s' and '%s' overlap", before->name.data, after->name.data);
    }
  }
  kp_sort_indices(order, gguf->tensor_count, tensor_name_less, tensors);
  for (size_t i = 1; i < gguf->tensor_count; i++) {
    if (compare_strings(&tensors[order[i - 1]].name, &tensors[order[i]].name) == 0) {
      return kp_fail(r->error, KP_ERROR_MODEL, "tensor '%s': it appears twice", tensors[order[i]].name.data);
    }
  }
  return KP_OK;
}

static kp_status read_alignment(const kp_gguf *gguf, uint32_t *alignment, kp_error *error) {
  static const char key[] = "general.alignment";
  *alignment = DEFAULT_ALIGNMENT;
  if (kp_gguf_find(gguf, key) == NULL) return KP_OK;
  KP_TRY(kp_gguf_u32(gguf, key, alignment, error));
  if (*alignment < SMALLEST_ALIGNMENT || *alignment > LARGEST_ALIGNMENT || (*alignment & (*alignment - 1)) != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "metadata key '%s': expected a power of two, %u to %u, got %u", key,
                   SMALLEST_ALIGNMENT, LARGEST_ALIGNMENT, *alignment);
  }
  return KP_OK;
}

static kp_status read_tensors(reader *r, kp_gguf *gguf) {
  uint32_t alignment;
  KP_TRY(read_alignment(gguf, &alignment, r->error));
  size_t count = gguf->tensor_count;
  uint64_t *offsets = kp_arena_calloc(r->arena, count, sizeof *offsets);
  gguf->tensors = kp_arena_calloc(r->arena, count, sizeof *gguf->tensors);
  gguf->tensors_by_name = kp_arena_calloc(r->arena, count, sizeof *gguf->tensors_by_name);
  if (offsets == NULL || gguf->tensors == NULL || gguf->tensors_by_name == NULL) return out_of_memory(r->error);
  for (size_t i = 0; i < count; i++) {
    kp_gguf_tensor *tensor = &gguf->tensors[i];
    KP_TRY(read_name(r, "tensor name", &tensor->name));
    kp_status status = read_tensor(r, tensor, &offsets[i]);
    if (status != KP_OK) return kp_fail_in(r->error, status, "tensor '%s'", tensor->name.data);
  }
  size_t padding = (alignment - r->position % alignment) % alignment;
  if (count > 0 && padding > remaining(r)) {
    return kp_fail(r->error, KP_ERROR_MODEL, "the file ends at byte %zu, before the tensors' data", r->size);
  }
  for (size_t i = 0; i < count; i++) {
    KP_TRY(place_tensor(r, r->position + padding, alignment, offsets[i], &gguf->tensors[i]));
  }
  return check_names_and_overlaps(r, gguf);
}

/* ---- The file ---- */

static kp_status read_count(reader *r, const char *what, size_t entry_bytes, size_t *count) {
  size_t start = r->position;
  uint64_t value;
  KP_TRY(read_unsigned(r, 8, what, &value));
  if (value > remaining(r) / entry_bytes || value > UINT32_MAX) {
    return kp_fail(r->error, KP_ERROR_MODEL, "%s at byte %zu: %llu do not fit in a file of %zu bytes", what, start,
                   (unsigned long long)value, r->size);
  }
  *count = (size_t)value;
  return KP_OK;
}

kp_status kp_gguf_parse(const uint8_t *bytes, size_t size, kp_arena *arena, kp_gguf *gguf, kp_error *error) {
  static const uint8_t magic[4] = {'G', 'G', 'U', 'F'};
  *gguf = (kp_gguf){.bytes = bytes, .size = size};
  reader r = {.bytes = bytes, .size = size, .arena = arena, .error = error};
  if (size < sizeof magic || memcmp(bytes, magic, sizeof magic) != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "not a GGUF file: it does not start with \"GGUF\"");
  }
  r.position = sizeof magic;
  uint64_t version;
  KP_TRY(read_unsigned(&r, 4, "GGUF version", &version));
  if (version != GGUF_VERSION) {
    return kp_fail(error, KP_ERROR_VERSION, "GGUF version: expected %u, got %llu", GGUF_VERSION,
                   (unsigned long long)version);
  }
  KP_TRY(read_count(&r, "tensor count", SMALLEST_TENSOR_BYTES, &gguf->tensor_count));
  KP_TRY(read_count(&r, "metadata count", SMALLEST_KEY_VALUE_BYTES, &gguf->value_count));
  KP_TRY(read_values(&r, gguf));
  return read_tensors(&r, gguf);
}

/* ---- Lookup ---- */

const kp_gguf_value *kp_gguf_find(const kp_gguf *gguf, const char *key) {
  size_t low = 0, high = gguf->value_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = strcmp(key, gguf->values[middle].key.data);
    if (order == 0) return &gguf->values[middle];
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return NULL;
}

const kp_gguf_tensor *kp_gguf_find_tensor(const kp_gguf *gguf, const char *name) {
  size_t low = 0, high = gguf->tensor_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    const kp_gguf_tensor *tensor = &gguf->tensors[gguf->tensors_by_name[middle]];
    int order = strcmp(name, tensor->name.data);
    if (order == 0) return tensor;
    if (order < 0) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return NULL;
}

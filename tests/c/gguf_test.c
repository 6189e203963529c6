/* csrc/model/gguf.c: files made here byte by byte. */
#include <stdlib.h>

#include "check.h"
#include "model/gguf.h"

/* ---- Writing ---- */

typedef struct file {
  _Alignas(64) uint8_t bytes[1 << 16];
  size_t size;
} file;

static file built; /* every test makes its own file in it */

static void put(uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) built.bytes[built.size++] = (uint8_t)(value >> (8 * i));
}

static void put_bytes(const void *bytes, size_t size) {
  memcpy(built.bytes + built.size, bytes, size);
  built.size += size;
}

static void put_text(const char *text) {
  put(strlen(text), 8);
  put_bytes(text, strlen(text));
}

static void start_file(uint64_t tensors, uint64_t values) {
  memset(&built, 0, sizeof built);
  put_bytes("GGUF", 4);
  put(3, 4);
  put(tensors, 8);
  put(values, 8);
}

static void put_key(const char *key, kp_gguf_type type) {
  put_text(key);
  put(type, 4);
}

static void put_u32(const char *key, uint32_t value) {
  put_key(key, KP_GGUF_U32);
  put(value, 4);
}

static void put_array(const char *key, kp_gguf_type type, uint64_t count) {
  put_key(key, KP_GGUF_ARRAY);
  put(type, 4);
  put(count, 8);
}

enum { F32 = 0, F16 = 1, I8 = 24 };

static void put_tensor(const char *name, uint64_t inner, uint64_t outer, uint32_t type, uint64_t offset) {
  put_text(name);
  put(2, 4);
  put(inner, 8);
  put(outer, 8);
  put(type, 4);
  put(offset, 8);
}

static void put_data(size_t alignment, size_t size) {
  while (built.size % alignment != 0) put(0, 1);
  for (size_t i = 0; i < size; i++) put(i, 1);
}

/* ---- Reading ---- */

static kp_arena arena;
static kp_gguf gguf;

static kp_status parse(kp_error *error) {
  kp_allocator allocator = kp_default_allocator();
  kp_arena_release(&arena);
  kp_arena_init(&arena, &allocator);
  /* A copy of exactly this size, so that a sanitizer sees a read beyond it. */
  uint8_t *copy = kp_alloc(&allocator, built.size);
  memcpy(copy, built.bytes, built.size);
  kp_status status = kp_gguf_parse(copy, built.size, &arena, &gguf, error);
  if (status != KP_OK) kp_free(&allocator, copy, built.size, 1);
  return status;
}

static void release(void) {
  kp_allocator allocator = kp_default_allocator();
  kp_arena_release(&arena);
  kp_free(&allocator, (void *)(uintptr_t)gguf.bytes, gguf.size, 1);
}

static void check_refused(int line, kp_status status, const char *message) {
  kp_error error = {.status = KP_OK};
  kp_status got = parse(&error);
  if (got != status || strstr(error.message, message) == NULL) {
    check_failed(__FILE__, line, "expected %s with '%s', got %s: %s", kp_status_name(status), message,
                 kp_status_name(got), error.message);
  }
  kp_arena_release(&arena);
}

#define CHECK_REFUSED(message) check_refused(__LINE__, KP_ERROR_MODEL, message)

/* ---- Tests ---- */

static void values_and_tensors_come_back_as_written(void) {
  start_file(3, 5);
  put_u32("z.number", 4000000000u);
  put_key("name", KP_GGUF_STRING);
  put_text("H\xC3\xA9llo");
  put_array("strings", KP_GGUF_STRING, 3);
  put_text("a");
  put_text("");
  put_text("\xF0\x9F\x98\x80");
  put_array("numbers", KP_GGUF_I16, 2);
  put(0xFFFE, 2);
  put(7, 2);
  put_key("flag", KP_GGUF_BOOL);
  put(1, 1);
  put_tensor("b", 3, 2, F32, 32);
  put_tensor("a", 5, 1, I8, 0);
  put_tensor("empty", 0, 4, F32, 32);
  put_data(32, 32 + 24);
  CHECK_OK(parse(&error));
  const char *name;
  uint32_t number, numbers[2];
  bool flag;
  const kp_string *strings;
  const int32_t *integers;
  size_t count;
  CHECK_OK(kp_gguf_u32(&gguf, "z.number", &number, &error));
  CHECK(number == 4000000000u);
  CHECK_OK(kp_gguf_string(&gguf, "name", &name, &error));
  CHECK(strcmp(name, "H\xC3\xA9llo") == 0);
  CHECK_OK(kp_gguf_strings(&gguf, "strings", &strings, &count, &error));
  CHECK(count == 3 && strings[1].size == 0 && strcmp(strings[2].data, "\xF0\x9F\x98\x80") == 0 && strings[2].size == 4);
  CHECK_OK(kp_gguf_i32s(&gguf, &arena, "numbers", &integers, &count, &error));
  CHECK(count == 2 && integers[0] == -2 && integers[1] == 7);
  CHECK_FAILS(kp_gguf_u32_array(&gguf, "numbers", 2, numbers, &error), KP_ERROR_MODEL,
              "'numbers': element 0: expected 0 to 4294967295, got -2");
  CHECK_FAILS(kp_gguf_u32_array(&gguf, "numbers", 3, numbers, &error), KP_ERROR_MODEL, "expected 3 elements, got 2");
  CHECK_OK(kp_gguf_bool(&gguf, "flag", &flag, &error));
  CHECK(flag);
  CHECK_FAILS(kp_gguf_u32(&gguf, "name", &number, &error), KP_ERROR_MODEL, "'name': expected u32, got string");
  CHECK_FAILS(kp_gguf_string(&gguf, "strings", &name, &error), KP_ERROR_MODEL,
              "expected a string, got an array of string");
  CHECK_FAILS(kp_gguf_bool(&gguf, "none", &flag, &error), KP_ERROR_MODEL, "'none' is missing");
  CHECK_OK(kp_gguf_strings(&gguf, "none", &strings, &count, &error));
  CHECK(count == 0);
  const kp_gguf_tensor *b = kp_gguf_find_tensor(&gguf, "b"), *a = kp_gguf_find_tensor(&gguf, "a");
  CHECK(b != NULL && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->bytes == 24 && b->dtype == KP_F32);
  CHECK(a != NULL && a->bytes == 5 && a->dtype == KP_I8 && ((const uint8_t *)a->data)[4] == 4);
  CHECK(b != NULL && ((const uint8_t *)b->data)[0] == 32);
  CHECK(kp_gguf_find_tensor(&gguf, "c") == NULL && gguf.tensors[0].bytes == 24);
  release();
}

static void the_files_alignment_is_used(void) {
  start_file(1, 1);
  put_u32("general.alignment", 256);
  put_tensor("a", 4, 1, F32, 256);
  put_data(256, 272);
  CHECK_OK(parse(&error));
  CHECK(gguf.tensor_count == 1 && (uintptr_t)gguf.tensors[0].data % 64 == 0 &&
        *(const uint8_t *)gguf.tensors[0].data == 0);
  release();
  static const uint32_t wrong[] = {0, 1, 16, 33, 96, 8192, 0x80000000u};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    start_file(0, 1);
    put_u32("general.alignment", wrong[i]);
    CHECK_REFUSED("'general.alignment': expected a power of two");
  }
}

static void headers_that_are_not_gguf_3_are_refused(void) {
  start_file(0, 0);
  built.bytes[0] = 'X';
  CHECK_REFUSED("not a GGUF file");
  start_file(0, 0);
  built.bytes[4] = 2;
  check_refused(__LINE__, KP_ERROR_VERSION, "GGUF version: expected 3, got 2");
  start_file(UINT64_MAX, 0);
  CHECK_REFUSED("tensor count");
  start_file(0, 1000);
  CHECK_REFUSED("metadata count");
}

static void strings_that_are_not_text_are_refused(void) {
  static const char *const wrong[] = {
      "\x80",     "\xC3", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80",
      "a\xE2\x82"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    start_file(0, 1);
    put_key("k", KP_GGUF_STRING);
    put_text(wrong[i]);
    CHECK_REFUSED("metadata key 'k': string at byte");
  }
  start_file(0, 1);
  put_key("k", KP_GGUF_STRING);
  put(3, 8);
  put_bytes("a\0b", 3);
  CHECK_REFUSED("holds a NUL");
  start_file(0, 1);
  put_key("k", KP_GGUF_STRING);
  put(UINT64_MAX - 4, 8);
  CHECK_REFUSED("go beyond the end");
}

static void damaged_metadata_is_refused(void) {
  start_file(0, 2);
  put_u32("twice", 1);
  put_u32("twice", 2);
  CHECK_REFUSED("metadata key 'twice': it appears twice");
  start_file(0, 1);
  put_u32("", 1);
  CHECK_REFUSED("metadata key at byte 24: it is empty");
  start_file(0, 1);
  put_key("k", (kp_gguf_type)13);
  put(0, 8);
  CHECK_REFUSED("metadata key 'k': value type at byte 33: expected 0 to 12, got 13");
  start_file(0, 1);
  put_array("k", KP_GGUF_ARRAY, 1);
  CHECK_REFUSED("metadata key 'k': array at byte 37: arrays of arrays");
  start_file(0, 1);
  put_array("k", KP_GGUF_U64, UINT64_MAX / 8 + 2);
  CHECK_REFUSED("go beyond the end");
  start_file(0, 1);
  put_key("k", KP_GGUF_BOOL);
  put(2, 1);
  CHECK_REFUSED("expected 0 or 1, got 2");
  start_file(0, 1);
  put_key("k", KP_GGUF_F64);
  put(0, 7);
  CHECK_REFUSED("the file ends after 7");
}

static void damaged_tensors_are_refused(void) {
  static const struct {
    uint64_t inner, outer, offset;
    uint32_t type;
    const char *message;
  } wrong[] = {{4, 1, 32, F16, "type: expected 0 (F32)"},
               {1ull << 31, 1, 0, F32, "dimension: expected at most 2147483647"},
               {INT32_MAX, INT32_MAX, 0, F32, "go beyond the end"},
               {4, 1, 4, F32, "offset 4 is not a multiple of the alignment 32"},
               {4, 1, 64, F32, "go beyond the end"},
               {17, 1, 0, F32, "go beyond the end"},
               {4, 1, UINT64_MAX - 31, F32, "go beyond the end"}};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    start_file(1, 0);
    put_tensor("a", wrong[i].inner, wrong[i].outer, wrong[i].type, wrong[i].offset);
    put_data(32, 64);
    CHECK_REFUSED(wrong[i].message);
  }
  start_file(2, 0);
  put_tensor("a", 9, 1, F32, 0);
  put_tensor("b", 4, 1, F32, 32);
  put_data(32, 64);
  CHECK_REFUSED("tensors 'a' and 'b' overlap");
  start_file(2, 0);
  put_tensor("a", 4, 1, F32, 0);
  put_tensor("a", 4, 1, F32, 32);
  put_data(32, 64);
  CHECK_REFUSED("tensor 'a': it appears twice");
  start_file(1, 0);
  put_text("a");
  put(9, 4);
  put_data(32, 96);
  CHECK_REFUSED("rank: expected at most 8, got 9");
}

static void a_shape_whose_size_overflows_is_refused(void) {
  start_file(1, 0);
  put_text("a");
  put(3, 4);
  for (int i = 0; i < 3; i++) put(INT32_MAX, 8);
  put(F32, 4);
  put(0, 8);
  put_data(32, 32);
  CHECK_REFUSED("the size of its shape overflows");
}

static void every_cut_of_a_file_is_refused(void) {
  start_file(1, 3);
  put_u32("number", 1);
  put_array("strings", KP_GGUF_STRING, 2);
  put_text("abc");
  put_text("de");
  put_array("numbers", KP_GGUF_F32, 2);
  put(0, 8);
  put_tensor("a", 4, 1, F32, 0);
  put_data(32, 16);
  size_t whole = built.size;
  CHECK_OK(parse(&error));
  release();
  for (size_t cut = 0; cut < whole; cut++) {
    built.size = cut;
    CHECK_REFUSED("");
  }
}

const check_test gguf_tests[] = {TEST(values_and_tensors_come_back_as_written),
                                 TEST(the_files_alignment_is_used),
                                 TEST(headers_that_are_not_gguf_3_are_refused),
                                 TEST(strings_that_are_not_text_are_refused),
                                 TEST(damaged_metadata_is_refused),
                                 TEST(damaged_tensors_are_refused),
                                 TEST(a_shape_whose_size_overflows_is_refused),
                                 TEST(every_cut_of_a_file_is_refused),
                                 {NULL, NULL}};

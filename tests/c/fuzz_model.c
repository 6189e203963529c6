/* fuzz_model FILE: opens the model file cut short at many lengths, with each byte of its first 64 KiB changed in turn,
 * and with other digits in its shapes, indices and attributes, and runs what opens. What is to be found is found by a
 * sanitizer; the program itself fails only where the unchanged file does not open. Built with -DKP_LIBFUZZER it is an
 * entry for libFuzzer instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif

#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

/* Programs that take more are opened, not run. */
#define MOST_RUN_BYTES ((size_t)32 << 20)
#define MOST_RUN_MACS ((uint64_t)2000000)
#define MOST_OUTPUTS 256

/* ---- One file ---- */

/* The file's bytes stay the caller's, so that no change of one byte copies a model. */
static void *alloc_memory(void *context, size_t size, size_t alignment) {
  (void)context;
  kp_allocator allocator = kp_default_allocator();
  return allocator.alloc(NULL, size, alignment);
}

static void release_unless_kept(void *context, void *pointer, size_t size) {
  kp_allocator allocator = kp_default_allocator();
  if (pointer != context) allocator.release(NULL, pointer, size);
}

static void run_program(kp_session *session, size_t program) {
  const kp_model *model = kp_session_model(session);
  kp_program_cost cost;
  if (kp_session_cost(session, program, 1, 1, &cost, NULL) != KP_OK) return;
  size_t count = kp_model_port_count(model, program, KP_INPUT);
  size_t output_count = kp_model_port_count(model, program, KP_OUTPUT);
  if (cost.arena_bytes > MOST_RUN_BYTES || cost.macs > MOST_RUN_MACS || output_count > MOST_OUTPUTS) return;
  kp_tensor *inputs = calloc(count + 1, sizeof *inputs);
  void **zeros = calloc(count + 1, sizeof *zeros);
  bool complete = true;
  for (size_t i = 0; i < count && complete; i++) {
    kp_port port;
    kp_model_port(model, program, KP_INPUT, i, &port, NULL);
    inputs[i] = (kp_tensor){.dtype = port.dtype, .rank = port.rank};
    size_t bytes = kp_dtype_size(port.dtype);
    for (int32_t axis = 0; axis < port.rank; axis++) {
      inputs[i].shape[axis] = port.shape[port.order[axis]].value;
      complete = complete && kp_mul_size(bytes, (size_t)inputs[i].shape[axis], &bytes) && bytes <= MOST_RUN_BYTES;
    }
    if (complete) inputs[i].data = zeros[i] = calloc(bytes + 1, 1);
  }
  kp_tensor outputs[MOST_OUTPUTS];
  if (complete) kp_session_run(session, program, inputs, count, outputs, output_count, NULL, NULL, NULL);
  for (size_t i = 0; i < count; i++) free(zeros[i]);
  free(zeros);
  free(inputs);
}

/* Encodes a picture, where the model is an encoder of small programs. */
static void encode(kp_session *session) {
  const kp_model *model = kp_session_model(session);
  kp_encoder_info info;
  if (kp_model_encoder_info(model, &info, NULL) != KP_OK) return;
  for (size_t program = 0; program < kp_model_program_count(model); program++) {
    kp_program_cost cost;
    if (kp_session_cost(session, program, KP_REGION_COUNT, 4, &cost, NULL) != KP_OK) return;
    if (cost.arena_bytes > MOST_RUN_BYTES || cost.macs > MOST_RUN_MACS) return;
  }
  uint8_t pixels[9 * 5];
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i * 7);
  kp_image image = {.data = pixels, .width = 9, .height = 5, .channels = 1, .bits = 8, .row_bytes = 9};
  kp_encoding encoding;
  kp_encode(session, &image, "a b", 3, NULL, &encoding, NULL, NULL, NULL);
}

/* Opens `size` bytes, aligned to KP_ALIGNMENT, and runs the small programs once, on zeros. Whether they are a model. */
static bool open_and_run(uint8_t *bytes, size_t size) {
  kp_allocator allocator = {.alloc = alloc_memory, .release = release_unless_kept, .context = bytes};
  kp_model_options options = {.allocator = &allocator, .isa = UINT32_MAX};
  kp_model *model;
  if (kp_model_open_bytes(bytes, size, &options, &model, NULL) != KP_OK) return false;
  kp_session *session;
  if (kp_session_create(model, 1, &session, NULL) == KP_OK) {
    for (size_t i = 0; i < kp_model_program_count(model); i++) run_program(session, i);
    encode(session);
    kp_session_close(session);
  }
  int32_t ids[64];
  size_t count;
  static const char text[] =
      "a\xC3\xA9 \xF0\x9F\x98\x80\xFF 12! Hello, caf\xC3\x89 <|endoftext|>! \xE4\xB8\xAD <mask> </s> x";
  kp_model_tokenize(model, text, sizeof text - 1, ids, 64, &count, NULL);
  kp_model_close(model);
  return true;
}

#ifdef KP_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  kp_allocator allocator = kp_default_allocator();
  uint8_t *bytes = kp_alloc(&allocator, size);
  if (bytes == NULL) return 0;
  memcpy(bytes, data, size);
  open_and_run(bytes, size);
  kp_free(&allocator, bytes, size, 1);
  return 0;
}

#else

/* ---- Cuts and changes ---- */

#define CHANGED_BYTES ((size_t)64 << 10)
#define LATER_CUTS ((size_t)2048) /* how many cuts beyond that, evenly spaced */
#define POISONED_BYTES ((size_t)64 << 10)

static bool opens_when_cut(uint8_t *bytes, size_t size, size_t cut) {
  size_t poisoned = size - cut < POISONED_BYTES ? size - cut : POISONED_BYTES;
  ASAN_POISON_MEMORY_REGION(bytes + cut, poisoned);
  bool opened = open_and_run(bytes, cut);
  ASAN_UNPOISON_MEMORY_REGION(bytes + cut, poisoned);
  return opened;
}

static size_t cut_file(uint8_t *bytes, size_t size, size_t *opened) {
  size_t cuts = 0, step = size > CHANGED_BYTES ? (size - CHANGED_BYTES) / LATER_CUTS + 1 : 1;
  for (size_t cut = 0; cut < size; cut += cut < CHANGED_BYTES ? 1 : step) {
    *opened += opens_when_cut(bytes, size, cut);
    cuts++;
  }
  return cuts;
}

/* A change of the lowest bit gives neighbours, of the highest large numbers and broken text, of all the opposite. */
static size_t change_bytes(uint8_t *bytes, size_t size, size_t *opened) {
  static const uint8_t changes[] = {0x01, 0x80, 0xFF};
  size_t end = size < CHANGED_BYTES ? size : CHANGED_BYTES;
  for (size_t i = 0; i < end; i++) {
    uint8_t original = bytes[i];
    bytes[i] = original ^ changes[i % sizeof changes];
    *opened += open_and_run(bytes, size);
    bytes[i] = original;
  }
  return end;
}

/* Where the tensors' data starts, or the file's end. */
static size_t metadata_end(uint8_t *bytes, size_t size) {
  kp_allocator allocator = kp_default_allocator();
  kp_arena arena;
  kp_arena_init(&arena, &allocator);
  kp_gguf gguf;
  size_t end = size;
  if (kp_gguf_parse(bytes, size, &arena, &gguf, NULL) == KP_OK) {
    for (size_t i = 0; i < gguf.tensor_count; i++) {
      size_t start = (size_t)((const uint8_t *)gguf.tensors[i].data - bytes);
      if (start < end) end = start;
    }
  }
  kp_arena_release(&arena);
  return end;
}

/* Digits stand in shapes, value indices and attributes: with others in their place the file stays well-formed, and the
 * operators' rules have to find what is wrong. */
static size_t change_digits(uint8_t *bytes, size_t size, size_t *opened) {
  enum { ROUNDS = 20000, MOST_CHANGES = 4 };
  size_t end = metadata_end(bytes, size), digit_count = 0;
  size_t *digits = calloc(end, sizeof *digits);
  for (size_t i = 0; i < end; i++) {
    if (bytes[i] >= '0' && bytes[i] <= '9') digits[digit_count++] = i;
  }
  uint32_t random = 1;
  for (size_t round = 0; round < ROUNDS && digit_count > 0; round++) {
    size_t places[MOST_CHANGES], changes = 1 + round % MOST_CHANGES;
    uint8_t originals[MOST_CHANGES];
    for (size_t i = 0; i < changes; i++) {
      random = random * 1664525u + 1013904223u; /* Knuth's linear congruential generator */
      places[i] = digits[(random >> 8) % digit_count];
      originals[i] = bytes[places[i]];
      bytes[places[i]] = (uint8_t)('0' + (random >> 4) % 10);
    }
    *opened += open_and_run(bytes, size);
    for (size_t i = changes; i-- > 0;) bytes[places[i]] = originals[i];
  }
  free(digits);
  return ROUNDS;
}

static uint8_t *read_whole(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  kp_allocator allocator = kp_default_allocator();
  uint8_t *bytes = kp_alloc(&allocator, *size);
  if (bytes != NULL && fread(bytes, 1, *size, file) != *size) {
    kp_free(&allocator, bytes, *size, 1);
    bytes = NULL;
  }
  fclose(file);
  return bytes;
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "usage: %s FILE\n", arguments[0]);
    return 2;
  }
  size_t size;
  uint8_t *bytes = read_whole(arguments[1], &size);
  if (bytes == NULL || !open_and_run(bytes, size)) {
    fprintf(stderr, "%s: cannot be read, or is not a model\n", arguments[1]);
    return 1;
  }
  size_t cut_opened = 0, change_opened = 0, digit_opened = 0;
  size_t cuts = cut_file(bytes, size, &cut_opened);
  printf("%zu cuts, of which %zu open\n", cuts, cut_opened);
  size_t changes = change_bytes(bytes, size, &change_opened);
  printf("%zu changes, of which %zu open\n", changes, change_opened);
  size_t digits = change_digits(bytes, size, &digit_opened);
  printf("%zu changes of digits, of which %zu open\n", digits, digit_opened);
  kp_allocator allocator = kp_default_allocator();
  kp_free(&allocator, bytes, size, 1);
  return 0;
}

#endif

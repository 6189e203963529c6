#include "runtime/model.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fpenv.h"
#include "model/prepare.h"

#define FORMAT_VERSION 1u
#define MOST_PROGRAMS 64

/* ---- Parsing ---- */

/* *exact: an int8 model. */
static kp_status check_header(const kp_gguf *gguf, bool *exact, kp_error *error) {
  const char *architecture, *precision;
  uint32_t version = 0;
  KP_TRY(kp_gguf_string(gguf, "general.architecture", &architecture, error));
  if (strcmp(architecture, "keypilot") != 0) {
    return kp_fail(error, KP_ERROR_MODEL, "general.architecture: expected 'keypilot', got '%s'", architecture);
  }
  KP_TRY(kp_gguf_u32(gguf, "keypilot.format_version", &version, error));
  if (version != FORMAT_VERSION) {
    return kp_fail(error, KP_ERROR_VERSION, "the file has format version %u; this library reads version %u", version,
                   FORMAT_VERSION);
  }
  KP_TRY(kp_gguf_string(gguf, "keypilot.precision", &precision, error));
  *exact = strcmp(precision, "int8") == 0;
  if (!*exact && strcmp(precision, "fp32") != 0) {
    return kp_fail(error, KP_ERROR_UNSUPPORTED, "keypilot.precision: expected 'fp32' or 'int8', got '%s'", precision);
  }
  return KP_OK;
}

static kp_status parse_programs(kp_model *model, kp_error *error) {
  const kp_string *names;
  size_t count;
  KP_TRY(kp_gguf_strings(&model->gguf, "keypilot.programs", &names, &count, error));
  if (count > MOST_PROGRAMS) {
    return kp_fail(error, KP_ERROR_MODEL, "keypilot.programs: expected at most %d, got %zu", MOST_PROGRAMS, count);
  }
  model->programs = kp_arena_calloc(&model->arena, count, sizeof *model->programs);
  if (model->programs == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for %zu programs", count);
  for (size_t i = 0; i < count; i++) {
    for (size_t j = 0; j < i; j++) {
      if (strcmp(names[i].data, names[j].data) == 0) {
        return kp_fail(error, KP_ERROR_MODEL, "keypilot.programs: '%s' appears twice", names[i].data);
      }
    }
    KP_TRY(kp_program_parse(&model->gguf, names[i].data, model->exact, &model->arena, &model->programs[i], error));
    model->program_count++;
  }
  return kp_programs_prepare(model->programs, count, &model->kernels, &model->arena, error);
}

static kp_status parse_model(kp_model *model, kp_error *error) {
  KP_TRY(kp_gguf_parse(model->bytes, model->size, &model->arena, &model->gguf, error));
  KP_TRY(check_header(&model->gguf, &model->exact, error));
  KP_TRY(parse_programs(model, error));
  return kp_tokenizer_read(&model->gguf, &model->arena, &model->tokenizer, error);
}

/* ---- Opening and closing ---- */

kp_status kp_model_open_bytes(uint8_t *bytes, size_t size, const kp_model_options *options, kp_model **model,
                              kp_error *error) {
  kp_allocator allocator = kp_options_allocator(options);
  kp_model *opened = kp_calloc(&allocator, 1, sizeof *opened);
  if (opened == NULL) {
    kp_free(&allocator, bytes, size, 1);
    return kp_fail(error, KP_ERROR_MEMORY, "no memory for a model");
  }
  opened->allocator = allocator;
  opened->bytes = bytes;
  opened->size = size;
  opened->isa = kp_cpu_isa();
  if (options != NULL) opened->isa &= options->isa;
  kp_arena_init(&opened->arena, &allocator);
  kp_kernels_init(&opened->kernels, opened->isa);
  kp_fpenv saved = kp_fpenv_enter();
  kp_status status = parse_model(opened, error);
  kp_fpenv_leave(saved);
  if (status != KP_OK) {
    kp_model_close(opened);
    return status;
  }
  *model = opened;
  return KP_OK;
}

static kp_status no_memory_for_file(size_t size, kp_error *error) {
  return kp_fail(error, KP_ERROR_MEMORY, "no memory for a model file of %zu bytes", size);
}

kp_status kp_model_open_memory(const void *data, size_t size, const kp_model_options *options, kp_model **model,
                               kp_error *error) {
  if (data == NULL || model == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "data, model: expected a pointer, got NULL");
  }
  kp_allocator allocator = kp_options_allocator(options);
  uint8_t *bytes = kp_alloc(&allocator, size);
  if (bytes == NULL) return no_memory_for_file(size, error);
  memcpy(bytes, data, size);
  return kp_model_open_bytes(bytes, size, options, model, error);
}

/* `size` bytes from the start of the file. */
static kp_status read_file(int file, uint8_t *bytes, size_t size, kp_error *error) {
  for (size_t done = 0; done < size;) {
    ssize_t count = read(file, bytes + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return kp_fail(error, KP_ERROR_IO, "reading failed at byte %zu: %s", done, strerror(errno));
    if (count == 0) return kp_fail(error, KP_ERROR_IO, "the file ended at byte %zu of %zu", done, size);
    done += (size_t)count;
  }
  return KP_OK;
}

static kp_status load_file(int file, const kp_allocator *allocator, uint8_t **bytes, size_t *size, kp_error *error) {
  struct stat info;
  if (fstat(file, &info) != 0) return kp_fail(error, KP_ERROR_IO, "%s", strerror(errno));
  if (!S_ISREG(info.st_mode)) return kp_fail(error, KP_ERROR_IO, "not a regular file");
  if ((uintmax_t)info.st_size > SIZE_MAX) return no_memory_for_file(SIZE_MAX, error);
  *size = (size_t)info.st_size;
  *bytes = kp_alloc(allocator, *size);
  if (*bytes == NULL) return no_memory_for_file(*size, error);
  kp_status status = read_file(file, *bytes, *size, error);
  if (status != KP_OK) kp_free(allocator, *bytes, *size, 1);
  return status;
}

kp_status kp_model_open(const char *path, const kp_model_options *options, kp_model **model, kp_error *error) {
  if (path == NULL || model == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "path, model: expected a pointer, got NULL");
  }
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe is refused below, not waited for */
  if (file < 0) return kp_fail(error, KP_ERROR_IO, "%s: %s", path, strerror(errno));
  kp_allocator allocator = kp_options_allocator(options);
  uint8_t *bytes = NULL;
  size_t size = 0;
  kp_status status = load_file(file, &allocator, &bytes, &size, error);
  close(file);
  if (status == KP_OK) status = kp_model_open_bytes(bytes, size, options, model, error);
  return status == KP_OK ? KP_OK : kp_fail_in(error, status, "%s", path);
}

void kp_model_close(kp_model *model) {
  if (model == NULL) return;
  kp_allocator allocator = model->allocator;
  kp_arena_release(&model->arena);
  kp_free(&allocator, model->bytes, model->size, 1);
  kp_free(&allocator, model, 1, sizeof *model);
}

/* ---- What is inside ---- */

uint32_t kp_model_isa(const kp_model *model) { return model->isa; }

size_t kp_model_file_bytes(const kp_model *model) { return model->size; }

const char *kp_model_metadata(const kp_model *model, const char *key) {
  const kp_gguf_value *value = kp_gguf_find(&model->gguf, key);
  return value != NULL && !value->is_array && value->type == KP_GGUF_STRING ? value->strings[0].data : NULL;
}

size_t kp_model_weight_count(const kp_model *model) { return model->gguf.tensor_count; }

kp_status kp_model_weight(const kp_model *model, size_t index, kp_weight *weight, kp_error *error) {
  if (index >= model->gguf.tensor_count) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "weight index: expected less than %zu, got %zu", model->gguf.tensor_count,
                   index);
  }
  const kp_gguf_tensor *tensor = &model->gguf.tensors[index];
  *weight = (kp_weight){.name = tensor->name.data, .bytes = tensor->bytes};
  weight->tensor.dtype = tensor->dtype;
  weight->tensor.rank = tensor->rank;
  memcpy(weight->tensor.shape, tensor->shape, sizeof weight->tensor.shape);
  weight->tensor.data = (void *)(uintptr_t)tensor->data;
  return KP_OK;
}

size_t kp_model_program_count(const kp_model *model) { return model->program_count; }

const char *kp_model_program_name(const kp_model *model, size_t program) {
  return program < model->program_count ? model->programs[program].name : NULL;
}

int kp_model_find_program(const kp_model *model, const char *name) {
  for (size_t i = 0; i < model->program_count; i++) {
    if (strcmp(model->programs[i].name, name) == 0) return (int)i;
  }
  return -1;
}

static bool is_port_kind(kp_port_kind kind) { return kind == KP_INPUT || kind == KP_OUTPUT || kind == KP_TAP; }

size_t kp_model_port_count(const kp_model *model, size_t program, kp_port_kind kind) {
  return program < model->program_count && is_port_kind(kind) ? model->programs[program].port_count[kind] : 0;
}

kp_status kp_model_port(const kp_model *model, size_t program, kp_port_kind kind, size_t index, kp_port *port,
                        kp_error *error) {
  size_t count = kp_model_port_count(model, program, kind);
  if (index >= count) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "port index: program %zu has %zu ports of kind %d, got index %zu", program,
                   count, (int)kind, index);
  }
  *port = model->programs[program].ports[kind][index].port;
  return KP_OK;
}

kp_status kp_model_tokenize(const kp_model *model, const char *text, size_t size, int32_t *ids, size_t capacity,
                            size_t *count, kp_error *error) {
  if (model->tokenizer == NULL) return kp_fail(error, KP_ERROR_UNSUPPORTED, "the model has no tokenizer");
  if ((text == NULL && size > 0) || (ids == NULL && capacity > 0) || count == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "text, ids, count: expected a pointer, got NULL");
  }
  return kp_tokenizer_encode(model->tokenizer, &model->allocator, text != NULL ? text : "", size, ids, capacity, count,
                             error);
}

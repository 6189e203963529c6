#include "runtime/digest.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "runtime/model.h"

/* ---- Text ---- */

/* Collects text, so that `write` is not called for every word. */
typedef struct writer {
  const kp_digest *digest;
  bool stopped; /* `write` returned false */
  size_t used;
  char text[512];
} writer;

static void flush(writer *w) {
  if (w->used > 0 && !w->stopped) w->stopped = !w->digest->write(w->digest->context, w->text, w->used);
  w->used = 0;
}

static void put_byte(writer *w, char byte) {
  if (w->used == sizeof w->text) flush(w);
  w->text[w->used++] = byte;
}

static void put_text(writer *w, const char *text) {
  while (*text != '\0') put_byte(w, *text++);
}

/* A name as one word of ASCII: every other byte, and those that have a meaning in a digest, as %XX. */
static void put_name(writer *w, const char *name) {
  static const char digits[] = "0123456789ABCDEF";
  for (; *name != '\0'; name++) {
    unsigned char byte = (unsigned char)*name;
    if (byte > ' ' && byte < 0x7F && byte != '%' && byte != ',') {
      put_byte(w, *name);
    } else {
      put_byte(w, '%');
      put_byte(w, digits[byte >> 4]);
      put_byte(w, digits[byte & 15]);
    }
  }
}

static void put_size(writer *w, uint64_t number) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, number);
  put_text(w, text);
}

static void put_hash(writer *w, const void *data, size_t size) {
  char text[24];
  snprintf(text, sizeof text, " %016" PRIx64, kp_hash64(data, size, 0));
  put_text(w, text);
}

static kp_status finish(writer *w, kp_error *error) {
  flush(w);
  return w->stopped ? kp_fail(error, KP_ERROR_CANCELLED, "digest: stopped by its writer") : KP_OK;
}

/* ---- Sections ---- */

kp_status kp_digest_begin(kp_digest *digest, kp_error *error, const char *format, ...) {
  if (digest->write == NULL) return KP_OK;
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  digest->count = 0;
  writer w = {.digest = digest};
  put_byte(&w, '\n');
  put_text(&w, line);
  put_byte(&w, '\n');
  return finish(&w, error);
}

kp_status kp_digest_end(kp_digest *digest, kp_error *error) {
  if (digest->write == NULL) return KP_OK;
  writer w = {.digest = digest};
  put_text(&w, "end ");
  put_size(&w, digest->count);
  put_byte(&w, '\n');
  return finish(&w, error);
}

/* ---- Tensors ---- */

/* "12 screen stem conv2d i8 1x128x128x16 " */
static void start_line(writer *w, kp_digest *digest, const char *program, const char *name, const char *op,
                       const kp_tensor *tensor) {
  put_size(w, digest->count++);
  put_byte(w, ' ');
  put_text(w, program);
  put_byte(w, ' ');
  put_name(w, name);
  put_byte(w, ' ');
  put_text(w, op);
  put_byte(w, ' ');
  put_text(w, kp_dtype_name(tensor->dtype));
  put_byte(w, ' ');
  for (int32_t i = 0; i < tensor->rank; i++) {
    if (i > 0) put_byte(w, 'x');
    put_size(w, (uint64_t)tensor->shape[i]);
  }
  put_text(w, tensor->rank == 0 ? "scalar " : " ");
}

static kp_status end_line(writer *w, const kp_tensor *tensor, size_t items, kp_error *error) {
  size_t size = kp_dtype_size(tensor->dtype);
  for (int32_t i = 0; i < tensor->rank; i++) size *= (size_t)tensor->shape[i];
  const uint8_t *data = tensor->data;
  for (size_t i = 0; i < items; i++) put_hash(w, data + i * size, size);
  put_byte(w, '\n');
  return finish(w, error);
}

kp_status kp_digest_tensor(kp_digest *digest, const char *program, const char *name, const char *op, const char *inputs,
                           const kp_tensor *tensor, size_t items, kp_error *error) {
  if (digest->write == NULL) return KP_OK;
  writer w = {.digest = digest};
  start_line(&w, digest, program, name, op, tensor);
  put_text(&w, inputs);
  return end_line(&w, tensor, items, error);
}

/* A value's tensor. Where its first dimension, and no other, is a multiple of the batch, that of one of *items pictures
 * or texts, which lie one after the other. */
static kp_tensor item_of(const kp_plan *plan, int32_t value, const void *data, size_t *items) {
  const kp_value *found = &plan->program->values[value];
  const kp_shape *shape = &plan->shapes[value];
  kp_tensor tensor = {.dtype = found->dtype, .rank = shape->rank, .data = (void *)(uintptr_t)data};
  memcpy(tensor.shape, shape->dim, sizeof tensor.shape);
  bool splits = found->rank > 0 && found->shape[0].n;
  for (int32_t i = 1; i < found->rank; i++) splits = splits && !found->shape[i].n;
  *items = splits ? (size_t)plan->n : 1;
  if (splits) tensor.shape[0] /= plan->n;
  return tensor;
}

kp_status kp_digest_inputs(kp_digest *digest, const kp_plan *plan, void *const *data, kp_error *error) {
  if (digest->write == NULL) return KP_OK;
  const kp_program *program = plan->program;
  for (size_t i = 0; i < program->port_count[KP_INPUT]; i++) {
    int32_t value = program->ports[KP_INPUT][i].value;
    size_t items;
    kp_tensor tensor = item_of(plan, value, data[value], &items);
    KP_TRY(kp_digest_tensor(digest, program->name, program->values[value].name, "input", "-", &tensor, items, error));
  }
  return KP_OK;
}

/* The name of the value whose memory `value` is. */
static const char *source_name(const kp_plan *plan, int32_t value) {
  return plan->program->values[plan->storage[value]].name;
}

kp_status kp_digest_output(kp_digest *digest, const kp_plan *plan, const kp_node *node, const void *data,
                           kp_error *error) {
  if (digest->write == NULL || node->op->run == NULL) return KP_OK;
  const kp_program *program = plan->program;
  size_t items;
  kp_tensor tensor = item_of(plan, node->output, data, &items);
  writer w = {.digest = digest};
  start_line(&w, digest, program->name, program->values[node->output].name, node->op->name, &tensor);
  const char *separator = "";
  for (size_t i = 0; i < node->input_count; i++) {
    if (node->inputs[i] < 0) continue;
    put_text(&w, separator);
    put_name(&w, source_name(plan, node->inputs[i]));
    separator = ",";
  }
  return end_line(&w, &tensor, items, error);
}

kp_status kp_digest_outputs(kp_digest *digest, const kp_plan *plan, void *const *data, kp_error *error) {
  if (digest->write == NULL) return KP_OK;
  const kp_program *program = plan->program;
  for (size_t i = 0; i < program->port_count[KP_OUTPUT]; i++) {
    const kp_program_port *port = &program->ports[KP_OUTPUT][i];
    size_t items;
    kp_tensor tensor = item_of(plan, port->value, data[port->value], &items);
    writer w = {.digest = digest};
    start_line(&w, digest, program->name, port->port.name, "output", &tensor);
    put_name(&w, source_name(plan, port->value));
    KP_TRY(end_line(&w, &tensor, items, error));
  }
  return KP_OK;
}

/* ---- The public call ---- */

static kp_status write_header(kp_session *session, kp_error *error) {
  const kp_model *model = kp_session_model(session);
  const char *name = kp_model_metadata(model, "general.name");
  const char *precision = kp_model_metadata(model, "keypilot.precision");
  writer w = {.digest = kp_session_digest(session)};
  put_text(&w, "keypilot-digest 1\nversion ");
  put_text(&w, kp_version());
  put_text(&w, "\nisa ");
  put_text(&w, kp_isa_name(kp_model_isa(model)));
  put_text(&w, "\nthreads ");
  put_size(&w, (uint64_t)kp_session_threads(session));
  put_text(&w, "\nmodel ");
  put_name(&w, name != NULL && name[0] != '\0' ? name : "unnamed");
  put_text(&w, "\nprecision ");
  put_name(&w, precision != NULL ? precision : "unknown");
  put_text(&w, "\nfile ");
  put_size(&w, model->size);
  put_hash(&w, model->bytes, model->size);
  put_byte(&w, '\n');
  return finish(&w, error);
}

kp_status kp_session_write_digest(kp_session *session, kp_write_fn write, void *context, kp_error *error) {
  if (session == NULL) return kp_fail(error, KP_ERROR_ARGUMENT, "session: expected a pointer, got NULL");
  kp_digest *digest = kp_session_digest(session);
  *digest = (kp_digest){.write = write, .context = context};
  if (write == NULL) return KP_OK;
  kp_status status = write_header(session, error);
  if (status != KP_OK) digest->write = NULL;
  return status;
}

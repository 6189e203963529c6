#include "model/prepare.h"

#include "model/infer.h"
#include "ops/quantized.h"

/* A weight as an operator packed it: what that depends on, and the result. */
typedef struct packing {
  const kp_gguf_tensor *weight;
  const kp_op *op;
  kp_shape shape;   /* that the weight has: nibbles may have several */
  int64_t channels; /* of the operator's input 0, which with the weight's shape give its groups */
  void *packed;
} packing;

typedef struct preparation {
  const kp_kernels *kernels;
  kp_arena *arena;    /* of the model */
  kp_arena temporary; /* of the preparation */
  packing *packings;
  size_t packing_count;
  kp_error *error;
} preparation;

static kp_status no_memory(const preparation *p, size_t size) {
  return kp_fail(p->error, KP_ERROR_MEMORY, "no memory for %zu bytes of packed weights", size);
}

/* `size` zeroed bytes aligned to KP_ALIGNMENT; an arena's are to less. */
static void *allocate(const preparation *p, size_t size) {
  char *memory = kp_arena_calloc(p->arena, 1, size + KP_ALIGNMENT);
  if (memory == NULL) {
    no_memory(p, size);
    return NULL;
  }
  return memory + (KP_ALIGNMENT - (uintptr_t)memory % KP_ALIGNMENT) % KP_ALIGNMENT;
}

/* ---- Weights in four bits ---- */

static void unpack_row(const int8_t *nibbles, const int8_t *multipliers, size_t columns, int8_t *row) {
  for (size_t first = 0; first < columns; first += KP_NIBBLE_GROUP) {
    size_t end = columns - first < KP_NIBBLE_GROUP ? columns : first + KP_NIBBLE_GROUP;
    int multiplier = multipliers[first / KP_NIBBLE_GROUP];
    for (size_t i = first; i < end; i++) row[i] = (int8_t)(kp_nibble(nibbles, i) * multiplier);
  }
}

static kp_status unpack(preparation *p, const kp_value *value, int8_t **data) {
  size_t rows = (size_t)value->shape[0].value, columns = 1;
  for (int32_t i = 1; i < value->rank; i++) columns *= (size_t)value->shape[i].value;
  *data = kp_arena_calloc(&p->temporary, rows, columns);
  if (*data == NULL) return no_memory(p, rows * columns);
  const int8_t *nibbles = value->weight->data, *multipliers = value->multiplier->data;
  size_t row_nibbles = (size_t)value->weight->shape[1], row_multipliers = (size_t)value->multiplier->shape[1];
  for (size_t row = 0; row < rows; row++) {
    unpack_row(nibbles + row * row_nibbles, multipliers + row * row_multipliers, columns, *data + row * columns);
  }
  return KP_OK;
}

/* ---- Packing ---- */

static packing *find_packing(const preparation *p, const packing *wanted) {
  for (size_t i = 0; i < p->packing_count; i++) {
    packing *known = &p->packings[i];
    if (known->weight == wanted->weight && known->op == wanted->op && known->channels == wanted->channels &&
        kp_shape_equal(&known->shape, &wanted->shape)) {
      return known;
    }
  }
  return NULL;
}

#define WEIGHT 1 /* the input that `pack` takes */

static kp_status pack(preparation *p, const kp_program *program, kp_node *node, kp_op_call *call) {
  const kp_op *op = node->op;
  size_t bytes = op->pack_bytes(call);
  if (bytes == 0) return KP_OK;
  const kp_value *value = &program->values[node->inputs[WEIGHT]];
  if (value->weight == NULL) return KP_OK;
  packing wanted = {.weight = value->weight,
                    .op = op,
                    .shape = call->inputs[WEIGHT].shape,
                    .channels = (int64_t)kp_last_dim(&call->inputs[0])};
  packing *known = find_packing(p, &wanted);
  if (known == NULL) {
    int8_t *unpacked = NULL;
    if (value->multiplier != NULL) {
      KP_TRY(unpack(p, value, &unpacked));
      call->inputs[WEIGHT].data = unpacked;
    }
    wanted.packed = allocate(p, bytes);
    if (wanted.packed == NULL) return KP_ERROR_MEMORY;
    known = &p->packings[p->packing_count++];
    *known = wanted;
    op->pack(call, known->packed);
    kp_arena_release(&p->temporary);
  }
  node->packed = known->packed;
  return KP_OK;
}

static kp_status prepare_node(preparation *p, kp_program *program, size_t index, const kp_shape *shapes, int64_t n,
                              int64_t t) {
  kp_node *node = &program->nodes[index];
  if (node->op->pack_bytes == NULL && node->op->constants_bytes == NULL) return KP_OK;
  kp_attribute attributes[KP_MAX_OP_ATTRIBUTES];
  kp_op_call call;
  KP_TRY(kp_node_infer(program, index, shapes, n, t, 1, NULL, attributes, &call, p->error));
  call.kernels = p->kernels;
  for (size_t i = 0; i < node->input_count; i++) {
    const kp_gguf_tensor *weight = node->inputs[i] >= 0 ? program->values[node->inputs[i]].weight : NULL;
    if (weight != NULL) call.inputs[i].data = (void *)(uintptr_t)weight->data;
  }
  if (node->op->pack_bytes != NULL) KP_TRY(pack(p, program, node, &call));
  call.packed = node->packed;
  size_t bytes = node->op->constants_bytes != NULL ? node->op->constants_bytes(&call) : 0;
  if (bytes == 0) return KP_OK;
  void *constants = allocate(p, bytes);
  if (constants == NULL) return KP_ERROR_MEMORY;
  node->op->set_constants(&call, constants);
  node->constants = constants;
  return KP_OK;
}

static kp_status prepare_program(preparation *p, kp_program *program) {
  int64_t n = 2, t = 3; /* where the program holds at these sizes; see kp_program_parse */
  kp_status holds = kp_program_infer(program, n, t, &p->arena->allocator, NULL);
  if (holds == KP_ERROR_MEMORY) return no_memory(p, program->value_count * sizeof(kp_shape));
  if (holds != KP_OK) n = t = 1;
  kp_arena own;
  kp_arena_init(&own, &p->arena->allocator);
  kp_shape *shapes = kp_arena_calloc(&own, program->value_count, sizeof *shapes);
  kp_status status = shapes != NULL ? KP_OK : no_memory(p, program->value_count * sizeof *shapes);
  if (status == KP_OK) status = kp_program_shapes(program, n, t, shapes, p->error);
  for (size_t i = 0; i < program->node_count && status == KP_OK; i++) {
    status = prepare_node(p, program, i, shapes, n, t);
  }
  kp_arena_release(&own);
  return status == KP_OK ? KP_OK : kp_fail_in(p->error, status, "program '%s'", program->name);
}

kp_status kp_programs_prepare(kp_program *programs, size_t count, const kp_kernels *kernels, kp_arena *arena,
                              kp_error *error) {
  preparation p = {.kernels = kernels, .arena = arena, .error = error};
  kp_arena_init(&p.temporary, &arena->allocator);
  size_t nodes = 0;
  for (size_t i = 0; i < count; i++) nodes += programs[i].node_count;
  kp_arena list;
  kp_arena_init(&list, &arena->allocator);
  p.packings = kp_arena_calloc(&list, nodes, sizeof *p.packings);
  kp_status status = p.packings != NULL ? KP_OK : no_memory(&p, nodes * sizeof *p.packings);
  for (size_t i = 0; i < count && status == KP_OK; i++) status = prepare_program(&p, &programs[i]);
  kp_arena_release(&list);
  kp_arena_release(&p.temporary);
  return status;
}

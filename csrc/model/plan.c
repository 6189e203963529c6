#include "model/plan.h"

#include <string.h>

#include "base/sort.h"
#include "model/infer.h"

/* Bytes of the arena that are in use from step `first` to step `last`, both included. */
typedef struct buffer {
  size_t bytes; /* a multiple of KP_ALIGNMENT */
  size_t first, last;
  size_t offset;
} buffer;

#define NO_BUFFER UINT32_MAX

typedef struct planner {
  kp_plan *plan;
  const kp_program *program;
  kp_arena arena;           /* temporary tables */
  size_t *scratch;          /* by step: bytes */
  size_t *last_use;         /* by value that owns memory: the last step that needs it */
  uint32_t *buffer_of;      /* by value that owns memory, or NO_BUFFER: an input or a weight */
  uint32_t *scratch_buffer; /* by step, or NO_BUFFER */
  buffer *buffers;          /* at most two a step: output and scratch */
  size_t buffer_count;
  kp_error *error;
} planner;

static void *allocate(const planner *p, kp_arena *arena, size_t count, size_t size) {
  void *pointer = kp_arena_calloc(arena, count, size);
  if (pointer == NULL) kp_fail(p->error, KP_ERROR_MEMORY, "no memory for a plan of program '%s'", p->program->name);
  return pointer;
}

static kp_status make_tables(planner *p) {
  kp_plan *plan = p->plan;
  size_t values = p->program->value_count, nodes = p->program->node_count;
  plan->steps = allocate(p, &plan->arena, nodes, sizeof *plan->steps);
  plan->shapes = allocate(p, &plan->arena, values, sizeof *plan->shapes);
  plan->offsets = allocate(p, &plan->arena, values, sizeof *plan->offsets);
  plan->storage = allocate(p, &plan->arena, values, sizeof *plan->storage);
  p->scratch = allocate(p, &p->arena, nodes, sizeof *p->scratch);
  p->last_use = allocate(p, &p->arena, values, sizeof *p->last_use);
  p->buffer_of = allocate(p, &p->arena, values, sizeof *p->buffer_of);
  p->scratch_buffer = allocate(p, &p->arena, nodes, sizeof *p->scratch_buffer);
  p->buffers = allocate(p, &p->arena, 2 * nodes, sizeof *p->buffers);
  bool complete = plan->steps != NULL && plan->shapes != NULL && plan->offsets != NULL && plan->storage != NULL &&
                  p->scratch != NULL && p->last_use != NULL && p->buffer_of != NULL && p->scratch_buffer != NULL &&
                  p->buffers != NULL;
  return complete ? KP_OK : KP_ERROR_MEMORY;
}

/* The size was checked with the shape. */
static size_t value_bytes(const planner *p, int32_t value) {
  return (size_t)kp_shape_elements(&p->plan->shapes[value]) * kp_dtype_size(p->program->values[value].dtype);
}

/* ---- Steps ---- */

static kp_status check_alias(const planner *p, const kp_node *node) {
  if (node->input_count < 1 || node->inputs[0] < 0 || value_bytes(p, node->inputs[0]) != value_bytes(p, node->output)) {
    return kp_fail(p->error, KP_ERROR_SHAPE, "%s '%s': the alias and its input differ in size", node->op->name,
                   p->program->values[node->output].name);
  }
  return KP_OK;
}

static kp_status plan_step(planner *p, size_t index, int threads, const kp_blas *blas) {
  kp_plan *plan = p->plan;
  const kp_node *node = &p->program->nodes[index];
  kp_step *step = &plan->steps[index];
  kp_attribute *attributes = allocate(p, &plan->arena, node->op->attribute_count, sizeof *attributes);
  if (attributes == NULL) return KP_ERROR_MEMORY;
  step->node = node;
  KP_TRY(kp_node_infer(p->program, index, plan->shapes, plan->n, plan->t, threads, blas, attributes, &step->call,
                       p->error));
  if (node->op->run == NULL) {
    KP_TRY(check_alias(p, node));
    plan->storage[node->output] = plan->storage[node->inputs[0]];
    return KP_OK;
  }
  if (node->op->macs != NULL) step->macs = node->op->macs(&step->call);
  if (node->op->scratch != NULL) p->scratch[index] = node->op->scratch(&step->call);
  plan->macs += step->macs;
  return KP_OK;
}

/* ---- Liveness ---- */

static void find_last_uses(planner *p) {
  const kp_program *program = p->program;
  const int32_t *storage = p->plan->storage;
  for (size_t s = 0; s < program->node_count; s++) {
    const kp_node *node = &program->nodes[s];
    p->last_use[storage[node->output]] = s;
    for (size_t i = 0; i < node->input_count; i++) {
      if (node->inputs[i] >= 0) p->last_use[storage[node->inputs[i]]] = s;
    }
  }
  for (size_t i = 0; i < program->port_count[KP_OUTPUT]; i++) {
    p->last_use[storage[program->ports[KP_OUTPUT][i].value]] = program->node_count;
  }
}

static kp_status add_buffer(planner *p, size_t bytes, size_t first, size_t last, uint32_t *index) {
  size_t rounded;
  if (!kp_add_size(bytes, KP_ALIGNMENT - 1, &rounded) || rounded > KP_MAX_RUN_BYTES) {
    return kp_fail(p->error, KP_ERROR_SHAPE, "%zu bytes for one buffer exceed %llu", bytes,
                   (unsigned long long)KP_MAX_RUN_BYTES);
  }
  *index = (uint32_t)p->buffer_count++;
  p->buffers[*index] = (buffer){.bytes = rounded / KP_ALIGNMENT * KP_ALIGNMENT, .first = first, .last = last};
  return KP_OK;
}

/* Whether the output of step `s` may take over the memory of its input `input`: the operator allows it, nobody needs
 * the input afterwards, and no other input of the step lies in the same memory. */
static bool may_take_over(const planner *p, size_t s, size_t input) {
  const kp_node *node = &p->program->nodes[s];
  const int32_t *storage = p->plan->storage;
  if ((node->op->in_place >> input & 1) == 0 || node->inputs[input] < 0) return false;
  int32_t owner = storage[node->inputs[input]];
  if (p->buffer_of[owner] == NO_BUFFER || p->last_use[owner] != s) return false;
  if (value_bytes(p, owner) != value_bytes(p, node->output)) return false;
  for (size_t i = 0; i < node->input_count; i++) {
    if (i != input && node->inputs[i] >= 0 && storage[node->inputs[i]] == owner) return false;
  }
  return true;
}

static kp_status assign_output(planner *p, size_t s) {
  const kp_node *node = &p->program->nodes[s];
  size_t last = p->last_use[node->output];
  for (size_t i = 0; i < node->input_count; i++) {
    if (!may_take_over(p, s, i)) continue;
    uint32_t taken = p->buffer_of[p->plan->storage[node->inputs[i]]];
    p->buffer_of[node->output] = taken;
    p->buffers[taken].last = last;
    return KP_OK;
  }
  return add_buffer(p, value_bytes(p, node->output), s, last, &p->buffer_of[node->output]);
}

static kp_status assign_buffers(planner *p) {
  for (size_t i = 0; i < p->program->value_count; i++) p->buffer_of[i] = NO_BUFFER;
  for (size_t s = 0; s < p->program->node_count; s++) {
    p->scratch_buffer[s] = NO_BUFFER;
    if (p->program->nodes[s].op->run == NULL) continue;
    KP_TRY(assign_output(p, s));
    if (p->scratch[s] > 0) KP_TRY(add_buffer(p, p->scratch[s], s, s, &p->scratch_buffer[s]));
  }
  return KP_OK;
}

/* ---- Placement ---- */

/* Largest first; equal sizes in order of their first use, so that a plan is always the same. */
static bool placed_before(const void *context, uint32_t a, uint32_t b) {
  const buffer *buffers = context;
  if (buffers[a].bytes != buffers[b].bytes) return buffers[a].bytes > buffers[b].bytes;
  return a < b;
}

static bool live_together(const buffer *a, const buffer *b) { return a->first <= b->last && b->first <= a->last; }

/* The start of the smallest gap that holds `wanted` among the buffers placed so far that are live with it; beyond them
 * all where there is none. `placed` is sorted by offset. */
static size_t best_offset(const buffer *buffers, const uint32_t *placed, size_t count, const buffer *wanted) {
  size_t best = SIZE_MAX, best_gap = SIZE_MAX, end = 0;
  for (size_t i = 0; i < count; i++) {
    const buffer *other = &buffers[placed[i]];
    if (!live_together(other, wanted)) continue;
    if (other->offset > end) {
      size_t gap = other->offset - end;
      if (gap >= wanted->bytes && gap < best_gap) {
        best = end;
        best_gap = gap;
      }
    }
    if (other->offset + other->bytes > end) end = other->offset + other->bytes;
  }
  return best != SIZE_MAX ? best : end;
}

/* Greedy by size (Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference", section 5.2). */
static kp_status place_buffers(planner *p) {
  uint32_t *order = allocate(p, &p->arena, p->buffer_count, sizeof *order);
  uint32_t *placed = allocate(p, &p->arena, p->buffer_count, sizeof *placed);
  if (order == NULL || placed == NULL) return KP_ERROR_MEMORY;
  kp_sort_indices(order, p->buffer_count, placed_before, p->buffers);
  for (size_t i = 0; i < p->buffer_count; i++) {
    buffer *current = &p->buffers[order[i]];
    current->offset = best_offset(p->buffers, placed, i, current);
    size_t end;
    if (!kp_add_size(current->offset, current->bytes, &end) || end > KP_MAX_RUN_BYTES) {
      return kp_fail(p->error, KP_ERROR_SHAPE, "its tensors take more than %llu bytes at N = %lld, T = %lld",
                     (unsigned long long)KP_MAX_RUN_BYTES, (long long)p->plan->n, (long long)p->plan->t);
    }
    if (end > p->plan->run_bytes) p->plan->run_bytes = end;
    size_t at = i;
    while (at > 0 && p->buffers[placed[at - 1]].offset > current->offset) at--;
    memmove(&placed[at + 1], &placed[at], (i - at) * sizeof *placed);
    placed[at] = order[i];
  }
  return KP_OK;
}

static void write_offsets(planner *p) {
  kp_plan *plan = p->plan;
  for (size_t i = 0; i < p->program->value_count; i++) {
    uint32_t index = p->buffer_of[plan->storage[i]];
    plan->offsets[i] = index == NO_BUFFER ? SIZE_MAX : p->buffers[index].offset;
  }
  for (size_t s = 0; s < p->program->node_count; s++) {
    uint32_t index = p->scratch_buffer[s];
    if (index != NO_BUFFER) plan->steps[s].scratch_offset = p->buffers[index].offset;
  }
}

/* ---- The plan ---- */

static kp_status make_plan(planner *p, int threads, const kp_blas *blas) {
  kp_plan *plan = p->plan;
  KP_TRY(make_tables(p));
  KP_TRY(kp_program_shapes(p->program, plan->n, plan->t, plan->shapes, p->error));
  for (size_t i = 0; i < p->program->value_count; i++) plan->storage[i] = (int32_t)i;
  for (size_t s = 0; s < p->program->node_count; s++) KP_TRY(plan_step(p, s, threads, blas));
  find_last_uses(p);
  KP_TRY(assign_buffers(p));
  KP_TRY(place_buffers(p));
  write_offsets(p);
  return KP_OK;
}

static kp_status check_symbol(const char *symbol, int64_t value, kp_error *error) {
  if (value >= 1 && value <= KP_MAX_SYMBOL) return KP_OK;
  return kp_fail(error, KP_ERROR_SHAPE, "%s: expected 1 to %d, got %lld", symbol, KP_MAX_SYMBOL, (long long)value);
}

kp_status kp_plan_create(const kp_program *program, int64_t n, int64_t t, int threads, const kp_blas *blas,
                         const kp_allocator *allocator, kp_plan *plan, kp_error *error) {
  KP_TRY(check_symbol("N", n, error));
  KP_TRY(check_symbol("T", t, error));
  kp_plan made = {.program = program, .n = n, .t = t};
  planner p = {.plan = &made, .program = program, .error = error};
  kp_arena_init(&made.arena, allocator);
  kp_arena_init(&p.arena, allocator);
  kp_status status = make_plan(&p, threads, blas);
  kp_arena_release(&p.arena);
  if (status != KP_OK) {
    kp_plan_release(&made);
    return kp_fail_in(error, status, "program '%s'", program->name);
  }
  *plan = made;
  return KP_OK;
}

void kp_plan_release(kp_plan *plan) { kp_arena_release(&plan->arena); }

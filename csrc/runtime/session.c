#include <string.h>

#include "base/fpenv.h"
#include "base/sort.h"
#include "runtime/digest.h"
#include "runtime/inputs.h"
#include "runtime/model.h"

/* A plan with what a run of it needs, so that the run allocates nothing. */
typedef struct cached_plan {
  kp_plan plan;
  bool valid;
  uint64_t last_used; /* the session's clock */
  void **data;        /* by value: where it lies in the current run */
  uint32_t *taps;     /* the program's taps in execution order */
  size_t first_taps;  /* how many of them are of inputs and weights, which no step computes */
} cached_plan;

struct kp_session {
  kp_allocator allocator;
  const kp_model *model;
  kp_pool *pool;
  kp_blas blas;   /* found where the model is fp32 */
  uint8_t *arena; /* the runs' memory, aligned to KP_ALIGNMENT */
  size_t arena_size;
  cached_plan plans[KP_PLAN_CACHE];
  uint64_t clock;
  kp_digest digest;
  kp_session_extra extra;
};

/* ---- Creating and closing ---- */

kp_status kp_session_create(const kp_model *model, int threads, kp_session **session, kp_error *error) {
  if (model == NULL || session == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "model, session: expected a pointer, got NULL");
  }
  kp_session *created = kp_calloc(&model->allocator, 1, sizeof *created);
  if (created == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for a session");
  created->allocator = model->allocator;
  created->model = model;
  kp_status status = kp_pool_create(&created->allocator, threads, &created->pool, error);
  if (status == KP_OK && !model->exact) status = kp_blas_find(&created->blas, error);
  if (status != KP_OK) {
    kp_session_close(created);
    return status;
  }
  *session = created;
  return KP_OK;
}

void kp_session_close(kp_session *session) {
  if (session == NULL) return;
  kp_allocator allocator = session->allocator;
  if (session->extra.release != NULL) session->extra.release(session->extra.data, &allocator);
  for (size_t i = 0; i < KP_PLAN_CACHE; i++) {
    if (session->plans[i].valid) kp_plan_release(&session->plans[i].plan);
  }
  kp_pool_close(session->pool);
  kp_free(&allocator, session->arena, session->arena_size, 1);
  kp_free(&allocator, session, 1, sizeof *session);
}

int kp_session_threads(const kp_session *session) { return kp_pool_threads(session->pool); }

const kp_model *kp_session_model(const kp_session *session) { return session->model; }

kp_pool *kp_session_pool(kp_session *session) { return session->pool; }

kp_digest *kp_session_digest(kp_session *session) { return &session->digest; }

kp_session_extra *kp_session_extra_of(kp_session *session) { return &session->extra; }

/* ---- Plans ---- */

#define BEFORE_ALL_STEPS (-1)

typedef struct tap_order {
  const int64_t *step_of; /* by value: the step that computes it, or BEFORE_ALL_STEPS */
  const kp_program_port *taps;
} tap_order;

static bool tapped_before(const void *context, uint32_t a, uint32_t b) {
  const tap_order *order = context;
  int64_t step_a = order->step_of[order->taps[a].value], step_b = order->step_of[order->taps[b].value];
  return step_a != step_b ? step_a < step_b : a < b;
}

/* Tables of a cached plan; they come from, and go with, the plan's own arena. */
static kp_status make_run_tables(cached_plan *cached, kp_error *error) {
  kp_plan *plan = &cached->plan;
  const kp_program *program = plan->program;
  cached->data = kp_arena_calloc(&plan->arena, program->value_count, sizeof *cached->data);
  cached->taps = kp_arena_calloc(&plan->arena, program->port_count[KP_TAP], sizeof *cached->taps);
  int64_t *step_of = kp_arena_calloc(&plan->arena, program->value_count, sizeof *step_of);
  if (cached->data == NULL || cached->taps == NULL || step_of == NULL) {
    return kp_fail(error, KP_ERROR_MEMORY, "no memory for a plan of program '%s'", program->name);
  }
  for (size_t i = 0; i < program->value_count; i++) {
    step_of[i] = BEFORE_ALL_STEPS;
    const kp_gguf_tensor *weight = program->values[i].weight;
    if (weight != NULL) cached->data[i] = (void *)(uintptr_t)weight->data;
  }
  for (size_t i = 0; i < program->node_count; i++) step_of[program->nodes[i].output] = (int64_t)i;
  tap_order order = {.step_of = step_of, .taps = program->ports[KP_TAP]};
  kp_sort_indices(cached->taps, program->port_count[KP_TAP], tapped_before, &order);
  for (size_t i = 0; i < program->port_count[KP_TAP]; i++) {
    cached->first_taps += step_of[program->ports[KP_TAP][i].value] == BEFORE_ALL_STEPS;
  }
  return KP_OK;
}

static cached_plan *find_plan(kp_session *session, const kp_program *program, int64_t n, int64_t t) {
  for (size_t i = 0; i < KP_PLAN_CACHE; i++) {
    cached_plan *cached = &session->plans[i];
    if (cached->valid && cached->plan.program == program && cached->plan.n == n && cached->plan.t == t) return cached;
  }
  return NULL;
}

/* A free place, or that of the plan which was not used for the longest time. */
static cached_plan *plan_to_replace(kp_session *session) {
  cached_plan *oldest = &session->plans[0];
  for (size_t i = 0; i < KP_PLAN_CACHE; i++) {
    cached_plan *cached = &session->plans[i];
    if (!cached->valid) return cached;
    if (cached->last_used < oldest->last_used) oldest = cached;
  }
  return oldest;
}

static kp_status get_plan(kp_session *session, size_t program, int64_t n, int64_t t, cached_plan **result,
                          kp_error *error) {
  const kp_program *planned = &session->model->programs[program];
  cached_plan *cached = find_plan(session, planned, n, t);
  if (cached == NULL) {
    cached_plan made = {.valid = true};
    KP_TRY(kp_plan_create(planned, n, t, kp_pool_threads(session->pool), &session->blas, &session->allocator,
                          &made.plan, error));
    kp_status status = make_run_tables(&made, error);
    if (status != KP_OK) {
      kp_plan_release(&made.plan);
      return status;
    }
    cached = plan_to_replace(session);
    if (cached->valid) kp_plan_release(&cached->plan);
    *cached = made;
  }
  cached->last_used = ++session->clock;
  *result = cached;
  return KP_OK;
}

static kp_status check_program(const kp_session *session, size_t program, kp_error *error) {
  size_t count = session->model->program_count;
  if (program < count) return KP_OK;
  return kp_fail(error, KP_ERROR_ARGUMENT, "program: expected less than %zu, got %zu", count, program);
}

/* ---- Running ---- */

static kp_status grow_arena(kp_session *session, size_t size, kp_error *error) {
  if (size <= session->arena_size && session->arena != NULL) return KP_OK;
  kp_free(&session->allocator, session->arena, session->arena_size, 1);
  session->arena = kp_alloc(&session->allocator, size);
  session->arena_size = session->arena != NULL ? size : 0;
  if (session->arena == NULL) return kp_fail(error, KP_ERROR_MEMORY, "no memory for an arena of %zu bytes", size);
  return KP_OK;
}

static void place_values(const kp_session *session, cached_plan *cached, const kp_tensor *inputs) {
  const kp_plan *plan = &cached->plan;
  const kp_program *program = plan->program;
  for (size_t i = 0; i < program->port_count[KP_INPUT]; i++) {
    /* Without elements, NULL is allowed; operators get a pointer all the same. */
    cached->data[program->ports[KP_INPUT][i].value] = inputs[i].data != NULL ? inputs[i].data : session->arena;
  }
  for (size_t i = 0; i < program->node_count; i++) { /* in this order, an alias comes after what it is an alias of */
    int32_t output = program->nodes[i].output;
    bool in_arena = plan->offsets[output] != SIZE_MAX;
    cached->data[output] = in_arena ? session->arena + plan->offsets[output] : cached->data[plan->storage[output]];
  }
}

static kp_tensor port_tensor(const cached_plan *cached, const kp_program_port *port) {
  kp_tensor tensor = kp_port_tensor(&port->port, cached->plan.n, cached->plan.t);
  tensor.data = cached->data[port->value];
  return tensor;
}

typedef struct tap_cursor {
  kp_tap_fn fn; /* NULL: no taps */
  void *context;
  size_t program;
  size_t next; /* position in cached_plan.taps */
} tap_cursor;

static kp_status call_tap(const cached_plan *cached, tap_cursor *cursor, kp_error *error) {
  const kp_program *program = cached->plan.program;
  uint32_t tap = cached->taps[cursor->next++];
  const kp_program_port *port = &program->ports[KP_TAP][tap];
  kp_tensor tensor = port_tensor(cached, port);
  if (cursor->fn(cursor->context, cursor->program, tap, &tensor)) return KP_OK;
  return kp_fail(error, KP_ERROR_CANCELLED, "program '%s': stopped at tap '%s'", program->name, port->port.name);
}

static kp_status call_first_taps(const cached_plan *cached, tap_cursor *cursor, kp_error *error) {
  while (cursor->next < cached->first_taps) KP_TRY(call_tap(cached, cursor, error));
  return KP_OK;
}

/* Calls the taps of a value that was just computed. They stand together, and next, in execution order. */
static kp_status call_taps_of(const cached_plan *cached, tap_cursor *cursor, int32_t value, kp_error *error) {
  const kp_program *program = cached->plan.program;
  while (cursor->next < program->port_count[KP_TAP] &&
         program->ports[KP_TAP][cached->taps[cursor->next]].value == value) {
    KP_TRY(call_tap(cached, cursor, error));
  }
  return KP_OK;
}

static kp_status run_step(const kp_session *session, const cached_plan *cached, size_t index, kp_error *error) {
  const kp_step *step = &cached->plan.steps[index];
  const kp_node *node = step->node;
  if (node->op->run == NULL) return KP_OK;
  kp_op_call call = step->call;
  call.kernels = &session->model->kernels;
  call.pool = session->pool;
  call.scratch = session->arena + step->scratch_offset;
  call.output.data = cached->data[node->output];
  for (size_t i = 0; i < node->input_count; i++) {
    if (node->inputs[i] >= 0) call.inputs[i].data = cached->data[node->inputs[i]];
  }
  kp_status status = node->op->run(&call, error);
  if (status == KP_OK) return KP_OK;
  const kp_program *program = cached->plan.program;
  return kp_fail_in(error, status, "program '%s': operator %zu, %s '%s'", program->name, index, node->op->name,
                    program->values[node->output].name);
}

static kp_status run_plan(kp_session *session, cached_plan *cached, const kp_tensor *inputs, tap_cursor *taps,
                          kp_error *error) {
  KP_TRY(grow_arena(session, cached->plan.run_bytes, error));
  place_values(session, cached, inputs);
  KP_TRY(kp_digest_inputs(&session->digest, &cached->plan, cached->data, error));
  if (taps->fn != NULL) KP_TRY(call_first_taps(cached, taps, error));
  for (size_t i = 0; i < cached->plan.program->node_count; i++) {
    KP_TRY(run_step(session, cached, i, error));
    const kp_node *node = &cached->plan.program->nodes[i];
    KP_TRY(kp_digest_output(&session->digest, &cached->plan, node, cached->data[node->output], error));
    if (taps->fn != NULL) KP_TRY(call_taps_of(cached, taps, node->output, error));
  }
  return kp_digest_outputs(&session->digest, &cached->plan, cached->data, error);
}

kp_status kp_session_run_unchecked(kp_session *session, size_t program, const kp_tensor *inputs, size_t input_count,
                                   kp_tensor *outputs, size_t output_count, kp_tap_fn tap, void *tap_context,
                                   kp_error *error) {
  KP_TRY(check_program(session, program, error));
  const kp_program *run = &session->model->programs[program];
  if (output_count != run->port_count[KP_OUTPUT]) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "program '%s': outputs: expected %zu, got %zu", run->name,
                   run->port_count[KP_OUTPUT], output_count);
  }
  if (outputs == NULL && output_count > 0) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "program '%s': outputs: expected a pointer, got NULL", run->name);
  }
  int64_t n = 1, t = 1;
  kp_status status = kp_inputs_bind(run, inputs, input_count, &n, &t, error);
  if (status != KP_OK) return kp_fail_in(error, status, "program '%s'", run->name);
  cached_plan *cached;
  KP_TRY(get_plan(session, program, n, t, &cached, error));
  tap_cursor taps = {.fn = tap, .context = tap_context, .program = program};
  KP_TRY(run_plan(session, cached, inputs, &taps, error));
  for (size_t i = 0; i < output_count; i++) outputs[i] = port_tensor(cached, &run->ports[KP_OUTPUT][i]);
  return KP_OK;
}

static kp_status check_elements(const kp_session *session, size_t program, const kp_tensor *inputs, size_t input_count,
                                kp_error *error) {
  KP_TRY(check_program(session, program, error));
  const kp_program *run = &session->model->programs[program];
  int64_t n, t;
  kp_status status = kp_inputs_bind(run, inputs, input_count, &n, &t, error);
  if (status == KP_OK) status = kp_inputs_check_elements(run, inputs, error);
  return status == KP_OK ? KP_OK : kp_fail_in(error, status, "program '%s'", run->name);
}

kp_status kp_session_run(kp_session *session, size_t program, const kp_tensor *inputs, size_t input_count,
                         kp_tensor *outputs, size_t output_count, kp_tap_fn tap, void *tap_context, kp_error *error) {
  kp_fpenv saved = kp_fpenv_enter();
  kp_status status = check_elements(session, program, inputs, input_count, error);
  if (status == KP_OK) {
    status = kp_digest_begin(&session->digest, error, "run %s", session->model->programs[program].name);
  }
  if (status == KP_OK) {
    status =
        kp_session_run_unchecked(session, program, inputs, input_count, outputs, output_count, tap, tap_context, error);
  }
  if (status == KP_OK) status = kp_digest_end(&session->digest, error);
  kp_fpenv_leave(saved);
  return status;
}

/* ---- Costs ---- */

static kp_status get_cost_plan(kp_session *session, size_t program, int64_t n, int64_t t, cached_plan **cached,
                               kp_error *error) {
  KP_TRY(check_program(session, program, error));
  kp_fpenv saved = kp_fpenv_enter();
  kp_status status = get_plan(session, program, n, t, cached, error);
  kp_fpenv_leave(saved);
  return status;
}

kp_status kp_session_cost(kp_session *session, size_t program, int64_t n, int64_t t, kp_program_cost *cost,
                          kp_error *error) {
  cached_plan *cached;
  KP_TRY(get_cost_plan(session, program, n, t, &cached, error));
  *cost = (kp_program_cost){.arena_bytes = cached->plan.run_bytes, .macs = cached->plan.macs};
  for (size_t i = 0; i < cached->plan.program->node_count; i++) {
    if (cached->plan.steps[i].node->op->run != NULL) cost->op_count++;
  }
  return KP_OK;
}

kp_status kp_session_op(kp_session *session, size_t program, int64_t n, int64_t t, size_t index, kp_op_info *info,
                        kp_error *error) {
  cached_plan *cached;
  KP_TRY(get_cost_plan(session, program, n, t, &cached, error));
  size_t position = 0;
  for (size_t i = 0; i < cached->plan.program->node_count; i++) {
    const kp_step *step = &cached->plan.steps[i];
    if (step->node->op->run == NULL) continue;
    if (position++ != index) continue;
    const kp_view *output = &step->call.output;
    *info = (kp_op_info){.type = step->node->op->name,
                         .output = cached->plan.program->values[step->node->output].name,
                         .macs = step->macs,
                         .output_bytes = (size_t)kp_shape_elements(&output->shape) * kp_dtype_size(output->dtype)};
    return KP_OK;
  }
  return kp_fail(error, KP_ERROR_ARGUMENT, "program '%s': operator index: expected less than %zu, got %zu",
                 cached->plan.program->name, position, index);
}

/* csrc/model/plan.c: plans of random programs, checked by replaying them over a map of who wrote which byte. */
#include <stdlib.h>

#include "check.h"
#include "model/plan.h"

static const kp_blas blas; /* plans do not run */

/* ---- Operators of the test's own ---- */

enum { DIMS = 0, SCRATCH = 1 };

static kp_status give_dims(kp_op_call *call, kp_error *error) {
  (void)error;
  const kp_attribute *dims = &call->attributes[DIMS];
  call->output.dtype = KP_F32;
  call->output.shape.rank = dims->count;
  memcpy(call->output.shape.dim, dims->i, sizeof call->output.shape.dim);
  return KP_OK;
}

static size_t give_scratch(const kp_op_call *call) { return (size_t)call->attributes[SCRATCH].i[0]; }
static uint64_t count_elements(const kp_op_call *call) { return (uint64_t)kp_shape_elements(&call->output.shape); }
static kp_status never_run(const kp_op_call *call, kp_error *error) {
  (void)call;
  return kp_fail(error, KP_ERROR_UNSUPPORTED, "planned only");
}

#define SAMPLE_OP(op_name, run_function, mask)                                                                 \
  {                                                                                                            \
    .name = op_name, .min_inputs = 1, .max_inputs = 3, .attribute_count = 2,                                   \
    .attributes = {{.name = "dims", .kind = KP_ATTR_DIM, .min_count = 0, .max_count = 8, .required = true},    \
                   {.name = "scratch", .kind = KP_ATTR_INT, .min_count = 1, .max_count = 1}},                  \
    .infer = give_dims, .scratch = give_scratch, .macs = count_elements, .run = run_function, .in_place = mask \
  }

static const kp_op compute_op = SAMPLE_OP("compute", never_run, 0);
static const kp_op in_place_op = SAMPLE_OP("in_place", never_run, 0x3);
static const kp_op alias_op = SAMPLE_OP("alias", NULL, 0);

/* ---- Building programs ---- */

enum { MOST_VALUES = 128, MOST_NODES = 96, MOST_PORTS = 8 };

typedef struct sample_program {
  kp_program program;
  kp_value values[MOST_VALUES];
  kp_node nodes[MOST_NODES];
  kp_node_attribute attributes[MOST_NODES][2];
  kp_program_port inputs[MOST_PORTS], outputs[MOST_PORTS];
  kp_gguf_tensor weight;
} sample_program;

static void start_program(sample_program *sample) {
  memset(sample, 0, sizeof *sample);
  sample->program = (kp_program){.name = "sample", .values = sample->values, .nodes = sample->nodes};
  sample->program.ports[KP_INPUT] = sample->inputs;
  sample->program.ports[KP_OUTPUT] = sample->outputs;
}

static int32_t add_value(sample_program *sample, kp_dim dim) {
  kp_value *value = &sample->values[sample->program.value_count];
  *value = (kp_value){.name = "value", .dtype = KP_F32, .rank = 1, .shape = {dim}};
  return (int32_t)sample->program.value_count++;
}

static int32_t add_input(sample_program *sample, kp_dim dim) {
  int32_t value = add_value(sample, dim);
  sample->inputs[sample->program.port_count[KP_INPUT]++].value = value;
  return value;
}

static int32_t add_weight(sample_program *sample, kp_dim dim) {
  int32_t value = add_value(sample, dim);
  sample->values[value].weight = &sample->weight;
  return value;
}

static void add_output(sample_program *sample, int32_t value) {
  sample->outputs[sample->program.port_count[KP_OUTPUT]++].value = value;
}

static int32_t add_node(sample_program *sample, const kp_op *op, const int32_t *inputs, size_t input_count, kp_dim dim,
                        int64_t scratch) {
  size_t index = sample->program.node_count++;
  kp_node *node = &sample->nodes[index];
  *node = (kp_node){.op = op, .input_count = input_count, .attributes = sample->attributes[index]};
  memcpy(node->inputs, inputs, input_count * sizeof inputs[0]);
  sample->attributes[index][DIMS] = (kp_node_attribute){.count = 1, .dims = {dim}};
  sample->attributes[index][SCRATCH] = (kp_node_attribute){.count = 1, .dims = {{.value = scratch}}};
  node->output = add_value(sample, dim);
  return node->output;
}

static void random_program(sample_program *sample, check_random *random) {
  static const kp_dim dims[] = {{0, 0, 0},    {1, 0, 0},  {16, 0, 0}, {100, 0, 0},
                                {1000, 0, 0}, {10, 1, 0}, {7, 1, 1},  {300, 0, 1}};
  enum { DIM_COUNT = sizeof dims / sizeof dims[0] };
  start_program(sample);
  for (uint32_t i = check_below(random, 3); i-- > 0;) add_weight(sample, dims[check_below(random, DIM_COUNT)]);
  for (uint32_t i = 1 + check_below(random, 3); i-- > 0;) add_input(sample, dims[check_below(random, DIM_COUNT)]);
  uint32_t nodes = 1 + check_below(random, MOST_NODES - 1), reach = 2 + check_below(random, 20);
  for (uint32_t i = 0; i < nodes; i++) {
    int32_t inputs[3], values = (int32_t)sample->program.value_count;
    size_t count = 1 + check_below(random, 3);
    for (size_t j = 0; j < count; j++) { /* mostly recent values, as in a network */
      bool recent = check_below(random, 8) > 0 && (uint32_t)values > reach;
      inputs[j] =
          recent ? values - 1 - (int32_t)check_below(random, reach) : (int32_t)check_below(random, (uint32_t)values);
    }
    kp_dim first = sample->values[inputs[0]].shape[0];
    switch (check_below(random, 4)) {
      case 0:
        add_node(sample, &alias_op, inputs, 1, first, 0);
        break;
      case 1:
        add_node(sample, &in_place_op, inputs, count, first, 0);
        break;
      default:
        add_node(sample, &compute_op, inputs, count, dims[check_below(random, DIM_COUNT)],
                 check_below(random, 3) == 0 ? check_below(random, 5000) : 0);
    }
  }
  for (uint32_t i = 1 + check_below(random, 4); i-- > 0;) {
    add_output(sample, (int32_t)check_below(random, (uint32_t)sample->program.value_count));
  }
}

/* ---- Replaying a plan ---- */

enum { NOBODY = -1, SCRATCH_OWNER = -2, UNITS = 1 << 14 };

typedef struct replay {
  const sample_program *sample;
  const kp_plan *plan;
  int32_t owner[UNITS]; /* by KP_ALIGNMENT bytes of the arena: the value that lies there */
} replay;

static size_t units_of(size_t bytes) { return (bytes + KP_ALIGNMENT - 1) / KP_ALIGNMENT; }

static size_t value_bytes(const replay *r, int32_t value) {
  return (size_t)kp_shape_elements(&r->plan->shapes[value]) * sizeof(float);
}

static bool holds(const replay *r, size_t offset, size_t bytes, int32_t owner) {
  bool all = offset % KP_ALIGNMENT == 0 && offset + bytes <= r->plan->run_bytes;
  for (size_t i = 0; i < units_of(bytes) && all; i++) all = r->owner[offset / KP_ALIGNMENT + i] == owner;
  return all;
}

static void write_units(replay *r, size_t offset, size_t bytes, int32_t owner) {
  for (size_t i = 0; i < units_of(bytes); i++) r->owner[offset / KP_ALIGNMENT + i] = owner;
}

/* A value can be read: it lies outside the arena, or nothing has overwritten it. */
static bool readable(const replay *r, int32_t value) {
  int32_t storage = r->plan->storage[value];
  if (r->plan->offsets[value] != r->plan->offsets[storage]) return false;
  bool computed = false;
  for (size_t i = 0; i < r->sample->program.node_count; i++) computed |= r->sample->nodes[i].output == storage;
  if (!computed) return r->plan->offsets[value] == SIZE_MAX;
  return holds(r, r->plan->offsets[storage], value_bytes(r, storage), storage);
}

/* Whether an output written over one of its inputs is one that the operator allows. */
static bool overwrites_only_in_place(const replay *r, const kp_node *node) {
  size_t offset = r->plan->offsets[node->output], bytes = value_bytes(r, node->output);
  int overwritten = 0;
  for (size_t i = 0; i < node->input_count; i++) {
    size_t at = r->plan->offsets[node->inputs[i]], size = value_bytes(r, node->inputs[i]);
    if (at == SIZE_MAX || at + size <= offset || offset + bytes <= at || bytes == 0 || size == 0) continue;
    if (at != offset || size != bytes || (node->op->in_place >> i & 1) == 0) return false;
    overwritten++;
  }
  return overwritten <= 1;
}

static bool replay_step(replay *r, size_t index) {
  const kp_step *step = &r->plan->steps[index];
  const kp_node *node = &r->sample->nodes[index];
  for (size_t i = 0; i < node->input_count; i++) {
    if (!readable(r, node->inputs[i])) return false;
  }
  if (node->op->run == NULL) return r->plan->storage[node->output] == r->plan->storage[node->inputs[0]];
  size_t scratch = (size_t)step->call.attributes[SCRATCH].i[0];
  size_t offset = r->plan->offsets[node->output], bytes = value_bytes(r, node->output);
  if (r->plan->storage[node->output] != node->output || !overwrites_only_in_place(r, node)) return false;
  write_units(r, step->scratch_offset, scratch, SCRATCH_OWNER);
  for (size_t i = 0; i < node->input_count; i++) { /* scratch lies beside the inputs */
    if (!readable(r, node->inputs[i])) return false;
  }
  write_units(r, offset, bytes, node->output);
  return holds(r, step->scratch_offset, scratch, SCRATCH_OWNER) && holds(r, offset, bytes, node->output);
}

static bool replay_plan(const sample_program *sample, const kp_plan *plan) {
  static replay r;
  r.sample = sample;
  r.plan = plan;
  for (size_t i = 0; i < UNITS; i++) r.owner[i] = NOBODY;
  if (plan->run_bytes > (size_t)UNITS * KP_ALIGNMENT) return false;
  for (size_t i = 0; i < sample->program.node_count; i++) {
    if (!replay_step(&r, i)) return false;
  }
  for (size_t i = 0; i < sample->program.port_count[KP_OUTPUT]; i++) {
    if (!readable(&r, sample->outputs[i].value)) return false;
  }
  return true;
}

/* The most bytes that are live at one step: no placement can do with less. */
static size_t live_bytes_at_peak(const sample_program *sample, const kp_plan *plan) {
  const kp_program *program = &sample->program;
  static size_t last[MOST_VALUES];
  static bool counted[UNITS];
  for (size_t s = 0; s < program->node_count; s++) {
    last[plan->storage[program->nodes[s].output]] = s;
    for (size_t i = 0; i < program->nodes[s].input_count; i++) last[plan->storage[program->nodes[s].inputs[i]]] = s;
  }
  for (size_t i = 0; i < program->port_count[KP_OUTPUT]; i++) {
    last[plan->storage[sample->outputs[i].value]] = program->node_count;
  }
  size_t peak = 0;
  for (size_t s = 0; s < program->node_count; s++) {
    memset(counted, 0, sizeof counted);
    for (size_t d = 0; d <= s; d++) {
      int32_t value = program->nodes[d].output;
      if (plan->storage[value] != value || last[value] < s || plan->offsets[value] == SIZE_MAX) continue;
      size_t units = units_of((size_t)kp_shape_elements(&plan->shapes[value]) * sizeof(float));
      memset(&counted[plan->offsets[value] / KP_ALIGNMENT], true, units); /* in place: counted once */
    }
    size_t live = units_of((size_t)plan->steps[s].call.attributes[SCRATCH].i[0]);
    for (size_t i = 0; i < UNITS; i++) live += counted[i];
    if (live * KP_ALIGNMENT > peak) peak = live * KP_ALIGNMENT;
  }
  return peak;
}

/* ---- Tests ---- */

static void no_plan_overwrites_what_is_still_needed(void) {
  kp_allocator allocator = kp_default_allocator();
  static sample_program sample;
  check_random random = {4};
  for (int round = 0; round < 3000; round++) {
    uint64_t seed = random.state;
    random_program(&sample, &random);
    kp_plan plan;
    kp_error error;
    if (kp_plan_create(&sample.program, 1 + round % 3, 1 + round % 5, 2, &blas, &allocator, &plan, &error) != KP_OK) {
      check_failed(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)seed, error.message);
      continue;
    }
    if (!replay_plan(&sample, &plan)) check_failed(__FILE__, __LINE__, "seed %llu", (unsigned long long)seed);
    kp_plan_release(&plan);
  }
}

static void arenas_are_within_a_twentieth_of_the_least_possible(void) {
  kp_allocator allocator = kp_default_allocator();
  static sample_program sample;
  check_random random = {5};
  size_t planned = 0, least = 0;
  for (int round = 0; round < 300; round++) {
    random_program(&sample, &random);
    kp_plan plan;
    CHECK_OK(kp_plan_create(&sample.program, 2, 3, 1, &blas, &allocator, &plan, &error));
    size_t bound = live_bytes_at_peak(&sample, &plan);
    CHECK(plan.run_bytes >= bound);
    planned += plan.run_bytes;
    least += bound;
    kp_plan_release(&plan);
  }
  printf("       arena / peak of live bytes over random programs: %.4f\n", (double)planned / (double)least);
  CHECK((double)planned <= 1.05 * (double)least);
}

static void a_chain_that_works_in_place_takes_one_buffer(void) {
  static sample_program sample;
  kp_allocator allocator = kp_default_allocator();
  start_program(&sample);
  int32_t value = add_input(&sample, (kp_dim){1000, 0, 0});
  for (int i = 0; i < 10; i++) value = add_node(&sample, &in_place_op, &value, 1, (kp_dim){1000, 0, 0}, 0);
  add_output(&sample, value);
  kp_plan plan;
  CHECK_OK(kp_plan_create(&sample.program, 1, 1, 1, &blas, &allocator, &plan, &error));
  CHECK(plan.run_bytes == units_of(1000 * sizeof(float)) * KP_ALIGNMENT);
  CHECK(plan.offsets[0] == SIZE_MAX); /* the input is never taken over */
  CHECK(plan.macs == 10 * 1000);
  kp_plan_release(&plan);
}

static void an_alias_of_an_input_or_a_weight_may_be_an_output(void) {
  static sample_program sample;
  kp_allocator allocator = kp_default_allocator();
  start_program(&sample);
  int32_t input = add_input(&sample, (kp_dim){10, 0, 0}), weight = add_weight(&sample, (kp_dim){20, 0, 0});
  int32_t first = add_node(&sample, &alias_op, &input, 1, (kp_dim){10, 0, 0}, 0);
  int32_t second = add_node(&sample, &alias_op, &first, 1, (kp_dim){10, 0, 0}, 0);
  int32_t third = add_node(&sample, &alias_op, &weight, 1, (kp_dim){20, 0, 0}, 0);
  add_output(&sample, second);
  add_output(&sample, third);
  kp_plan plan;
  CHECK_OK(kp_plan_create(&sample.program, 1, 1, 1, &blas, &allocator, &plan, &error));
  CHECK(plan.offsets[second] == SIZE_MAX && plan.storage[second] == input);
  CHECK(plan.offsets[third] == SIZE_MAX && plan.storage[third] == weight);
  CHECK(plan.run_bytes == 0);
  kp_plan_release(&plan);
}

static void sizes_beyond_the_cap_are_refused(void) {
  static sample_program sample;
  kp_allocator allocator = kp_default_allocator();
  kp_plan plan;
  start_program(&sample);
  int32_t input = add_input(&sample, (kp_dim){1 << 20, 1, 1});
  sample.values[input].rank = 2;
  sample.values[input].shape[1] = (kp_dim){4, 0, 0};
  CHECK_FAILS(kp_plan_create(&sample.program, 32, 33, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "its size at N = 32");
  CHECK_FAILS(kp_plan_create(&sample.program, 4096, 4096, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "dimension 0");
  for (int i = 0; i < 5; i++) {
    add_output(&sample,
               add_node(&sample, &compute_op, &input, 1, (kp_dim){1 << 20, 1, 1}, 0)); /* each fits, all do not */
  }
  CHECK_FAILS(kp_plan_create(&sample.program, 30, 34, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "take more than");
  CHECK_FAILS(kp_plan_create(&sample.program, 0, 1, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "N: expected 1 to 4096");
  CHECK_FAILS(kp_plan_create(&sample.program, 1, 4097, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "T: expected");
}

static void a_shape_other_than_the_operators_is_refused(void) {
  static sample_program sample;
  kp_allocator allocator = kp_default_allocator();
  kp_plan plan;
  start_program(&sample);
  int32_t input = add_input(&sample, (kp_dim){8, 0, 0});
  int32_t value = add_node(&sample, &compute_op, &input, 1, (kp_dim){9, 0, 0}, 0);
  sample.values[value].shape[0].value = 10;
  CHECK_FAILS(kp_plan_create(&sample.program, 1, 1, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "operator 0, compute 'value': the file says (10,), the operator gives (9,)");
  sample.values[value].shape[0].value = 9;
  sample.values[value].dtype = KP_I32;
  CHECK_FAILS(kp_plan_create(&sample.program, 1, 1, 1, &blas, &allocator, &plan, &error), KP_ERROR_SHAPE,
              "the file says i32, the operator gives f32");
}

const check_test plan_tests[] = {TEST(no_plan_overwrites_what_is_still_needed),
                                 TEST(arenas_are_within_a_twentieth_of_the_least_possible),
                                 TEST(a_chain_that_works_in_place_takes_one_buffer),
                                 TEST(an_alias_of_an_input_or_a_weight_may_be_an_output),
                                 TEST(sizes_beyond_the_cap_are_refused),
                                 TEST(a_shape_other_than_the_operators_is_refused),
                                 {NULL, NULL}};

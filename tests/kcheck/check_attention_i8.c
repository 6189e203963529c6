/* attention_i8. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kcheck.h"

typedef enum mask_kind {
  MASK_NONE,
  MASK_SHARED,  /* a row for all queries */
  MASK_ROWS,    /* a row each, half of it -inf */
  MASK_NOTHING, /* the same, and the first query attends to nothing */
  MASK_STRETCH, /* a row each, -inf outside of a stretch, which may be empty */
  MASK_KINDS
} mask_kind;

typedef enum values {
  VALUES_UNIFORM,
  VALUES_TINY,   /* denormals and just above the absmax below which a row is zeros */
  VALUES_ZEROS,  /* of both signs; some rows have another number */
  VALUES_FINITE, /* anything, to the largest float */
  VALUES_KINDS
} values;

typedef struct shape {
  size_t queries, keys, head_dim;
} shape;

static void fill(kc *k, float *dst, size_t n, values kind) {
  switch (kind) {
    case VALUES_UNIFORM:
      kc_fill_floats(k, dst, n, KC_UNIFORM);
      break;
    case VALUES_TINY:
      for (size_t i = 0; i < n; i++)
        dst[i] = kc_random_float(k, -1.0f, 1.0f) * (kc_random(k) % 8 ? 0x1p-130f : 0x1p-98f);
      break;
    case VALUES_ZEROS:
      for (size_t i = 0; i < n; i++) dst[i] = kc_random(k) % 32 ? (kc_random(k) & 1 ? 0.0f : -0.0f) : 1.5f;
      break;
    default:
      kc_fill_floats(k, dst, n, KC_FINITE);
  }
}

/* Rows `stride` apart, of which the last ends with its width: nothing is behind it. */
static float *rows(kc *k, size_t count, size_t stride, size_t width, values kind) {
  const size_t n = (count - 1) * stride + width;
  float *data = kc_bytes(k, n * sizeof *data);
  fill(k, data, n, kind);
  return data;
}

/* 64-byte aligned scratch that ends where its buffer does, up to 63 bytes. */
static void *scratch(kc *k, const shape *s) {
  const size_t bytes = kp_attention_i8_scratch(s->keys, s->head_dim);
  return (void *)(((uintptr_t)kc_bytes(k, bytes + 63) + 63) & ~(uintptr_t)63);
}

static const float *mask(kc *k, const shape *s, mask_kind kind, size_t stride) {
  const size_t count = kind == MASK_SHARED ? 1 : s->queries;
  float *data = rows(k, count, stride, s->keys, VALUES_UNIFORM);
  for (size_t r = 0; r < count; r++) {
    const size_t first = kc_random_size(k, 0, s->keys), last = kc_random_size(k, first, s->keys);
    for (size_t j = 0; j < s->keys; j++) {
      const bool nothing = kind == MASK_NOTHING && r == 0;
      const bool hidden = kind == MASK_STRETCH ? j < first || j >= last : (kc_random(k) & 1) || nothing;
      if (hidden) data[r * stride + j] = -INFINITY;
    }
  }
  return data;
}

static void check_one(kc *k, shape s, mask_kind masked, values kind, float scale) {
  size_t strides[5];
  for (size_t i = 0; i < 4; i++) strides[i] = s.head_dim + kc_random(k) % 2 * kc_random_size(k, 1, 300);
  strides[4] = s.keys + kc_random(k) % 2 * kc_random_size(k, 1, 20);
  kc_case(k, "%zu queries, %zu keys, head_dim %zu, mask %d, values %d, scale %g", s.queries, s.keys, s.head_dim,
          (int)masked, (int)kind, (double)scale);
  kp_attention_i8 args = {.q = rows(k, s.queries, strides[0], s.head_dim, kind),
                          .k = rows(k, s.keys, strides[1], s.head_dim, kind),
                          .v = rows(k, s.keys, strides[2], s.head_dim, kind),
                          .q_stride = strides[0],
                          .k_stride = strides[1],
                          .v_stride = strides[2],
                          .out_stride = strides[3],
                          .queries = s.queries,
                          .keys = s.keys,
                          .head_dim = s.head_dim,
                          .scale = scale,
                          .scratch = scratch(k, &s)};
  if (masked != MASK_NONE) {
    args.mask = mask(k, &s, masked, strides[4]);
    args.mask_stride = masked == MASK_SHARED ? 0 : strides[4];
  }
  const size_t size = (s.queries - 1) * strides[3] + s.head_dim;
  float *expected = kc_floats(k, size, KC_UNIFORM);
  float *got = kc_copy_floats(k, expected, size); /* the gaps between rows stay */
  args.out = expected;
  kc_reference(k)->attention_i8(&args);
  args.out = got;
  kc_tested(k)->attention_i8(&args);
  kc_equal_floats(k, expected, got, size);
}

static void check_attention_i8(kc *k) {
  static const shape shapes[] = {{256, 256, 12}, {256, 256, 16}, {64, 64, 16},   {64, 64, 20},
                                 {16, 16, 18},   {16, 16, 24},   {196, 196, 16}, {49, 49, 16},
                                 {4, 256, 32},   {1, 1, 1},      {17, 3, 5},     {33, 19, 256}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    for (size_t masked = 0; masked < MASK_KINDS; masked++) {
      check_one(k, shapes[i], (mask_kind)masked, VALUES_UNIFORM, 0.3f);
    }
  }
  /* Large scales leave a few keys, negative ones prefer the unlike. */
  static const float scales[] = {0.0f, 0.25f, 4.0f, -0.25f, 1e10f, 1e-30f};
  for (size_t i = 0; i < 160; i++) {
    const shape s = {kc_random_size(k, 1, 80), kc_random_size(k, 1, 300), kc_random_size(k, 1, 70)};
    check_one(k, s, (mask_kind)(kc_random(k) % MASK_KINDS), (values)(i % VALUES_KINDS), scales[kc_random(k) % 6]);
  }
}

static void run_attention_i8(const kp_kernels *kernels, void *args) { kernels->attention_i8(args); }

/* A head as the models lay it out: rows are as far apart as those of q, k and v side by side in all heads. */
static void bench_shape(kc *k, shape s, size_t stride) {
  char label[64];
  snprintf(label, sizeof label, "%zu queries and keys of %zu", s.queries, s.head_dim);
  kc_case(k, "%s", label);
  kp_attention_i8 args = {.q = rows(k, s.queries, stride, s.head_dim, VALUES_UNIFORM),
                          .k = rows(k, s.keys, stride, s.head_dim, VALUES_UNIFORM),
                          .v = rows(k, s.keys, stride, s.head_dim, VALUES_UNIFORM),
                          .out = rows(k, s.queries, stride, s.head_dim, VALUES_UNIFORM),
                          .q_stride = stride,
                          .k_stride = stride,
                          .v_stride = stride,
                          .out_stride = stride / 3,
                          .queries = s.queries,
                          .keys = s.keys,
                          .head_dim = s.head_dim,
                          .scale = 0.25f,
                          .scratch = scratch(k, &s)};
  kc_bench_i8(k, label, s.queries * s.keys, 2.0 * (double)s.head_dim, run_attention_i8, &args);
}

static void bench_attention_i8(kc *k) {
  bench_shape(k, (shape){256, 256, 12}, 144);
  bench_shape(k, (shape){256, 256, 16}, 192);
  bench_shape(k, (shape){196, 196, 16}, 192);
  bench_shape(k, (shape){64, 64, 16}, 192);
  bench_shape(k, (shape){64, 64, 20}, 240);
  bench_shape(k, (shape){49, 49, 16}, 192);
  bench_shape(k, (shape){16, 16, 18}, 216);
  bench_shape(k, (shape){16, 16, 24}, 288);
}

const kc_check kc_attention_i8[] = {
    {"attention_i8", check_attention_i8, bench_attention_i8},
    {0},
};

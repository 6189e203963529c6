/* attention_f32. */
#include <math.h>
#include <string.h>

#include "kcheck.h"

/* Rows `stride` apart, of which the last ends with its width: nothing is behind it. */
static float *rows(kc *k, size_t count, size_t stride, size_t width, kc_fill fill) {
  return kc_floats(k, count > 0 ? (count - 1) * stride + width : 0, fill);
}

/* 64-byte aligned scratch inside a guarded buffer. */
static float *scratch(kc *k, size_t keys, size_t head_dim) {
  const size_t floats = (kp_attention_f32_scratch(keys, head_dim) + 15) / 16 * 16;
  return (float *)(((uintptr_t)kc_bytes(k, floats * sizeof(float) + 64) + 63) & ~(uintptr_t)63);
}

static void check_one(kc *k, size_t queries, size_t keys, size_t head_dim, size_t masked) {
  const size_t stride = head_dim + kc_random_size(k, 0, 1) * kc_random_size(k, 1, 40);
  kc_case(k, "%zu queries, %zu keys, head_dim %zu, stride %zu, mask %zu", queries, keys, head_dim, stride, masked);
  const kc_fill fill = kc_random(k) % 4 == 0 ? KC_FINITE : KC_UNIFORM;
  kp_attention_f32 args = {.q = rows(k, queries, stride, head_dim, KC_UNIFORM),
                           .k = rows(k, keys, stride, head_dim, KC_UNIFORM),
                           .v = rows(k, keys, stride, head_dim, fill),
                           .q_stride = stride,
                           .k_stride = stride,
                           .v_stride = stride,
                           .out_stride = stride,
                           .queries = queries,
                           .keys = keys,
                           .head_dim = head_dim,
                           .scale = kc_random_float(k, 0.05f, 1.0f),
                           .scratch = scratch(k, keys, head_dim)};
  if (masked > 0) { /* 1: one row for all; 2: a row each; 3: the first query attends to nothing; 4: each to a stretch */
    const size_t mask_rows = masked == 1 ? 1 : queries;
    float *mask = kc_floats(k, mask_rows * keys, KC_UNIFORM);
    for (size_t r = 0; r < mask_rows; r++) {
      const size_t first = kc_random_size(k, 0, keys), last = kc_random_size(k, first, keys);
      for (size_t j = 0; j < keys; j++) {
        const bool hidden = masked == 4 ? j < first || j >= last : (kc_random(k) & 1) || (masked == 3 && r == 0);
        if (hidden) mask[r * keys + j] = -INFINITY;
      }
    }
    args.mask = mask;
    args.mask_stride = masked == 1 ? 0 : keys;
  }
  float *expected = rows(k, queries, stride, head_dim, KC_UNIFORM),
        *got = rows(k, queries, stride, head_dim, KC_UNIFORM);
  const size_t size = queries > 0 ? (queries - 1) * stride + head_dim : 0;
  memcpy(got, expected, size * sizeof *got); /* the gaps between rows stay */
  args.out = expected;
  kc_reference(k)->attention_f32(&args);
  args.out = got;
  kc_tested(k)->attention_f32(&args);
  kc_equal_floats(k, expected, got, size);
}

static void check_attention(kc *k) {
  static const size_t shapes[][3] = {{256, 256, 12}, {64, 64, 16}, {16, 16, 18}, {49, 49, 12},
                                     {4, 4, 18},     {64, 64, 26}, {9, 9, 32},   {4, 256, 32},
                                     {2, 2, 26},     {1, 1, 1},    {13, 577, 64}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    for (size_t masked = 0; masked < 5; masked++) check_one(k, shapes[i][0], shapes[i][1], shapes[i][2], masked);
  }
  for (size_t i = 0; i < 60; i++) {
    check_one(k, kc_random_size(k, 0, 40), kc_random_size(k, 1, 200), kc_random_size(k, 0, 70), kc_random(k) % 5);
  }
}

static void run_attention(const kp_kernels *kernels, void *args) { kernels->attention_f32(args); }

static void bench_shape(kc *k, const char *label, size_t queries, size_t keys, size_t head_dim) {
  kc_case(k, "%s", label);
  kp_attention_f32 args = {.q = kc_floats(k, queries * head_dim, KC_UNIFORM),
                           .k = kc_floats(k, keys * head_dim, KC_UNIFORM),
                           .v = kc_floats(k, keys * head_dim, KC_UNIFORM),
                           .out = kc_floats(k, queries * head_dim, KC_UNIFORM),
                           .q_stride = head_dim,
                           .k_stride = head_dim,
                           .v_stride = head_dim,
                           .out_stride = head_dim,
                           .queries = queries,
                           .keys = keys,
                           .head_dim = head_dim,
                           .scale = 0.3f,
                           .scratch = scratch(k, keys, head_dim)};
  kc_bench(k, label, queries * keys, 4.0 * (double)head_dim, run_attention, &args);
}

static void bench_attention(kc *k) {
  bench_shape(k, "256 queries, 256 keys of 12", 256, 256, 12);
  bench_shape(k, "64 queries, 64 keys of 26", 64, 64, 26);
  bench_shape(k, "16 queries, 16 keys of 18", 16, 16, 18);
  bench_shape(k, "4 queries, 256 keys of 32", 4, 256, 32);
  bench_shape(k, "577 queries, 577 keys of 64", 577, 577, 64);
}

const kc_check kc_attention[] = {
    {"attention_f32", check_attention, bench_attention},
    {0},
};

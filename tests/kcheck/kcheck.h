/* kcheck: every kernel slot against the scalar reference, on every level that this processor has.
 *
 * A check draws shapes and data, runs the reference and the tested kernel on copies, and compares bit for bit. Every
 * buffer lies between two inaccessible pages, and ends at the one or begins at the other, so that an access past either
 * end stops the program. To add slots: write check_<group>.c with a `const kc_check kc_<group>[]` that ends in {0},
 * declare it below and list it in kcheck.c. */
#ifndef KCHECK_H
#define KCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

typedef struct kc kc;

/* One slot's (or one group of slots') check. Either function may be NULL. */
typedef struct kc_check {
  const char *slot;
  void (*check)(kc *k); /* run once for each level above the scalar one */
  void (*bench)(kc *k); /* run once for each level */
} kc_check;

extern const kc_check kc_dispatch[];
extern const kc_check kc_accuracy[];
extern const kc_check kc_elementwise[];
extern const kc_check kc_rows[];
extern const kc_check kc_spatial[];
extern const kc_check kc_attention[];
extern const kc_check kc_picture[];
extern const kc_check kc_gemm_i8[];
extern const kc_check kc_attention_i8[];
extern const kc_check kc_depthwise_i8[];
extern const kc_check kc_quantize_i8[];
extern const kc_check kc_pool_i8[];
extern const kc_check kc_gemm_f32[];

/* ---- What a check reads --------------------------------------------------------------------------------------- */

const kp_kernels *kc_reference(const kc *k); /* the scalar kernels */
const kp_kernels *kc_tested(const kc *k);    /* the level's */
uint32_t kc_isa(const kc *k);                /* the level, as a mask of KP_ISA_* */
bool kc_exhaustive(const kc *k);             /* --exhaustive: sweep every float where a sweep is dense by default */

/* ---- Random numbers, from the seed, the slot and the level ------------------------------------------------------ */

uint64_t kc_random(kc *k);
size_t kc_random_size(kc *k, size_t low, size_t high); /* inclusive */
float kc_random_float(kc *k, float low, float high);

/* ---- Cases and buffers ------------------------------------------------------------------------------------------ */

/* Begins a case, named by the format (shapes, strides, parameters): releases the buffers of the case before. Buffers
 * end at the inaccessible page in one case and begin at it in the next, by turns. */
void kc_case(kc *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `bytes` bytes of a pattern; released at the next case. */
void *kc_bytes(kc *k, size_t bytes);

typedef enum kc_fill {
  KC_UNIFORM, /* in [-4, 4] */
  KC_FINITE,  /* any finite float: denormals, zeros of both signs, huge values, with many near 1 between them */
  KC_ANY      /* KC_FINITE and infinities */
} kc_fill;

float *kc_floats(kc *k, size_t n, kc_fill fill);
float *kc_copy_floats(kc *k, const float *src, size_t n); /* another buffer with the same contents */
void kc_fill_floats(kc *k, float *dst, size_t n, kc_fill fill);

/* Lengths that straddle the blocks of every level: 0 to 2 vectors, then around multiples of 16 and 64. */
extern const size_t kc_lengths[];
extern const size_t kc_length_count;

/* ---- Verdicts --------------------------------------------------------------------------------------------------- */

/* Compares n elements of `size` bytes, bit for bit. Returns false, having said where, when they differ. */
bool kc_equal(kc *k, const void *expected, const void *got, size_t n, size_t size);
/* The same for floats; a NaN equals any NaN. */
bool kc_equal_floats(kc *k, const float *expected, const float *got, size_t n);
/* Any other failure. */
void kc_fail(kc *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "none", "silu", ... */
const char *kc_act_name(kp_act act);

/* ---- Benchmarks ------------------------------------------------------------------------------------------------- */

typedef void (*kc_run)(const kp_kernels *kernels, void *args);

/* Times run(kernels, args) and prints the best time over several rounds as nanoseconds per element. Where
 * flops_per_element is not 0, also GFLOP/s and the share of the core's float32 fma peak at this level. */
void kc_bench(kc *k, const char *label, size_t elements, double flops_per_element, kc_run run, void *args);

/* The same for an int8 slot: also the nanoseconds of one run, and, where macs_per_element is not 0, GMAC/s and the
 * share of the core's int8 peak at this level. */
void kc_bench_i8(kc *k, const char *label, size_t elements, double macs_per_element, kc_run run, void *args);

/* Giga fused multiply-adds a second of one core at a level, by registers alone; 0 where unknown. */
double kc_peak_f32_gfma(uint32_t isa);
/* Giga int8 multiply-accumulates a second, by the level's widest instructions that lose no bit (vpdpbusd, vpmaddwd with
 * vpaddd, smmla, sdot, smull with sadalp); 0 where unknown. */
double kc_peak_i8_gmac(uint32_t isa);
uint64_t kc_nanoseconds(void);

#endif /* KCHECK_H */

#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>

#include "kernels/unroll.h"
#include "keypilot/keypilot.h"

#include "kcheck_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* A round is shorter than a scheduler's time slice: on a busy machine some rounds then run undisturbed. */
#define ROUNDS 40
#define ROUND_NANOSECONDS 1000000u
#define ENOUGH_NANOSECONDS 200000000u /* for rounds that cannot be so short */
#define PEAK_ROUNDS 7
#define PEAK_STEPS 200000

uint64_t kc_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The best time of one run over several rounds, in nanoseconds. */
static double best_time(const kc *k, kc_run run, void *args) {
  double best = 1e30;
  size_t repeats = 1;
  const uint64_t first = kc_nanoseconds();
  for (int round = 0; round < ROUNDS && (round < 3 || kc_nanoseconds() - first < ENOUGH_NANOSECONDS);) {
    const uint64_t start = kc_nanoseconds();
    for (size_t i = 0; i < repeats; i++) run(&k->tested, args);
    const uint64_t elapsed = kc_nanoseconds() - start;
    if (elapsed < ROUND_NANOSECONDS / 2 && round == 0) {
      repeats *= 2;
      continue;
    }
    const double each = (double)elapsed / (double)repeats;
    if (each < best) best = each;
    round++;
  }
  return best;
}

void kc_bench(kc *k, const char *label, size_t elements, double flops_per_element, kc_run run, void *args) {
  const double per_element = best_time(k, run, args) / (double)elements;
  printf("%-16s %-10s %-30s %9.4f ns/element", k->slot, kp_isa_name(k->isa), label, per_element);
  if (flops_per_element > 0) {
    const double gflops = flops_per_element / per_element, peak = 2.0 * kc_peak_f32_gfma(k->isa);
    printf(" %8.2f GFLOP/s", gflops);
    if (peak > 0) printf(" (%.0f %% of peak)", 100.0 * gflops / peak);
  }
  printf("\n");
  fflush(stdout);
}

void kc_bench_i8(kc *k, const char *label, size_t elements, double macs_per_element, kc_run run, void *args) {
  const double best = best_time(k, run, args), per_element = best / (double)elements;
  printf("%-16s %-10s %-30s %10.0f ns %9.4f ns/element", k->slot, kp_isa_name(k->isa), label, best, per_element);
  if (macs_per_element > 0) {
    const double gmacs = macs_per_element / per_element, peak = kc_peak_i8_gmac(k->isa);
    printf(" %8.2f GMAC/s", gmacs);
    if (peak > 0) printf(" (%.0f %% of %.0f)", 100.0 * gmacs / peak, peak);
  }
  printf("\n");
  fflush(stdout);
}

/* Register-only loops of independent chains, enough to hide the latency. The empty asm keeps the compiler from
 * folding a chain. */
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void fma_avx2(void) {
  __m256 acc[12];
  const __m256 a = _mm256_set1_ps(0.999f);
  KP_UNROLL
  for (int j = 0; j < 12; j++) acc[j] = _mm256_set1_ps(1.0f);
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 12; j++) {
      acc[j] = _mm256_fmadd_ps(acc[j], a, a);
      __asm__ volatile("" : "+x"(acc[j]));
    }
  }
}

__attribute__((target("avx512f"))) static void fma_avx512(void) {
  __m512 acc[12];
  const __m512 a = _mm512_set1_ps(0.999f);
  KP_UNROLL
  for (int j = 0; j < 12; j++) acc[j] = _mm512_set1_ps(1.0f);
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 12; j++) {
      acc[j] = _mm512_fmadd_ps(acc[j], a, a);
      __asm__ volatile("" : "+v"(acc[j]));
    }
  }
}

__attribute__((target("avx512f,avx512vnni"))) static void dot_avx512vnni(void) {
  __m512i acc[12];
  const __m512i a = _mm512_set1_epi8(1);
  KP_UNROLL
  for (int j = 0; j < 12; j++) acc[j] = _mm512_setzero_si512();
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 12; j++) {
      acc[j] = _mm512_dpbusd_epi32(acc[j], a, a);
      __asm__ volatile("" : "+v"(acc[j]));
    }
  }
}

__attribute__((target("avx512f,avx512bw"))) static void madd_avx512(void) {
  __m512i acc[12];
  __m512i a = _mm512_set1_epi16(1);
  KP_UNROLL
  for (int j = 0; j < 12; j++) acc[j] = _mm512_setzero_si512();
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 12; j++) {
      __asm__ volatile("" : "+v"(a));
      acc[j] = _mm512_add_epi32(acc[j], _mm512_madd_epi16(a, a));
      __asm__ volatile("" : "+v"(acc[j]));
    }
  }
}

__attribute__((target("avx2"))) static void madd_avx2(void) {
  __m256i acc[12];
  __m256i a = _mm256_set1_epi16(1);
  KP_UNROLL
  for (int j = 0; j < 12; j++) acc[j] = _mm256_setzero_si256();
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 12; j++) {
      __asm__ volatile("" : "+x"(a));
      acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(a, a));
      __asm__ volatile("" : "+x"(acc[j]));
    }
  }
}
#elif defined(__aarch64__)
static void fma_neon(void) {
  float32x4_t acc[16];
  const float32x4_t a = vdupq_n_f32(0.999f);
  KP_UNROLL
  for (int j = 0; j < 16; j++) acc[j] = vdupq_n_f32(1.0f);
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 16; j++) {
      acc[j] = vfmaq_f32(a, acc[j], a);
      __asm__ volatile("" : "+w"(acc[j]));
    }
  }
}

__attribute__((target("arch=armv8.2-a+dotprod"))) static void dot_dotprod(void) {
  int32x4_t acc[16];
  const int8x16_t a = vdupq_n_s8(1);
  KP_UNROLL
  for (int j = 0; j < 16; j++) acc[j] = vdupq_n_s32(0);
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 16; j++) {
      acc[j] = vdotq_s32(acc[j], a, a);
      __asm__ volatile("" : "+w"(acc[j]));
    }
  }
}

__attribute__((target("arch=armv8.2-a+dotprod+i8mm"))) static void dot_i8mm(void) {
  int32x4_t acc[12];
  const int8x16_t a = vdupq_n_s8(1);
  KP_UNROLL
  for (int j = 0; j < 12; j++) acc[j] = vdupq_n_s32(0);
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 12; j++) {
      acc[j] = vmmlaq_s32(acc[j], a, a);
      __asm__ volatile("" : "+w"(acc[j]));
    }
  }
}

/* Two products of -127..127 by -128..127 fit in 16 bits: smull, smlal2, sadalp. */
static void mull_neon(void) {
  int32x4_t acc[8];
  int8x16_t a = vdupq_n_s8(1);
  KP_UNROLL
  for (int j = 0; j < 8; j++) acc[j] = vdupq_n_s32(0);
  for (int i = 0; i < PEAK_STEPS; i++) {
    KP_UNROLL
    for (int j = 0; j < 8; j++) {
      __asm__ volatile("" : "+w"(a));
      const int16x8_t product = vmull_s8(vget_low_s8(a), vget_low_s8(a));
      acc[j] = vpadalq_s16(acc[j], vmlal_high_s8(product, a, a));
      __asm__ volatile("" : "+w"(acc[j]));
    }
  }
}
#endif

/* 1e9 operations a second of a loop that does `operations`. */
static double rate(void (*loop)(void), double operations) {
  uint64_t best = UINT64_MAX;
  for (int round = 0; round < PEAK_ROUNDS; round++) {
    const uint64_t start = kc_nanoseconds();
    loop();
    const uint64_t elapsed = kc_nanoseconds() - start;
    if (elapsed < best) best = elapsed;
  }
  return operations / (double)best;
}

double kc_peak_f32_gfma(uint32_t isa) {
#if defined(__x86_64__)
  if (isa & KP_ISA_AVX512) return rate(fma_avx512, 12.0 * 16.0 * PEAK_STEPS);
  if (isa & KP_ISA_AVX2) return rate(fma_avx2, 12.0 * 8.0 * PEAK_STEPS);
#elif defined(__aarch64__)
  if (isa & KP_ISA_NEON) return rate(fma_neon, 16.0 * 4.0 * PEAK_STEPS);
#endif
  (void)isa;
  return 0.0;
}

double kc_peak_i8_gmac(uint32_t isa) {
#if defined(__x86_64__)
  if (isa & KP_ISA_AVX512VNNI) return rate(dot_avx512vnni, 12.0 * 64.0 * PEAK_STEPS);
  if (isa & KP_ISA_AVX512) return rate(madd_avx512, 12.0 * 32.0 * PEAK_STEPS);
  if (isa & KP_ISA_AVX2) return rate(madd_avx2, 12.0 * 16.0 * PEAK_STEPS);
#elif defined(__aarch64__)
  if (isa & KP_ISA_I8MM) return rate(dot_i8mm, 12.0 * 32.0 * PEAK_STEPS);
  if (isa & KP_ISA_DOTPROD) return rate(dot_dotprod, 16.0 * 16.0 * PEAK_STEPS);
  if (isa & KP_ISA_NEON) return rate(mull_neon, 8.0 * 16.0 * PEAK_STEPS);
#endif
  (void)isa;
  return 0.0;
}

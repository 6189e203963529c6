/* Usage: kcheck [--seed N] [--slot NAME] [--bench] [--exhaustive] [--list]
 * Exit code: 0, 1 where a check fails, 2 where the arguments are wrong. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keypilot/keypilot.h"

#include "kcheck_internal.h"

#define KC_MAX_REPORTS 20

static kc run_state;

static const kc_check *const groups[] = {
    kc_dispatch,     kc_accuracy, kc_elementwise,  kc_rows,        kc_spatial, kc_attention, kc_picture,
    kc_attention_i8, kc_gemm_i8,  kc_depthwise_i8, kc_quantize_i8, kc_pool_i8, kc_gemm_f32,
};

const kp_kernels *kc_reference(const kc *k) { return &k->reference; }
const kp_kernels *kc_tested(const kc *k) { return &k->tested; }
uint32_t kc_isa(const kc *k) { return k->isa; }
bool kc_exhaustive(const kc *k) { return k->exhaustive; }

static bool begin_failure(kc *k) {
  if (++k->failure_count > KC_MAX_REPORTS) return false;
  printf("FAIL %s, level %s, %s, seed %" PRIu64 ": ", k->slot, kp_isa_name(k->isa), k->shape, k->seed);
  return true;
}

void kc_fail(kc *k, const char *format, ...) {
  if (!begin_failure(k)) return;
  va_list args;
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  printf("\n");
}

bool kc_equal(kc *k, const void *expected, const void *got, size_t n, size_t size) {
  if (n == 0 || memcmp(expected, got, n * size) == 0) return true;
  const unsigned char *a = expected, *b = got;
  size_t i = 0;
  while (memcmp(a + i * size, b + i * size, size) == 0) i++;
  if (begin_failure(k)) {
    printf("first difference at index %zu of %zu: expected 0x", i, n);
    for (size_t j = size; j-- > 0;) printf("%02x", a[i * size + j]);
    printf(", got 0x");
    for (size_t j = size; j-- > 0;) printf("%02x", b[i * size + j]);
    printf("\n");
  }
  return false;
}

bool kc_equal_floats(kc *k, const float *expected, const float *got, size_t n) {
  if (n == 0 || memcmp(expected, got, n * sizeof *got) == 0) return true;
  for (size_t i = 0; i < n; i++) {
    if (memcmp(&expected[i], &got[i], sizeof *got) == 0 || (isnan(expected[i]) && isnan(got[i]))) continue;
    kc_fail(k, "first difference at index %zu of %zu: expected %a (%.9g), got %a (%.9g)", i, n, (double)expected[i],
            (double)expected[i], (double)got[i], (double)got[i]);
    return false;
  }
  return true;
}

static uint64_t hash(uint64_t seed, const char *text) { /* FNV-1a */
  uint64_t h = 0xcbf29ce484222325u ^ seed;
  for (; *text; text++) h = (h ^ (unsigned char)*text) * 0x100000001b3u;
  return h;
}

/* The levels of this processor, lowest first, each with those below it. */
static size_t list_levels(uint32_t levels[32]) {
  const uint32_t all = kp_cpu_isa();
  size_t count = 0;
  levels[count++] = KP_ISA_SCALAR;
  for (uint32_t bit = 1; bit != 0; bit <<= 1) {
    if (all & bit) levels[count++] = all & (bit | (bit - 1));
  }
  return count;
}

/* An inaccessible page was touched by a kernel of the running case. The fault is synchronous and kernels hold no lock
 * of the C library, so printing is safe here. */
static void report_fault(int signal_number) {
  const kc *k = &run_state;
  printf("FAIL %s, level %s, %s, seed %" PRIu64 ": access outside a buffer (signal %d)\n", k->slot, kp_isa_name(k->isa),
         k->shape, k->seed, signal_number);
  fflush(stdout);
  _Exit(1);
}

static void run(kc *k, const kc_check *check, uint32_t isa, bool bench) {
  k->slot = check->slot;
  k->isa = isa;
  k->spread = bench;
  k->random = hash(k->seed, check->slot);
  kp_kernels_init(&k->tested, isa);
  snprintf(k->shape, sizeof k->shape, "(no case)");
  (bench ? check->bench : check->check)(k);
  kc_release_buffers(k);
}

int main(int argc, char **argv) {
  kc *k = &run_state;
  const char *slot = NULL;
  bool bench = false, list = false, found = false;
  k->seed = (uint64_t)time(NULL);
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--bench") == 0) {
      bench = true;
    } else if (strcmp(argv[i], "--exhaustive") == 0) {
      k->exhaustive = true;
    } else if (strcmp(argv[i], "--list") == 0) {
      list = true;
    } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
      k->seed = strtoull(argv[++i], NULL, 0);
    } else if (strcmp(argv[i], "--slot") == 0 && i + 1 < argc) {
      slot = argv[++i];
    } else {
      fprintf(stderr, "usage: %s [--seed N] [--slot NAME] [--bench] [--exhaustive] [--list]\n", argv[0]);
      return 2;
    }
  }
  signal(SIGSEGV, report_fault);
  signal(SIGBUS, report_fault);
  uint32_t levels[32];
  const size_t level_count = list_levels(levels);
  kp_kernels_init(&k->reference, KP_ISA_SCALAR);
  if (!list) printf("kcheck: seed %" PRIu64 ", levels up to %s\n", k->seed, kp_isa_name(levels[level_count - 1]));
  for (size_t l = 0; bench && l < level_count; l++) {
    printf("peak, level %s: %.1f GFMA/s float32, %.1f GMAC/s int8\n", kp_isa_name(levels[l]),
           kc_peak_f32_gfma(levels[l]), kc_peak_i8_gmac(levels[l]));
  }
  for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
    for (const kc_check *check = groups[g]; check->slot; check++) {
      if (slot && strcmp(slot, check->slot) != 0) continue;
      found = true;
      if (list) {
        printf("%s\n", check->slot);
      } else if (bench) {
        for (size_t l = 0; check->bench && l < level_count; l++) run(k, check, levels[l], true);
      } else if (check->check) {
        const size_t cases = k->case_count, failures = k->failure_count;
        for (size_t l = 1; l < level_count; l++) run(k, check, levels[l], false);
        printf("%-24s %7zu cases  %s\n", check->slot, k->case_count - cases,
               k->failure_count == failures ? "ok" : "FAILED");
        fflush(stdout);
      }
    }
  }
  if (!found) {
    fprintf(stderr, "kcheck: no slot named %s; --list names them\n", slot);
    return 2;
  }
  if (!list && !bench) printf("%zu cases, %zu failures\n", k->case_count, k->failure_count);
  return k->failure_count > 0;
}

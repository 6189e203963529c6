#include <string.h>

#include "keypilot/keypilot.h"

#include "kcheck.h"

/* A table is nothing but pointers to functions, and gemm_i8's layout, which is not 0: what kp_kernels_init leaves out
 * is still NULL here. */
static void check_filled(kc *k) {
  typedef void (*slot)(void);
  kp_kernels table;
  memset(&table, 0, sizeof table);
  kp_kernels_init(&table, kc_isa(k));
  const slot none = NULL;
  for (size_t i = 0; i < sizeof table / sizeof(slot); i++) {
    kc_case(k, "slot %zu of kp_kernels", i);
    if (memcmp((const char *)&table + i * sizeof(slot), &none, sizeof none) == 0) kc_fail(k, "is NULL");
  }
}

static void expect_cap(kc *k, uint32_t mask, const char *name, bool known, uint32_t expected) {
  uint32_t capped = mask;
  kc_case(k, "kp_isa_cap(0x%x, \"%s\")", mask, name);
  if (kp_isa_cap(&capped, name) != known) kc_fail(k, "expected %s", known ? "true" : "false");
  if (capped != expected) kc_fail(k, "expected 0x%x, got 0x%x", expected, capped);
}

static void check_levels(kc *k) {
  const uint32_t x86 = KP_ISA_AVX2 | KP_ISA_AVX512 | KP_ISA_AVX512VNNI;
  const uint32_t arm = KP_ISA_NEON | KP_ISA_DOTPROD | KP_ISA_I8MM;
  expect_cap(k, x86, "scalar", true, KP_ISA_SCALAR);
  expect_cap(k, x86, "avx2", true, KP_ISA_AVX2);
  expect_cap(k, x86, "avx512", true, KP_ISA_AVX2 | KP_ISA_AVX512);
  expect_cap(k, x86, "avx512vnni", true, x86);
  expect_cap(k, KP_ISA_AVX2, "avx512", true, KP_ISA_AVX2);
  expect_cap(k, arm, "neon", true, KP_ISA_NEON);
  expect_cap(k, arm, "dotprod", true, KP_ISA_NEON | KP_ISA_DOTPROD);
  expect_cap(k, arm, "i8mm", true, arm);
  expect_cap(k, x86, "sse2", false, x86);
  expect_cap(k, x86, "", false, x86);
  static const char *const names[] = {"scalar", "avx2", "avx512", "avx512vnni", "neon", "dotprod", "i8mm"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    const uint32_t mask = i == 0 ? 0 : 1u << (i - 1);
    kc_case(k, "kp_isa_name(0x%x)", mask);
    if (strcmp(kp_isa_name(mask), names[i]) != 0) kc_fail(k, "expected %s, got %s", names[i], kp_isa_name(mask));
  }
}

const kc_check kc_dispatch[] = {
    {"every_slot_is_filled", check_filled, NULL},
    {"isa_levels", check_levels, NULL},
    {0},
};

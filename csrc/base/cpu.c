#include <string.h>

#include "keypilot/keypilot.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

/* Lowest first; the families x86 and Arm follow each other. */
static const struct {
  const char *name;
  uint32_t bit;
  uint32_t above; /* the family's higher levels */
} levels[] = {
    {"avx2", KP_ISA_AVX2, KP_ISA_AVX512 | KP_ISA_AVX512VNNI},
    {"avx512", KP_ISA_AVX512, KP_ISA_AVX512VNNI},
    {"avx512vnni", KP_ISA_AVX512VNNI, 0},
    {"neon", KP_ISA_NEON, KP_ISA_DOTPROD | KP_ISA_I8MM},
    {"dotprod", KP_ISA_DOTPROD, KP_ISA_I8MM},
    {"i8mm", KP_ISA_I8MM, 0},
};

#define LEVEL_COUNT (sizeof levels / sizeof levels[0])

#if defined(__aarch64__) && defined(__APPLE__)
static bool has_feature(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}
#endif

uint32_t kp_cpu_isa(void) {
  uint32_t mask = KP_ISA_SCALAR;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return mask;
  mask |= KP_ISA_AVX2;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return mask;
  }
  mask |= KP_ISA_AVX512;
  if (__builtin_cpu_supports("avx512vnni")) mask |= KP_ISA_AVX512VNNI;
#elif defined(__aarch64__)
  mask |= KP_ISA_NEON;
#if defined(__linux__)
  const bool dotprod = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
  const bool i8mm = getauxval(AT_HWCAP2) & HWCAP2_I8MM;
#elif defined(__APPLE__)
  const bool dotprod = has_feature("hw.optional.arm.FEAT_DotProd");
  const bool i8mm = has_feature("hw.optional.arm.FEAT_I8MM");
#else
  const bool dotprod = false, i8mm = false;
#endif
  if (dotprod) mask |= KP_ISA_DOTPROD;
  if (dotprod && i8mm) mask |= KP_ISA_I8MM;
#endif
  return mask;
}

bool kp_isa_cap(uint32_t *mask, const char *name) {
  if (strcmp(name, "scalar") == 0) {
    *mask = KP_ISA_SCALAR;
    return true;
  }
  for (size_t i = 0; i < LEVEL_COUNT; i++) {
    if (strcmp(name, levels[i].name) == 0) {
      *mask &= ~levels[i].above;
      return true;
    }
  }
  return false;
}

const char *kp_isa_name(uint32_t mask) {
  for (size_t i = LEVEL_COUNT; i-- > 0;) {
    if (mask & levels[i].bit) return levels[i].name;
  }
  return "scalar";
}

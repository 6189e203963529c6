#include "kernels/dispatch.h"

#include "keypilot/keypilot.h"

void kp_kernels_init(kp_kernels *kernels, uint32_t isa) {
  kp_kernels_init_c(kernels);
#if defined(__x86_64__) || defined(_M_X64)
  if (isa & KP_ISA_AVX2) kp_kernels_init_avx2(kernels);
  if (isa & KP_ISA_AVX512) kp_kernels_init_avx512(kernels);
  if (isa & KP_ISA_AVX512VNNI) kp_kernels_init_avx512vnni(kernels);
#elif defined(__aarch64__)
  if (isa & KP_ISA_NEON) kp_kernels_init_neon(kernels);
  if (isa & KP_ISA_DOTPROD) kp_kernels_init_dotprod(kernels);
  if (isa & KP_ISA_I8MM) kp_kernels_init_i8mm(kernels);
#else
  (void)isa;
#endif
}

#include "kernels/dispatch.h"
#include "kernels/i8mm/kernels_i8mm.h"

void kp_kernels_init_i8mm(kp_kernels *kernels) {
  kernels->gemm_i8 = (kp_gemm_i8){.run = kp_gemm_i8_i8mm, .nr = 16, .kr = 8};
}

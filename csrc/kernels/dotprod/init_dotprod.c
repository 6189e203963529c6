#include "kernels/dispatch.h"
#include "kernels/dotprod/kernels_dotprod.h"

void kp_kernels_init_dotprod(kp_kernels *kernels) {
  kernels->gemm_i8 = (kp_gemm_i8){.run = kp_gemm_i8_dotprod, .nr = 16, .kr = 4};
  kernels->attention_i8 = kp_attention_i8_dotprod;
}

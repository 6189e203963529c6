#include "kernels/avx512vnni/kernels_avx512vnni.h"

#include "kernels/dispatch.h"

void kp_kernels_init_avx512vnni(kp_kernels *kernels) {
  kernels->gemm_i8 = (kp_gemm_i8){.run = kp_gemm_i8_avx512vnni,
                                  .nr = KP_GEMM_I8_NR_AVX512VNNI,
                                  .kr = KP_GEMM_I8_KR_AVX512VNNI,
                                  .a_shift = KP_GEMM_I8_A_SHIFT_AVX512VNNI};
  kernels->depthwise_i8 = kp_depthwise_i8_avx512vnni;
  kernels->attention_i8 = kp_attention_i8_avx512vnni;
  kernels->resize_row_u8 = kp_resize_row_u8_avx512vnni;
}

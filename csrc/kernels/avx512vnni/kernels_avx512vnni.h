/* The AVX-512 kernels that need VNNI. Contracts: kernels.h. */
#ifndef KP_KERNELS_AVX512VNNI_KERNELS_AVX512VNNI_H
#define KP_KERNELS_AVX512VNNI_KERNELS_AVX512VNNI_H

#include "kernels/kernels.h"

/* The layout of kp_gemm_i8_avx512vnni's right operand: a vector is 16 columns of 4 bytes along the depth. */
#define KP_GEMM_I8_NR_AVX512VNNI 16
#define KP_GEMM_I8_KR_AVX512VNNI 4
#define KP_GEMM_I8_A_SHIFT_AVX512VNNI 128

void kp_gemm_i8_avx512vnni(const kp_gemm_i8_args *args);
void kp_depthwise_i8_avx512vnni(const kp_depthwise_i8_args *args);
void kp_attention_i8_avx512vnni(const kp_attention_i8 *args);
void kp_resize_row_u8_avx512vnni(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                                 const int32_t *counts, const int32_t *weights, size_t weight_stride);

#endif /* KP_KERNELS_AVX512VNNI_KERNELS_AVX512VNNI_H */

/* The kernels for NEON with int8 matrix products (FEAT_I8MM). Contracts: kernels.h. */
#ifndef KP_KERNELS_I8MM_KERNELS_I8MM_H
#define KP_KERNELS_I8MM_KERNELS_I8MM_H

#include "kernels/kernels.h"

/* nr 16, kr 8. */
void kp_gemm_i8_i8mm(const kp_gemm_i8_args *args);

#endif /* KP_KERNELS_I8MM_KERNELS_I8MM_H */

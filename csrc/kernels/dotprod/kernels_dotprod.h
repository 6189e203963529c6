/* The kernels for NEON with dot products (FEAT_DotProd). Contracts: kernels.h. */
#ifndef KP_KERNELS_DOTPROD_KERNELS_DOTPROD_H
#define KP_KERNELS_DOTPROD_KERNELS_DOTPROD_H

#include "kernels/kernels.h"

/* nr 16, kr 4. */
void kp_gemm_i8_dotprod(const kp_gemm_i8_args *args);
void kp_attention_i8_dotprod(const kp_attention_i8 *args);

#endif /* KP_KERNELS_DOTPROD_KERNELS_DOTPROD_H */

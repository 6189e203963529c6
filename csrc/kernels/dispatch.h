/* One initialiser per folder: each writes the slots for which its level has a kernel and leaves the others alone.
 * Those above the scalar one are compiled for their level and may run only where it is present. */
#ifndef KP_KERNELS_DISPATCH_H
#define KP_KERNELS_DISPATCH_H

#include "kernels/kernels.h"

void kp_kernels_init_c(kp_kernels *kernels); /* every slot */
void kp_kernels_init_avx2(kp_kernels *kernels);
void kp_kernels_init_avx512(kp_kernels *kernels);
void kp_kernels_init_avx512vnni(kp_kernels *kernels);
void kp_kernels_init_neon(kp_kernels *kernels);
void kp_kernels_init_dotprod(kp_kernels *kernels);
void kp_kernels_init_i8mm(kp_kernels *kernels);

#endif /* KP_KERNELS_DISPATCH_H */

/* OpenBLAS, on which fp32 models compute their matrix products. An int8 model has no need of it. */
#ifndef KP_OPS_BLAS_H
#define KP_OPS_BLAS_H

#include "base/status.h"

typedef struct kp_blas {
  void (*sgemm)(void); /* scipy_cblas_sgemm */
  bool small_kernels;  /* it has a second set of kernels, for small products, which reads operands where they lie */
} kp_blas;

/* Finds OpenBLAS and keeps it to the calling thread: parallelism is ours. It is linked with the library or, where that is built
 * with KP_OPENBLAS_AT_RUN_TIME, one that the process has loaded; KP_ERROR_UNSUPPORTED where there is none. */
kp_status kp_blas_find(kp_blas *blas, kp_error *error);

#endif /* KP_OPS_BLAS_H */

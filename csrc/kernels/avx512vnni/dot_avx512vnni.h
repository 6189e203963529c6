/* Products of unsigned by signed bytes, four to a lane. */
#ifndef KP_KERNELS_AVX512VNNI_DOT_AVX512VNNI_H
#define KP_KERNELS_AVX512VNNI_DOT_AVX512VNNI_H

#include <immintrin.h>

#include "kernels/unroll.h"

/* *acc += x * w. Where the intrinsic stands in a loop, gcc 12 copies each accumulator before and after it: in small
 * tiles that takes longer than the products. */
KP_SPECIALIZED void kp_add_products_avx512vnni(__m512i *acc, __m512i x, __m512i w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(*acc) : "v"(x), "vm"(w));
}

#endif /* KP_KERNELS_AVX512VNNI_DOT_AVX512VNNI_H */

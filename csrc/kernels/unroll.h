/* KP_UNROLL before a loop of constant length makes it straight-line code, so that an array of accumulators indexed by
 * it lives in registers. gcc needs to be told at -O2. */
#ifndef KP_KERNELS_UNROLL_H
#define KP_KERNELS_UNROLL_H

#if defined(__clang__)
#define KP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KP_UNROLL _Pragma("GCC unroll 32")
#endif

/* For a function whose constant arguments give its loops their lengths. */
#define KP_SPECIALIZED static inline __attribute__((always_inline))

#endif /* KP_KERNELS_UNROLL_H */

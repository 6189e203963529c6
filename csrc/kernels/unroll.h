/* KP_UNROLL before a loop of constant length makes it straight-line code, so that an array of accumulators indexed by
 * it lives in registers. gcc needs to be told at -O2. */
#ifndef KP_KERNELS_UNROLL_H
#define KP_KERNELS_UNROLL_H

#include <stddef.h>

#if defined(__clang__)
#define KP_UNROLL _Pragma("clang loop unroll(full)")
#else
#define KP_UNROLL _Pragma("GCC unroll 32")
#endif

/* For a function whose constant arguments give its loops their lengths. */
#define KP_SPECIALIZED static inline __attribute__((always_inline))

/* statement(count) with `count`, from 1 to `most` <= 16, as a constant. */
#define KP_CONSTANT_CASE(n, most, statement) \
  case n:                                    \
    if (n <= (most)) statement(n);           \
    break;
/* clang-format off */
#define KP_WITH_CONSTANT(count, most, statement) \
  switch (count) { \
    KP_CONSTANT_CASE(1, most, statement) \
    KP_CONSTANT_CASE(2, most, statement) \
    KP_CONSTANT_CASE(3, most, statement) \
    KP_CONSTANT_CASE(4, most, statement) \
    KP_CONSTANT_CASE(5, most, statement) \
    KP_CONSTANT_CASE(6, most, statement) \
    KP_CONSTANT_CASE(7, most, statement) \
    KP_CONSTANT_CASE(8, most, statement) \
    KP_CONSTANT_CASE(9, most, statement) \
    KP_CONSTANT_CASE(10, most, statement) \
    KP_CONSTANT_CASE(11, most, statement) \
    KP_CONSTANT_CASE(12, most, statement) \
    KP_CONSTANT_CASE(13, most, statement) \
    KP_CONSTANT_CASE(14, most, statement) \
    KP_CONSTANT_CASE(15, most, statement) \
    KP_CONSTANT_CASE(16, most, statement) \
  }
/* clang-format on */

/* n in as few passes as `most` allows, and all about as large, since a small one waits for its own results. */
KP_SPECIALIZED size_t kp_pass_size(size_t n, size_t most) {
  const size_t passes = n > 0 ? (n + most - 1) / most : 1;
  return (n + passes - 1) / passes;
}

#endif /* KP_KERNELS_UNROLL_H */

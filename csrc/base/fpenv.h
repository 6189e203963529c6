/* The floating-point environment that the numerics contract fixes: round to nearest even, no flush to zero, no
 * denormals-are-zero, no traps. Set at every public entry and in every worker; restored on the way out. */
#ifndef KP_BASE_FPENV_H
#define KP_BASE_FPENV_H

#include <stdint.h>

typedef struct kp_fpenv {
  uint64_t control; /* MXCSR or FPCR as found */
} kp_fpenv;

kp_fpenv kp_fpenv_enter(void);
void kp_fpenv_leave(kp_fpenv saved);

#endif /* KP_BASE_FPENV_H */

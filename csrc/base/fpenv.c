#include "base/fpenv.h"

#if defined(__x86_64__) || defined(__SSE2__)

#include <xmmintrin.h>

/* MXCSR after reset: every exception masked, round to nearest even, flush-to-zero and denormals-are-zero off. */
#define MXCSR_DEFAULT 0x1F80u

static uint64_t read_control(void) { return _mm_getcsr(); }

static void write_control(uint64_t control) { _mm_setcsr((unsigned)control); }

#define CONTROL_DEFAULT MXCSR_DEFAULT

#elif defined(__aarch64__)

static uint64_t read_control(void) {
  uint64_t control;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
  return control;
}

static void write_control(uint64_t control) { __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory"); }

/* FPCR of zero: round to nearest even, no flushing, no traps, NaNs propagate. */
#define CONTROL_DEFAULT 0u

#else

#include <fenv.h>

/* C offers only the rounding mode. */
static uint64_t read_control(void) { return (uint64_t)fegetround(); }

static void write_control(uint64_t control) { fesetround((int)control); }

#define CONTROL_DEFAULT FE_TONEAREST

#endif

kp_fpenv kp_fpenv_enter(void) {
  kp_fpenv saved = {.control = read_control()};
  write_control(CONTROL_DEFAULT);
  return saved;
}

void kp_fpenv_leave(kp_fpenv saved) { write_control(saved.control); }

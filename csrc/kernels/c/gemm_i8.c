#include "kernels/c/epilogue_i8_c.h"
#include "kernels/c/kernels_c.h"

static int32_t dot(const kp_gemm_i8_args *args, size_t row, const int8_t *b) {
  int32_t acc = 0;
  for (size_t t = 0; t < args->tap_count; t++) {
    const int8_t *a = args->taps ? args->taps[row * args->tap_count + t] : args->a + row * args->a_stride;
    for (size_t k = 0; k < args->depth; k++) acc += a[k] * *b++;
  }
  return acc;
}

/* nr and kr are 1: a column of b is its taps one after another. */
void kp_gemm_i8_c(const kp_gemm_i8_args *args) {
  const size_t k = args->tap_count * args->depth;
  for (size_t r = 0; r < args->rows; r++) {
    for (size_t c = 0; c < args->columns; c++) {
      kp_epilogue_i8_c(&args->epilogue, r, c, dot(args, r, args->b + c * k));
    }
  }
}

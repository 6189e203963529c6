#include "kernels/c/epilogue_i8_c.h"
#include "kernels/c/kernels_c.h"

void kp_depthwise_i8_c(const kp_depthwise_i8_args *args) {
  for (size_t p = 0; p < args->rows * args->width; p++) {
    const int8_t *const *taps = args->taps + p / args->width * args->row_step + p % args->width * args->pixel_step;
    for (size_t c = 0; c < args->channels; c++) {
      int32_t acc = 0;
      for (size_t t = 0; t < args->tap_count; t++) acc += taps[t][c] * args->weights[t * args->weight_stride + c];
      kp_epilogue_i8_c(&args->epilogue, p, c, acc);
    }
  }
}

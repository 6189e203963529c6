#include "kernels/c/kernels_c.h"

void kp_transpose_32_c(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                       size_t columns) {
  for (size_t c = 0; c < columns; c++) {
    for (size_t r = 0; r < rows; r++) {
      dst[c * dst_stride + r] = src[r * src_stride + c];
    }
  }
}

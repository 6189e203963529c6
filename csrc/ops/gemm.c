#include "ops/gemm.h"

#include <cblas.h>

#include "ops/shape.h"

/* OpenBLAS packs both operands before it multiplies them, which costs much where m, n or k is small. Some of its cores
 * have a second set of kernels that read the operands where they lie, and take them where m * n * k is at most
 * SMALL_MACS and, for b transposed, m * n at most SMALL_OUTPUTS and k at least SMALL_DEPTH
 * (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c). Larger products are cut to fit.
 * On Zen 4 that raises (64, 64, 320) from 46 to 54 GMAC/s, (9, 1024, 256) from 23 to 52, of a peak of 58. */
#define SMALL_MACS 1000000
#define SMALL_OUTPUTS 1200
#define SMALL_DEPTH 32

/* From this depth on, b transposed loses nothing; below, k steps are too few for its sums across lanes. */
#define TRANSPOSED_DEPTH 128
/* Rows that pay for transposing a weight. */
#define TRANSPOSE_ROWS 192

typedef struct tile {
  size_t rows, columns;
} tile;

/* The tile of c that one call computes. */
static tile choose_tile(const kp_blas *blas, bool b_transposed, size_t m, size_t n, size_t k) {
  const tile whole = {m, n};
  if (!blas->small_kernels) return whole;
  size_t outputs = SMALL_MACS / k;
  tile cut = whole;
  if (b_transposed) {
    /* Few rows leave no other choice at small depth; many are better packed. */
    if (k < SMALL_DEPTH || (k < TRANSPOSED_DEPTH && m >= 32)) return whole;
    outputs = kp_min_size(outputs, SMALL_OUTPUTS);
    cut.columns = kp_min_size(n, m < 16 ? 128 : 64);
  } else {
    cut.columns = kp_min_size(n, 512);
  }
  while (cut.columns > 16 && cut.columns * kp_min_size(m, 8) > outputs) cut.columns = kp_round_up(cut.columns / 2, 16);
  cut.rows = kp_min_size(m, outputs / cut.columns);
  if (cut.rows > 8 && cut.rows < m) cut.rows -= cut.rows % 8;
  return cut.rows >= kp_min_size(m, 4) ? cut : whole;
}

void kp_gemm_f32(const kp_op_call *call, bool b_transposed, size_t m, size_t n, size_t k, const float *a,
                 size_t a_stride, const float *b, size_t b_stride, float *c, size_t c_stride) {
  if (call->exact) {
    call->kernels->gemm_f32(c, c_stride, a, a_stride, b, b_stride, m, n, k);
    return;
  }
  __typeof__(&scipy_cblas_sgemm) sgemm = (__typeof__(&scipy_cblas_sgemm))call->blas->sgemm;
  tile step = choose_tile(call->blas, b_transposed, m, n, k);
  for (size_t row = 0; row < m; row += step.rows) {
    size_t rows = kp_min_size(step.rows, m - row);
    for (size_t column = 0; column < n; column += step.columns) {
      size_t columns = kp_min_size(step.columns, n - column);
      const float *right = b + (b_transposed ? column * b_stride : column);
      sgemm(CblasRowMajor, CblasNoTrans, b_transposed ? CblasTrans : CblasNoTrans, (blasint)rows, (blasint)columns,
            (blasint)k, 1.0f, a + row * a_stride, (blasint)a_stride, right, (blasint)b_stride, 0.0f,
            c + row * c_stride + column, (blasint)c_stride);
    }
  }
}

/* In an int8 model there is no choice: gemm_f32 takes (k, n). What was no weight when the model was opened has not been
 * packed so. */
static bool transposes(const kp_op_call *call, size_t m, size_t k) {
  if (call->exact) return call->packed == NULL;
  return m >= TRANSPOSE_ROWS && k < TRANSPOSED_DEPTH && call->blas->small_kernels;
}

size_t kp_gemm_prepare_scratch(const kp_op_call *call, size_t m, size_t n, size_t k) {
  return transposes(call, m, k) ? n * k : 0;
}

kp_gemm_weight kp_gemm_prepare(const kp_op_call *call, size_t m, size_t n, size_t k, float *scratch) {
  const float *w = call->inputs[1].data;
  if (!transposes(call, m, k)) {
    return call->exact ? (kp_gemm_weight){.data = call->packed, .stride = n, .transposed = false}
                       : (kp_gemm_weight){.data = w, .stride = k, .transposed = true};
  }
  call->kernels->transpose_32((uint32_t *)scratch, n, (const uint32_t *)w, k, n, k);
  return (kp_gemm_weight){.data = scratch, .stride = n, .transposed = false};
}

size_t kp_gemm_pack_bytes(const kp_op_call *call, size_t n, size_t k) {
  return call->exact ? n * k * sizeof(float) : 0;
}

void kp_gemm_pack(const kp_op_call *call, size_t n, size_t k, void *packed) {
  call->kernels->transpose_32(packed, n, call->inputs[1].data, k, n, k);
}

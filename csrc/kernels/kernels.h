/* The table of kernel slots. kp_kernels_init fills it with the scalar kernels, which are the definition, then
 * overwrites slots upwards with those of every level in `isa`. It is a pure function; a table never changes afterwards.
 *
 * Contract for every slot
 *   - Results are the scalar kernel's, bit for bit, on every level (tests/kcheck compares with memcmp). NaN payloads
 *     are the exception: inputs are finite at the door, and a NaN need only be a NaN.
 *   - No byte is read or written outside the stated extents. Any length is allowed, 0 included, unless a slot says
 *     otherwise.
 *   - Pointers need only the alignment of their element type, unless a slot says otherwise.
 *   - Buffers do not overlap, but for `dst` with an input where a slot says so: then they are equal or disjoint.
 *   - a * b + c is fmaf(a, b, c) where "fma" is written, and two roundings where it is not.
 *
 * Sums "in 16 lanes": lane l adds elements l, l + 16, l + 32, ... in ascending order, starting from 0; missing elements
 * of the last group add the identity (0 for sums, -inf for maxima). Then lanes l and l + 8 are combined for l < 8, l
 * and l + 4 for l < 4, l and l + 2 for l < 2, and 0 with 1: lower lane's value on the left.
 *
 * Sizes and strides are counted in elements, not bytes. docs/numerics.md has the formulas of the functions. */
#ifndef KP_KERNELS_KERNELS_H
#define KP_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The functions of docs/numerics.md, "Elementary functions". */
typedef enum kp_unary {
  KP_RELU = 0,
  KP_RELU6,
  KP_HARDSWISH,
  KP_HARDSIGMOID,
  KP_SIGMOID,
  KP_SILU,
  KP_GELU,       /* x * (0.5 + 0.5 * erf(x / sqrt 2)) */
  KP_GELU_TANH,  /* Hendrycks & Gimpel's tanh form */
  KP_QUICK_GELU, /* x * sigmoid(1.702 x) */
  KP_TANH,
  KP_EXP,
  KP_SQRT,
  KP_UNARY_COUNT
} kp_unary;

/* An activation fused into an epilogue: KP_ACT_NONE, or 1 + a kp_unary. */
typedef int32_t kp_act;
#define KP_ACT_NONE 0
#define KP_ACT(unary) (1 + (unary))

typedef enum kp_binary { KP_ADD = 0, KP_SUB, KP_MUL, KP_DIV, KP_MIN, KP_MAX, KP_BINARY_COUNT } kp_binary;

/* One query block of one head of one batch: out = softmax(scale * q k^T + mask) v. */
typedef struct kp_attention_f32 {
  const float *q; /* (queries, head_dim), rows q_stride apart */
  const float *k; /* (keys, head_dim), rows k_stride apart */
  const float *v; /* (keys, head_dim), rows v_stride apart */
  float *out;     /* (queries, head_dim), rows out_stride apart */
  size_t q_stride, k_stride, v_stride, out_stride;
  size_t queries, keys, head_dim; /* keys >= 1 */
  float scale;
  const float *mask; /* additive, (queries, keys) with rows mask_stride apart (0: one row for all); NULL: none */
  size_t mask_stride;
  float *scratch; /* kp_attention_f32_scratch(keys, head_dim) floats, aligned to 64 bytes; contents do not matter */
} kp_attention_f32;

#define KP_ATTENTION_KEY_TILE 64

/* ---- int8 ---- */

/* Adding this to a float of magnitude below 2^22 rounds it to the nearest integer, ties to even, into the sum's low
 * bits. */
#define KP_ROUNDING_SHIFT 12582912.0f /* 1.5 * 2^23 */

/* Arrays "by column, padded" have an element for each column, or channel, and are readable up to the next multiple of
 * this many; what is added does not matter, but that nothing traps. */
#define KP_COLUMN_PAD 64

/* A row that attention quantises and whose largest magnitude is below this becomes zeros: its inverse scale could
 * overflow. */
#define KP_ROW_ABSMAX_MIN 0x1p-100f

/* A row's scale as a share of its range: a little more than 1 / 255, so that no rounding leads beyond the 255th step,
 * wherever between two steps the zero point was rounded. */
#define KP_ROW_STEP 0x1.0102p-8f
/* A row of a smaller scale is quantised to zeros: its inverse could overflow. */
#define KP_ROW_SCALE_MIN 0x1p-100f

/* q = quantize(y, inverse, shift), with inverse = 1 / scale and shift = KP_ROUNDING_SHIFT + zero point:
 *   t = fma(y, inverse, shift)
 *   t = t > KP_ROUNDING_SHIFT - 128 ? t : KP_ROUNDING_SHIFT - 128        (a NaN becomes the lower bound)
 *   t = t < KP_ROUNDING_SHIFT + 127 ? t : KP_ROUNDING_SHIFT + 127
 * and q is the low byte of t's bits. */
typedef struct kp_quantizer {
  const float *inverse, *shift; /* by column, padded */
} kp_quantizer;

/* What becomes of an int32 accumulator of row r and column c, in this order:
 *   y = fma((float)(acc + offset[c]), scale[c], bias[c])
 *   or, with row_scale:
 *   y = fma((float)(acc + offset[c] - row_zero[r] * column_sum[c]), row_scale[r] * scale[c], bias[c])
 *   y = act(y)                                          SiLU and GELU by kp_act_i8: docs/numerics.md
 *   y = y + residual[r][c]                              or fma((float)(q - residual_zero[c]), residual_scale[c], y)
 *   dst[r][c] = y, or quantize(y, ...) */
typedef struct kp_epilogue_i8 {
  const int32_t *offset; /* by column, padded; as are the next ones */
  const float *scale;
  const float *bias;
  const float *row_scale;    /* (rows); NULL: none, nor the next two */
  const int32_t *row_zero;   /* (rows), in -128..127 */
  const int32_t *column_sum; /* by column, padded: the sum over k of b[k][c] */
  kp_act act;
  const float *residual_f32; /* (rows, columns), rows residual_stride apart; at most one of the two */
  const int8_t *residual_i8;
  size_t residual_stride;
  const int32_t *residual_zero;
  const float *residual_scale;
  float *dst_f32; /* (rows, columns), rows dst_stride apart; exactly one of the two */
  int8_t *dst_i8;
  size_t dst_stride;
  kp_quantizer quantizer; /* with dst_i8 */
} kp_epilogue_i8;

/* Taps whose sum is an int32. */
#define KP_MAX_SUM_TAPS (1 << 23)

/* acc[r][c] = the sum over k of a[r][k] * b[k][c], int32, then the epilogue. The row r of a is `tap_count` pieces of
 * `depth` >= 1 bytes: taps[r * tap_count + t], or a + r * a_stride where taps is NULL, and tap_count 1. dst may be
 * residual. */
typedef struct kp_gemm_i8_args {
  size_t rows, columns;
  const int8_t *a;
  size_t a_stride;
  const int8_t *const *taps;
  size_t tap_count, depth;
  const int8_t *b; /* packed, see kp_gemm_i8; aligned to 64 bytes */
  kp_epilogue_i8 epilogue;
} kp_gemm_i8_args;

/* A kernel with the layout of its right operand. Columns in panels of nr, the depth of each tap in groups of kr:
 *   b[panel][tap][depth / kr][nr][kr]
 * with zeros for what is missing. Weights lie in -127..127. A kernel that takes the left operand as unsigned computes
 * the sum of (a + a_shift) * b instead (a_shift 128, else 0); the caller's offset makes up for it:
 * -(a_shift + zero point) * b, summed over k. kr is at most KP_MAX_GEMM_I8_KR. */
#define KP_MAX_GEMM_I8_KR 16
typedef struct kp_gemm_i8 {
  void (*run)(const kp_gemm_i8_args *args);
  uint8_t nr, kr;
  uint8_t a_shift;
} kp_gemm_i8;

/* Depthwise: acc[p][c] = the sum over t of tap(p, t)[c] * weights[t * weight_stride + c], then the epilogue with pixels
 * for rows. Pixel p is the pixel x = p % width of row r = p / width, and
 *   tap(p, t) = taps[r * row_step + x * pixel_step + t]
 * With taps by column of the window, pixels side by side share pointers: pixel_step is the window's height times the
 * stride. Without, pixel_step is tap_count. weight_stride is channels rounded up to KP_COLUMN_PAD; what is added is
 * readable. row_scale is NULL. */
typedef struct kp_depthwise_i8_args {
  size_t rows, width, tap_count, channels;
  const int8_t *const *taps;
  size_t pixel_step, row_step;
  const int8_t *weights;
  size_t weight_stride;
  kp_epilogue_i8 epilogue;
} kp_depthwise_i8_args;

#define KP_ATTENTION_I8_HEAD_DIM 256

/* One head of one batch: out = softmax(scale * q k^T + mask) v, all queries.
 *   q8[i], sq[i] and k8[j], sk[j]: rows of q and k, v8[j][d], sv[d]: columns of v, each quantised symmetrically:
 *     x8 = the low byte of the bits of fma(x, 127 / a, KP_ROUNDING_SHIFT), s = a / 127, with a = max |x|;
 *     both 0 where a < KP_ROW_ABSMAX_MIN
 *   y[j] = (float)(sum over d of q8[d] * k8[j][d]) * sk[j]
 *   with a mask: y[j] = fma(y[j], sq[i] * scale, mask[j]), and c = log2(e) as a float; else c = (sq[i] * scale) * log2(e)
 *   m = max over j of y[j]; where m is -inf, out[i] = 0
 *   b = log2(255) - m * c                                    (product and difference rounded each)
 *   p[j] = u8(kp_exp2_i8(fma(y[j], c, b)))                   0 to 255: docs/numerics.md
 *   out[i][d] = ((float)(sum over j of p[j] * v8[j][d]) * sv[d]) * (1 / (float)(sum over j of p[j])) */
typedef struct kp_attention_i8 {
  const float *q; /* (queries, head_dim), rows q_stride apart */
  const float *k; /* (keys, head_dim), rows k_stride apart */
  const float *v; /* (keys, head_dim), rows v_stride apart */
  float *out;     /* (queries, head_dim), rows out_stride apart */
  size_t q_stride, k_stride, v_stride, out_stride;
  size_t queries, keys, head_dim; /* each >= 1; head_dim <= KP_ATTENTION_I8_HEAD_DIM, keys <= 65536 */
  float scale;
  const float *mask; /* additive, (queries, keys) with rows mask_stride apart (0: one row for all); NULL: none */
  size_t mask_stride;
  void *scratch; /* kp_attention_i8_scratch(keys, head_dim) bytes, aligned to 64 */
} kp_attention_i8;

/* A row of weights is filled up to a multiple of this many. */
#define KP_RESIZE_PAD 16

typedef struct kp_kernels {
  /* dst[i] = f(src[i]), i < n. dst may equal src. */
  void (*unary_f32[KP_UNARY_COUNT])(float *dst, const float *src, size_t n);

  /* dst[i] = a[i * a_step] op b[i * b_step], i < n; steps are 0 or 1. dst may equal an input whose step is 1.
   * min and max: (a < b) ? a : b and (a > b) ? a : b. */
  void (*binary_f32[KP_BINARY_COUNT])(float *dst, const float *a, size_t a_step, const float *b, size_t b_step,
                                      size_t n);

  /* The epilogue of a matmul, in place: y[r][c] = act(y[r][c] + bias[c]) + residual[r][c]. bias and residual may be
   * NULL (that step is left out). residual may equal y's rows only if it is y itself. */
  void (*epilogue_f32)(float *y, size_t y_stride, const float *bias, const float *residual, size_t residual_stride,
                       size_t rows, size_t columns, kp_act act);

  /* Each row of `columns` >= 1: mean = sum(x) / columns; d = x - mean; variance = sum(d * d) / columns (the product
   * rounded, then added); dst = fma(d * (1 / sqrt(variance + eps)), gamma, beta). Sums in 16 lanes. gamma, beta may be
   * NULL (1, 0: the step is left out). dst may equal src. */
  void (*layer_norm_f32)(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                         size_t columns, float eps);

  /* Each row: e = exp(x - max x); dst = e / sum e. Maximum and sum in 16 lanes. dst may equal src. */
  void (*softmax_f32)(float *dst, const float *src, size_t rows, size_t columns);

  /* The sum of n elements, in 16 lanes. */
  float (*sum_f32)(const float *src, size_t n);

  /* dst[c] = the sum over r < rows of src[r * stride + c], in 16 lanes over r; c < columns. */
  void (*sum_rows_f32)(float *dst, const float *src, size_t stride, size_t rows, size_t columns);

  /* Depthwise convolution by indirection. For pixel p < pixels, taps[p * tap_count + t] points to `channels` inputs.
   * acc = bias[c] (NULL: 0); acc = fma(taps[..t][c], weights[t * channels + c], acc), t ascending;
   * dst[p * channels + c] = act(acc). */
  void (*depthwise_f32)(float *dst, const float *const *taps, const float *weights, const float *bias, size_t pixels,
                        size_t tap_count, size_t channels, kp_act act);

  /* Pooling by indirection, tap_count >= 1: average: the sum of the taps in ascending order, then / divisor;
   * maximum: (acc > x) ? acc : x from the first tap on. dst[p * channels + c]. */
  void (*average_pool_f32)(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels,
                           float divisor);
  void (*max_pool_f32)(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels);

  /* dst[c] = top + (bottom - top) * wy, where top = a[c] + (b[c] - a[c]) * wx and bottom = e[c] + (f[c] - e[c]) * wx;
   * every + (x) * w is one fma. c < channels. a, b: the upper row's left and right pixel; e, f: the lower row's. */
  void (*bilinear_f32)(float *dst, const float *a, const float *b, const float *e, const float *f, float wx, float wy,
                       size_t channels);

  /* dst[c * dst_stride + r] = src[r * src_stride + c]: 32-bit elements of any kind, moved unchanged. */
  void (*transpose_32)(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                       size_t columns);

  /* Attention, softmax online over tiles of KP_ATTENTION_KEY_TILE keys. Start with m = -inf, l = 0, o = 0. For each
   * tile:
   *   s[j] = (sum over d ascending, by fma from 0, of q[d] * k[j][d]) * scale, then + mask[j] if there is one
   *   m' = max(m, max over j of s[j]);  a = exp(m - m') (0 where m is -inf);  p[j] = exp(s[j] - m')
   *   l = fma(l, a, sum over j of p[j], in 16 lanes)
   *   o[d] = o[d] * a, then o[d] = fma(p[j], v[j][d], o[d]), j ascending;  m = m'
   * out[d] = o[d] / l. Where m' is -inf (a row masked throughout), the tile changes nothing; where l is 0 at the end,
   * out = 0. */
  void (*attention_f32)(const kp_attention_f32 *args);

  /* c[r][n] = the sum over k, ascending, by fma from 0, of a[r][k] * b[k][n]. Rows of a (rows, depth), b (depth,
   * columns) and c (rows, columns) are their strides apart. depth >= 1. */
  void (*gemm_f32)(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride,
                   size_t rows, size_t columns, size_t depth);

  kp_gemm_i8 gemm_i8;
  void (*depthwise_i8)(const kp_depthwise_i8_args *args);
  void (*attention_i8)(const kp_attention_i8 *args);

  /* dst[r][c] = quantize(src[r][c], inverse[c], shift[c]); dense rows. */
  void (*quantize_i8)(int8_t *dst, const float *src, size_t rows, size_t columns, const kp_quantizer *quantizer);
  /* dst[r][c] = (float)(src[r][c] - zero_point[c]) * scale[c]; dense rows; scale and zero_point by column, padded. */
  void (*dequantize_i8)(float *dst, const int8_t *src, size_t rows, size_t columns, const float *scale,
                        const int32_t *zero_point);
  /* Each row, of low = min(0, min x) and high = max(0, max x), with
   *   scales[r] = high * KP_ROW_STEP - low * KP_ROW_STEP,  inverse = 1 / scales[r]
   *   zero_points[r] = -128 - round(low * inverse)           round(x) = fma(.., KP_ROUNDING_SHIFT) - KP_ROUNDING_SHIFT
   *   dst[r][c] = the low byte of the bits of fma(src[r][c], inverse, KP_ROUNDING_SHIFT + zero_points[r])
   * Where scales[r] would be below KP_ROW_SCALE_MIN, it is 0, and so are zero_points[r] and the row. Where it is
   * infinite, the latter two are 0. columns >= 1. */
  void (*quantize_rows_i8)(int8_t *dst, size_t dst_stride, float *scales, int32_t *zero_points, const float *src,
                           size_t src_stride, size_t rows, size_t columns);

  /* dst[p * channels + c] = the sum over t of taps[p * tap_count + t][c], or their maximum. tap_count is 1 to
   * KP_MAX_SUM_TAPS. */
  void (*sum_taps_i8)(int32_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels);
  void (*max_taps_i8)(int8_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels);

  /* Pillow's 8-bit resampling, one dimension at a time, on interleaved pixels of 1, 3 or 4 channels (src) and as many
   * (dst). Output x of a row is
   *   clip8((1 << 21) + sum over i < counts[x] of src[starts[x] + i] * weights[x * weight_stride + i])
   * where clip8 shifts right by 22, arithmetically, and clamps to [0, 255]. int32 arithmetic; the weights sum to about
   * 1 << 22, and none is larger than 3 << 21. weight_stride is a multiple of KP_RESIZE_PAD, and weights from counts[x]
   * on are 0. starts[x] + counts[x] never descends. */
  void (*resize_row_u8)(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                        const int32_t *counts, const int32_t *weights, size_t weight_stride);
  /* The same down a column: rows[i] points to n bytes;
   * dst[j] = clip8((1 << 21) + sum over i < count of rows[i][j] * weights[i]). */
  void (*resize_column_u8)(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count, size_t n);

  /* dst[3 * i + c] = table[c][src[3 * i + c]], i < pixels. */
  void (*normalize_u8_f32)(float *dst, const uint8_t *src, size_t pixels, const float table[3][256]);
} kp_kernels;

/* Fills *kernels for the levels in `isa` (a mask of KP_ISA_*; see keypilot.h), which the processor must have. */
void kp_kernels_init(kp_kernels *kernels, uint32_t isa);

/* Floats of scratch that attention_f32 needs. */
size_t kp_attention_f32_scratch(size_t keys, size_t head_dim);
/* Bytes of scratch that attention_i8 needs, on every level. */
size_t kp_attention_i8_scratch(size_t keys, size_t head_dim);

#endif /* KP_KERNELS_KERNELS_H */

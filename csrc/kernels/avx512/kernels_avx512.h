/* The AVX-512 (F, BW, DQ, VL) kernels. Contracts: kernels.h. */
#ifndef KP_KERNELS_AVX512_KERNELS_AVX512_H
#define KP_KERNELS_AVX512_KERNELS_AVX512_H

#include "kernels/kernels.h"

void kp_unary_relu_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_relu6_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_hardswish_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_hardsigmoid_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_sigmoid_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_silu_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_gelu_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_gelu_tanh_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_quick_gelu_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_tanh_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_exp_f32_avx512(float *dst, const float *src, size_t n);
void kp_unary_sqrt_f32_avx512(float *dst, const float *src, size_t n);

/* dst[i] = act(src[i]), i < n. dst may equal src. */
void kp_act_f32_avx512(float *dst, const float *src, size_t n, kp_act act);

void kp_binary_add_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n);
void kp_binary_sub_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n);
void kp_binary_mul_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n);
void kp_binary_div_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n);
void kp_binary_min_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n);
void kp_binary_max_f32_avx512(float *dst, const float *a, size_t a_step, const float *b, size_t b_step, size_t n);

void kp_epilogue_f32_avx512(float *y, size_t y_stride, const float *bias, const float *residual, size_t residual_stride,
                            size_t rows, size_t columns, kp_act act);
void kp_layer_norm_f32_avx512(float *dst, const float *src, const float *gamma, const float *beta, size_t rows,
                              size_t columns, float eps);
void kp_softmax_f32_avx512(float *dst, const float *src, size_t rows, size_t columns);
float kp_sum_f32_avx512(const float *src, size_t n);
void kp_sum_rows_f32_avx512(float *dst, const float *src, size_t stride, size_t rows, size_t columns);

void kp_depthwise_f32_avx512(float *dst, const float *const *taps, const float *weights, const float *bias,
                             size_t pixels, size_t tap_count, size_t channels, kp_act act);
void kp_average_pool_f32_avx512(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels,
                                float divisor);
void kp_max_pool_f32_avx512(float *dst, const float *const *taps, size_t pixels, size_t tap_count, size_t channels);
void kp_bilinear_f32_avx512(float *dst, const float *a, const float *b, const float *e, const float *f, float wx,
                            float wy, size_t channels);
void kp_transpose_32_avx512(uint32_t *dst, size_t dst_stride, const uint32_t *src, size_t src_stride, size_t rows,
                            size_t columns);
void kp_attention_f32_avx512(const kp_attention_f32 *args);
void kp_gemm_f32_avx512(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride,
                        size_t rows, size_t columns, size_t depth);
void kp_quantize_i8_avx512(int8_t *dst, const float *src, size_t rows, size_t columns, const kp_quantizer *quantizer);
void kp_dequantize_i8_avx512(float *dst, const int8_t *src, size_t rows, size_t columns, const float *scale,
                             const int32_t *zero_point);
void kp_quantize_rows_i8_avx512(int8_t *dst, size_t dst_stride, float *scales, int32_t *zero_points, const float *src,
                                size_t src_stride, size_t rows, size_t columns);
void kp_sum_taps_i8_avx512(int32_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels);
void kp_max_taps_i8_avx512(int8_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels);
void kp_resize_row_u8_avx512(uint8_t *dst, const uint8_t *src, size_t width, size_t channels, const int32_t *starts,
                             const int32_t *counts, const int32_t *weights, size_t weight_stride);
void kp_resize_column_u8_avx512(uint8_t *dst, const uint8_t *const *rows, const int32_t *weights, size_t count,
                                size_t n);

#endif /* KP_KERNELS_AVX512_KERNELS_AVX512_H */

#include "kernels/neon/kernels_neon.h"

#include "kernels/dispatch.h"

void kp_kernels_init_neon(kp_kernels *kernels) {
  kernels->unary_f32[KP_RELU] = kp_unary_relu_f32_neon;
  kernels->unary_f32[KP_RELU6] = kp_unary_relu6_f32_neon;
  kernels->unary_f32[KP_HARDSWISH] = kp_unary_hardswish_f32_neon;
  kernels->unary_f32[KP_HARDSIGMOID] = kp_unary_hardsigmoid_f32_neon;
  kernels->unary_f32[KP_SIGMOID] = kp_unary_sigmoid_f32_neon;
  kernels->unary_f32[KP_SILU] = kp_unary_silu_f32_neon;
  kernels->unary_f32[KP_GELU] = kp_unary_gelu_f32_neon;
  kernels->unary_f32[KP_GELU_TANH] = kp_unary_gelu_tanh_f32_neon;
  kernels->unary_f32[KP_QUICK_GELU] = kp_unary_quick_gelu_f32_neon;
  kernels->unary_f32[KP_TANH] = kp_unary_tanh_f32_neon;
  kernels->unary_f32[KP_EXP] = kp_unary_exp_f32_neon;
  kernels->unary_f32[KP_SQRT] = kp_unary_sqrt_f32_neon;
  kernels->binary_f32[KP_ADD] = kp_binary_add_f32_neon;
  kernels->binary_f32[KP_SUB] = kp_binary_sub_f32_neon;
  kernels->binary_f32[KP_MUL] = kp_binary_mul_f32_neon;
  kernels->binary_f32[KP_DIV] = kp_binary_div_f32_neon;
  kernels->binary_f32[KP_MIN] = kp_binary_min_f32_neon;
  kernels->binary_f32[KP_MAX] = kp_binary_max_f32_neon;
  kernels->epilogue_f32 = kp_epilogue_f32_neon;
  kernels->layer_norm_f32 = kp_layer_norm_f32_neon;
  kernels->softmax_f32 = kp_softmax_f32_neon;
  kernels->sum_f32 = kp_sum_f32_neon;
  kernels->sum_rows_f32 = kp_sum_rows_f32_neon;
  kernels->depthwise_f32 = kp_depthwise_f32_neon;
  kernels->average_pool_f32 = kp_average_pool_f32_neon;
  kernels->max_pool_f32 = kp_max_pool_f32_neon;
  kernels->bilinear_f32 = kp_bilinear_f32_neon;
  kernels->transpose_32 = kp_transpose_32_neon;
  kernels->attention_f32 = kp_attention_f32_neon;
  kernels->attention_i8 = kp_attention_i8_neon;
  kernels->gemm_f32 = kp_gemm_f32_neon;
  kernels->gemm_i8 = (kp_gemm_i8){.run = kp_gemm_i8_neon, .nr = 16, .kr = 2};
  kernels->depthwise_i8 = kp_depthwise_i8_neon;
  kernels->quantize_i8 = kp_quantize_i8_neon;
  kernels->dequantize_i8 = kp_dequantize_i8_neon;
  kernels->quantize_rows_i8 = kp_quantize_rows_i8_neon;
  kernels->sum_taps_i8 = kp_sum_taps_i8_neon;
  kernels->max_taps_i8 = kp_max_taps_i8_neon;
  kernels->resize_row_u8 = kp_resize_row_u8_neon;
  kernels->resize_column_u8 = kp_resize_column_u8_neon;
}

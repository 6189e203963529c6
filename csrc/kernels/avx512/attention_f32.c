#include "kernels/avx512/kernels_avx512.h"
#include "kernels/avx512/math_avx512.h"

#define QUERIES 8
#define GROUPS 2

typedef __m512 lanes;

KP_SPECIALIZED lanes zero(void) { return _mm512_setzero_ps(); }
KP_SPECIALIZED lanes broadcast(float x) { return _mm512_set1_ps(x); }
KP_SPECIALIZED lanes load(const float *src) { return _mm512_loadu_ps(src); }
KP_SPECIALIZED void store(float *dst, lanes x) { _mm512_storeu_ps(dst, x); }
KP_SPECIALIZED lanes multiply_add(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
KP_SPECIALIZED lanes add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
KP_SPECIALIZED lanes mul(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
KP_SPECIALIZED lanes max(lanes a, lanes b) { return _mm512_max_ps(a, b); }
KP_SPECIALIZED lanes divide(lanes a, lanes b) { return _mm512_div_ps(a, b); }
KP_SPECIALIZED lanes exp_below_zero(lanes x) { return kp_exp_bounded_f32_avx512(x); }
KP_SPECIALIZED float reduce_add(lanes x) { return kp_reduce_add_f32_avx512(x); }
KP_SPECIALIZED float reduce_max(lanes x) { return kp_reduce_max_f32_avx512(x); }

#include "kernels/attention_lanes.h"

void kp_attention_f32_avx512(const kp_attention_f32 *args) { attend_all(args); }

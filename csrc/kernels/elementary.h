/* Constants of the elementary functions (docs/numerics.md), shared by the scalar definition and its vector twins. */
#ifndef KP_KERNELS_ELEMENTARY_H
#define KP_KERNELS_ELEMENTARY_H

/* exp(x) = 2^n * exp(r), x = n * ln 2 + r, |r| <= ln 2 / 2 (Cody & Waite). ln 2 is split in two floats. Adding and
 * subtracting KP_ROUNDING_SHIFT rounds to the nearest integer, ties to even, and leaves n in the sum's low bits. */
#define KP_EXP_MIN (-104.0f) /* exp is 0 from here down */
#define KP_EXP_MAX 89.0f     /* exp is infinite from here up */
#define KP_LOG2_E 0x1.715476p+0f
#define KP_LN2_HIGH 0x1.62e430p-1f
#define KP_LN2_LOW (-0x1.05c610p-29f)

/* exp(r) - 1 = r + r^2 * (C0 + C1 r + ... + C4 r^4): minimax in relative error, 3.1e-9 before rounding. */
#define KP_EXP_C0 0x1.fffffcp-2f
#define KP_EXP_C1 0x1.555492p-3f
#define KP_EXP_C2 0x1.5558f2p-5f
#define KP_EXP_C3 0x1.123a20p-7f
#define KP_EXP_C4 0x1.6a23dap-10f

/* tanh is 1 in float from 9.02 up. */
#define KP_TANH_MAX 10.0f

/* The normal distribution: Phi(x) - 1/2 = x * P(x^2) / Q(x^2), Q's constant term 1: minimax in relative error over
 * [0, 5.45], 4.9e-8 before rounding of the steps. At the clamp the product is exactly 1/2, so Phi is exactly 0 and 1
 * beyond it. */
#define KP_PHI_MAX 0x1.5bp+2f
#define KP_PHI_P0 0x1.988452p-2f
#define KP_PHI_P1 0x1.2455cep-5f
#define KP_PHI_P2 0x1.392524p-8f
#define KP_PHI_P3 0x1.8548c8p-13f
#define KP_PHI_P4 0x1.a6340cp-18f
#define KP_PHI_P5 0x1.5ba4e4p-26f
#define KP_PHI_Q1 0x1.06434ep-2f
#define KP_PHI_Q2 0x1.e607bcp-6f
#define KP_PHI_Q3 0x1.03a9ccp-9f
#define KP_PHI_Q4 0x1.478174p-14f
#define KP_PHI_Q5 0x1.2c78e6p-20f

/* gelu_tanh(x) = x * sigmoid(x * (A + B x^2)): 2 sqrt(2 / pi), and that times 0.044715. */
#define KP_GELU_TANH_A 0x1.988454p+0f
#define KP_GELU_TANH_B 0x1.2444f2p-4f

#define KP_QUICK_GELU_SLOPE 1.702f

#define KP_ONE_SIXTH 0x1.555556p-3f

/* SiLU and GELU of int8 epilogues: f(x) = max(x, 0) - U(min(|x|, LIMIT)), U(a) = a * (C1 + C2 a + ... + C9 a^8) by
 * Horner's rule: minimax in absolute error over [0, LIMIT], 8.3e-5 and 3.7e-5 before rounding of the steps. */
#define KP_SILU_I8_LIMIT 8.0f
#define KP_SILU_I8_C1 0x1.feacdcp-2f
#define KP_SILU_I8_C2 (-0x1.eb64e6p-3f)
#define KP_SILU_I8_C3 (-0x1.9ab14ap-6f)
#define KP_SILU_I8_C4 0x1.996530p-5f
#define KP_SILU_I8_C5 (-0x1.229a9ep-6f)
#define KP_SILU_I8_C6 0x1.aaab42p-9f
#define KP_SILU_I8_C7 (-0x1.66476ap-12f)
#define KP_SILU_I8_C8 0x1.471590p-16f
#define KP_SILU_I8_C9 (-0x1.f934d6p-22f)

#define KP_GELU_I8_LIMIT 4.0f
#define KP_GELU_I8_C1 0x1.feef88p-2f
#define KP_GELU_I8_C2 (-0x1.8f2804p-2f)
#define KP_GELU_I8_C3 (-0x1.b1ce78p-6f)
#define KP_GELU_I8_C4 0x1.9b2704p-4f
#define KP_GELU_I8_C5 (-0x1.2df318p-6f)
#define KP_GELU_I8_C6 (-0x1.5186f4p-7f)
#define KP_GELU_I8_C7 0x1.4e2fc8p-8f
#define KP_GELU_I8_C8 (-0x1.bd4f36p-11f)
#define KP_GELU_I8_C9 0x1.ad63bcp-15f

/* 2^f = C0 + C1 f + C2 f^2 + C3 f^3 for |f| <= 1/2: minimax in absolute error, 7.6e-5. Its arguments in attention lie between the bounds: below the
 * lower one a probability rounds to 0, and the upper one is log2(255). */
#define KP_EXP2_I8_MIN (-2.0f)
#define KP_EXP2_I8_MAX 0x1.ffa37cp+2f
#define KP_EXP2_I8_C0 0x1.fff61ap-1f
#define KP_EXP2_I8_C1 0x1.62deb4p-1f
#define KP_EXP2_I8_C2 0x1.f0ed38p-3f
#define KP_EXP2_I8_C3 0x1.cacccap-5f

#endif /* KP_KERNELS_ELEMENTARY_H */

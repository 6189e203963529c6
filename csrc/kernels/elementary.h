/* Constants of the elementary functions (docs/numerics.md), shared by the scalar definition and its vector twins. */
#ifndef KP_KERNELS_ELEMENTARY_H
#define KP_KERNELS_ELEMENTARY_H

/* exp(x) = 2^n * exp(r), x = n * ln 2 + r, |r| <= ln 2 / 2 (Cody & Waite). ln 2 is split in two floats. Adding and
 * subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves n in the sum's low bits. */
#define KP_EXP_MIN (-104.0f) /* exp is 0 from here down */
#define KP_EXP_MAX 89.0f     /* exp is infinite from here up */
#define KP_LOG2_E 0x1.715476p+0f
#define KP_ROUND_TO_INTEGER 0x1.8p+23f
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

#endif /* KP_KERNELS_ELEMENTARY_H */

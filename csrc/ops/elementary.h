/* Functions too rare for kernels of their own: in double, by additions, multiplications and divisions alone, and
 * rounded to float once. docs/numerics.md, "Elementary functions". */
#ifndef KP_OPS_ELEMENTARY_H
#define KP_OPS_ELEMENTARY_H

/* |x| is clamped to 2^30; a NaN gives a NaN. */
float kp_sin_f32(float x);
float kp_cos_f32(float x);
/* -infinity at 0, a NaN below. */
float kp_log_f32(float x);

#endif /* KP_OPS_ELEMENTARY_H */

/* How a float row is quantised when it comes (kernels.h, quantize_rows_i8), from its bounds: what all levels share. */
#ifndef KP_KERNELS_ROW_QUANTIZER_H
#define KP_KERNELS_ROW_QUANTIZER_H

#include <float.h>
#include <math.h>

#include "kernels/kernels.h"

typedef struct kp_row_quantizer {
  float scale, inverse, shift;
  int32_t zero_point;
} kp_row_quantizer;

/* low <= 0 <= high, neither of them a NaN. Each bound is scaled by itself, since their difference could overflow. */
static inline kp_row_quantizer kp_row_quantizer_of(float low, float high) {
  const float scale = high * KP_ROW_STEP - low * KP_ROW_STEP;
  if (scale < KP_ROW_SCALE_MIN) return (kp_row_quantizer){0.0f, 0.0f, KP_ROUNDING_SHIFT, 0};
  if (scale > FLT_MAX) return (kp_row_quantizer){scale, 0.0f, KP_ROUNDING_SHIFT, 0};
  const float inverse = 1.0f / scale;
  const float zero_point = -128.0f - (fmaf(low, inverse, KP_ROUNDING_SHIFT) - KP_ROUNDING_SHIFT);
  return (kp_row_quantizer){scale, inverse, KP_ROUNDING_SHIFT + zero_point, (int32_t)zero_point};
}

#endif /* KP_KERNELS_ROW_QUANTIZER_H */

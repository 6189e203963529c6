#include "kernels/c/kernels_c.h"

void kp_sum_taps_i8_c(int32_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count) {
    for (size_t c = 0; c < channels; c++) {
      int32_t sum = 0;
      for (size_t t = 0; t < tap_count; t++) sum += taps[t][c];
      *dst++ = sum;
    }
  }
}

void kp_max_taps_i8_c(int8_t *dst, const int8_t *const *taps, size_t pixels, size_t tap_count, size_t channels) {
  for (size_t p = 0; p < pixels; p++, taps += tap_count) {
    for (size_t c = 0; c < channels; c++) {
      int8_t largest = taps[0][c];
      for (size_t t = 1; t < tap_count; t++) largest = taps[t][c] > largest ? taps[t][c] : largest;
      *dst++ = largest;
    }
  }
}

#include "image/image.h"

void kp_image_normalization(const float mean[3], const float std[3], float table[3][256]) {
  for (int c = 0; c < 3; c++) {
    for (int v = 0; v < 256; v++) {
      table[c][v] = (float)((v / 255.0 - (double)mean[c]) / (double)std[c]);
    }
  }
}

#include "image/convert.h"

#include <string.h>

#include "image/image.h"

kp_status kp_image_check(const kp_image *image, kp_error *error) {
  if (image == NULL || image->data == NULL) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "image: expected pixels, got NULL");
  }
  if (image->width < 1 || image->width > KP_MAX_IMAGE_SIDE || image->height < 1 || image->height > KP_MAX_IMAGE_SIDE) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "image: expected sides of 1 to %d pixels, got width %d, height %d",
                   KP_MAX_IMAGE_SIDE, (int)image->width, (int)image->height);
  }
  if (image->channels != 1 && image->channels != 3 && image->channels != 4) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "image: expected 1 (grey), 3 (RGB) or 4 (RGBA) channels, got %d",
                   (int)image->channels);
  }
  if (image->bits != 8 && image->bits != 16) {
    return kp_fail(error, KP_ERROR_ARGUMENT, "image: expected 8 or 16 bits a channel, got %d", (int)image->bits);
  }
  size_t row = (size_t)image->width * (size_t)image->channels * (size_t)(image->bits / 8);
  size_t total;
  if (image->row_bytes < row || !kp_mul_size(image->row_bytes, (size_t)image->height, &total)) {
    return kp_fail(
        error, KP_ERROR_ARGUMENT,
        "image: expected row_bytes of %zu at least for %d pixels of %d channels of %d bits, and rows that fit "
        "in memory, got %zu",
        row, (int)image->width, (int)image->channels, (int)image->bits, image->row_bytes);
  }
  return KP_OK;
}

void kp_narrow_u16(uint8_t *dst, const uint8_t *src, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint16_t sample;
    memcpy(&sample, src + 2 * i, sizeof sample);
    dst[i] = (uint8_t)(sample >> 8);
  }
}

void kp_expand_rgb(uint8_t *dst, const uint8_t *src, size_t pixels, size_t channels) {
  if (channels == 3) {
    memcpy(dst, src, 3 * pixels);
    return;
  }
  size_t green = channels == 4 ? 1 : 0, blue = channels == 4 ? 2 : 0;
  for (size_t i = 0; i < pixels; i++, dst += 3, src += channels) {
    dst[0] = src[0];
    dst[1] = src[green];
    dst[2] = src[blue];
  }
}

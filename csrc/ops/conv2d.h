/* The geometry of a convolution, for its float32 and its int8 form. */
#ifndef KP_OPS_CONV2D_H
#define KP_OPS_CONV2D_H

#include "ops/shape.h"

enum { KP_CONV_STRIDE = 0, KP_CONV_PAD, KP_CONV_DILATION, KP_CONV_GROUPS, KP_CONV_ACT, KP_CONV_OUT };

typedef struct kp_conv2d {
  const kp_op_call *call;
  int64_t height, width, channels, out_height, out_width, out_channels;
  int64_t kernel[2], stride[2], pad[2], dilation[2];
  size_t pixels; /* of the output, in all images */
  size_t groups, group_channels, group_outputs;
  size_t taps;    /* of a window */
  bool depthwise; /* the weight is (kh, kw, channels) */
  bool pointwise; /* a window is an input pixel, and windows follow each other as pixels do */
} kp_conv2d;

kp_conv2d kp_conv2d_describe(const kp_op_call *call);

/* Where an output pixel's window begins: an image, and a pixel in it that may lie in the padding. */
typedef struct kp_window {
  int64_t image, top, left, out_x, out_y;
} kp_window;

static inline kp_window kp_window_at(const kp_conv2d *conv, size_t pixel) {
  kp_window at = {.out_x = (int64_t)pixel % conv->out_width,
                  .out_y = (int64_t)pixel / conv->out_width % conv->out_height,
                  .image = (int64_t)pixel / conv->out_width / conv->out_height};
  at.top = at.out_y * conv->stride[0] - conv->pad[0];
  at.left = at.out_x * conv->stride[1] - conv->pad[1];
  return at;
}

static inline void kp_window_next(const kp_conv2d *conv, kp_window *at) {
  at->left += conv->stride[1];
  if (++at->out_x < conv->out_width) return;
  at->out_x = 0;
  at->left = -conv->pad[1];
  at->top += conv->stride[0];
  if (++at->out_y < conv->out_height) return;
  at->out_y = 0;
  at->top = -conv->pad[0];
  at->image++;
}

static inline bool kp_window_inside(const kp_conv2d *conv, const kp_window *at) {
  return at->top >= 0 && at->left >= 0 && at->top + (conv->kernel[0] - 1) * conv->dilation[0] < conv->height &&
         at->left + (conv->kernel[1] - 1) * conv->dilation[1] < conv->width;
}

/* The index of the first element of an input pixel (row, column) of an image, or -1 in the padding. */
static inline int64_t kp_input_pixel(const kp_conv2d *conv, int64_t image, int64_t row, int64_t column) {
  if (row < 0 || row >= conv->height || column < 0 || column >= conv->width) return -1;
  return ((image * conv->height + row) * conv->width + column) * conv->channels;
}

/* By tap, how many elements after the window's first pixel it lies. offsets has room for conv->taps. */
void kp_tap_offsets(const kp_conv2d *conv, int64_t *offsets);

/* The int8 form: x is i8, or the convolution pointwise and its weight i8. */
size_t kp_conv2d_i8_pack_bytes(const kp_op_call *call);
void kp_conv2d_i8_pack(const kp_op_call *call, void *packed);
size_t kp_conv2d_i8_constants_bytes(const kp_op_call *call);
void kp_conv2d_i8_set_constants(const kp_op_call *call, void *constants);
size_t kp_conv2d_i8_scratch(const kp_op_call *call);
void kp_conv2d_i8_run(const kp_op_call *call);

#endif /* KP_OPS_CONV2D_H */

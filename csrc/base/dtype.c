#include "keypilot/keypilot.h"

size_t kp_dtype_size(kp_dtype dtype) {
  switch (dtype) {
    case KP_F32:
    case KP_I32:
      return 4;
    case KP_BOOL:
    case KP_U8:
    case KP_I8:
      return 1;
  }
  return 0;
}

const char *kp_dtype_name(kp_dtype dtype) {
  switch (dtype) {
    case KP_F32:
      return "f32";
    case KP_I32:
      return "i32";
    case KP_BOOL:
      return "bool";
    case KP_U8:
      return "u8";
    case KP_I8:
      return "i8";
  }
  return "unknown";
}

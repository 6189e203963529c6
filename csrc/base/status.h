/* Errors as values. A function that can fail returns kp_status and takes a kp_error *, which may be NULL. */
#ifndef KP_BASE_STATUS_H
#define KP_BASE_STATUS_H

#include "keypilot/keypilot.h"

/* Fills *error (if not NULL) and returns `status`, so that a failing function ends in one statement. */
kp_status kp_fail(kp_error *error, kp_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "<context>: " before the message, as the error passes a place that knows more. Returns error's status. */
kp_status kp_fail_in(kp_error *error, kp_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Evaluates a call, and returns its status from the calling function unless it is KP_OK. */
#define KP_TRY(call)                   \
  do {                                 \
    kp_status kp_try_status_ = (call); \
    if (kp_try_status_ != KP_OK) {     \
      return kp_try_status_;           \
    }                                  \
  } while (0)

#endif /* KP_BASE_STATUS_H */

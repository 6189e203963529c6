/* The pipeline's lines of a digest: the picture and the text by their hashes, and what lies between the programs.
 * Nothing is done where the session writes no digest. */
#ifndef KP_ENCODER_DIGEST_H
#define KP_ENCODER_DIGEST_H

#include "encoder/settings.h"

/* Opens the section of one kp_encode. */
kp_status kp_digest_encode(kp_session *session, const kp_image *image, const char *text, size_t text_size,
                           const kp_user *user, kp_error *error);

/* A letterboxed picture, u8 (side, side, 3). */
kp_status kp_digest_square(kp_session *session, const char *name, int32_t side, const uint8_t *square, kp_error *error);

/* A region's mask, u8 (mask_side, mask_side), its box and whether its mask had pixels. */
kp_status kp_digest_region(kp_session *session, int region, const kp_encoder_settings *settings, const uint8_t *mask,
                           const kp_encoding *found, kp_error *error);

/* A region's letterboxed crop, u8 (side, side, 3). */
kp_status kp_digest_crop(kp_session *session, int region, int32_t side, const uint8_t *crop, kp_error *error);

#endif /* KP_ENCODER_DIGEST_H */

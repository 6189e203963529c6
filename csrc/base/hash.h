/* Hashing of tensors and files for digests: docs/digest.md. */
#ifndef KP_BASE_HASH_H
#define KP_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH64 of `size` bytes: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, "XXH64 algorithm". Not for
 * use against an adversary. `data` may be NULL where size is 0, and need not be aligned. */
uint64_t kp_hash64(const void *data, size_t size, uint64_t seed);

#endif /* KP_BASE_HASH_H */

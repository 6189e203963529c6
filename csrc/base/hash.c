/* XXH64, after its specification: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md */
#include "base/hash.h"

#include <string.h>

#define PRIME1 UINT64_C(0x9E3779B185EBCA87)
#define PRIME2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define PRIME3 UINT64_C(0x165667B19E3779F9)
#define PRIME4 UINT64_C(0x85EBCA77C2B2AE63)
#define PRIME5 UINT64_C(0x27D4EB2F165667C5)

#define STRIPE 32 /* bytes that the four accumulators take in at once */

static uint64_t rotate_left(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static uint64_t load_u32(const uint8_t *p) {
  return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
}

static uint64_t load_u64(const uint8_t *p) { return load_u32(p) | load_u32(p + 4) << 32; }

static uint64_t round_of(uint64_t accumulator, uint64_t lane) {
  return rotate_left(accumulator + lane * PRIME2, 31) * PRIME1;
}

static uint64_t merge(uint64_t hash, uint64_t accumulator) {
  return (hash ^ round_of(0, accumulator)) * PRIME1 + PRIME4;
}

/* Takes in whole stripes, moves *p past them, and returns the accumulators, converged. */
static uint64_t hash_stripes(const uint8_t **p, size_t stripes, uint64_t seed) {
  uint64_t a = seed + PRIME1 + PRIME2, b = seed + PRIME2, c = seed, d = seed - PRIME1;
  for (size_t i = 0; i < stripes; i++, *p += STRIPE) {
    a = round_of(a, load_u64(*p));
    b = round_of(b, load_u64(*p + 8));
    c = round_of(c, load_u64(*p + 16));
    d = round_of(d, load_u64(*p + 24));
  }
  uint64_t hash = rotate_left(a, 1) + rotate_left(b, 7) + rotate_left(c, 12) + rotate_left(d, 18);
  return merge(merge(merge(merge(hash, a), b), c), d);
}

uint64_t kp_hash64(const void *data, size_t size, uint64_t seed) {
  const uint8_t *p = data;
  uint64_t hash = size < STRIPE ? seed + PRIME5 : hash_stripes(&p, size / STRIPE, seed);
  hash += size;
  size_t rest = size % STRIPE;
  for (; rest >= 8; rest -= 8, p += 8) hash = rotate_left(hash ^ round_of(0, load_u64(p)), 27) * PRIME1 + PRIME4;
  for (; rest >= 4; rest -= 4, p += 4) hash = rotate_left(hash ^ load_u32(p) * PRIME1, 23) * PRIME2 + PRIME3;
  for (; rest > 0; rest--, p++) hash = rotate_left(hash ^ *p * PRIME5, 11) * PRIME1;
  hash = (hash ^ hash >> 33) * PRIME2;
  hash = (hash ^ hash >> 29) * PRIME3;
  return hash ^ hash >> 32;
}

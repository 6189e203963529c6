#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kcheck_internal.h"

#define CANARY 0xa5

/* 0 to two zmm vectors, then the blocks that row and pixel loops use. */
const size_t kc_lengths[] = {0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,  11,  12,  13, 14, 15,
                             16,  17,  18,  19,  20,  21,  22,  23,  24,  25,  26,  27,  28,  29, 30, 31,
                             32,  33,  40,  47,  48,  49,  63,  64,  65,  72,  79,  80,  81,  96, 97, 127,
                             128, 129, 240, 255, 256, 257, 311, 312, 313, 511, 512, 513, 1000};
const size_t kc_length_count = sizeof kc_lengths / sizeof kc_lengths[0];

static void out_of_memory(void) {
  fprintf(stderr, "kcheck: out of memory\n");
  exit(2);
}

void kc_release_buffers(kc *k) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (size_t i = 0; i < k->buffer_count; i++) {
    kc_buffer *b = &k->buffers[i];
    const unsigned char *usable = b->mapping + page;
    for (size_t j = 0; j < b->usable; j++) {
      const bool inside = usable + j >= b->data && usable + j < b->data + b->bytes;
      if (!inside && usable[j] != CANARY) {
        kc_fail(k, "buffer %zu of %zu bytes: byte %td was written", i, b->bytes, usable + j - b->data);
        break;
      }
    }
    munmap(b->mapping, b->mapped);
  }
  k->buffer_count = 0;
}

void kc_case(kc *k, const char *format, ...) {
  kc_release_buffers(k);
  va_list args;
  va_start(args, format);
  vsnprintf(k->shape, sizeof k->shape, format, args);
  va_end(args);
  k->case_count++;
  k->align_to_start = !k->align_to_start;
}

void *kc_bytes(kc *k, size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (k->buffer_count == KC_MAX_BUFFERS) out_of_memory();
  kc_buffer *b = &k->buffers[k->buffer_count++];
  b->bytes = bytes;
  /* Benchmarks spread their buffers over the offsets in a page: equal offsets alias in the processor's store queue. */
  const size_t offset = k->spread ? k->buffer_count * 448 % page : 0;
  b->usable = (bytes + offset + page - 1) / page * page;
  if (b->usable == 0) b->usable = page;
  b->mapped = b->usable + 2 * page;
  b->mapping = mmap(NULL, b->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b->mapping == MAP_FAILED) out_of_memory();
  mprotect(b->mapping, page, PROT_NONE);
  mprotect(b->mapping + page + b->usable, page, PROT_NONE);
  memset(b->mapping + page, CANARY, b->usable);
  b->data = b->mapping + page + (k->spread || k->align_to_start ? offset : b->usable - bytes);
  return b->data;
}

float *kc_floats(kc *k, size_t n, kc_fill fill) {
  float *data = kc_bytes(k, n * sizeof *data);
  kc_fill_floats(k, data, n, fill);
  return data;
}

float *kc_copy_floats(kc *k, const float *src, size_t n) {
  float *data = kc_bytes(k, n * sizeof *data);
  if (n > 0) memcpy(data, src, n * sizeof *data);
  return data;
}

uint64_t kc_random(kc *k) { /* splitmix64 (Steele, Lea & Flood 2014) */
  uint64_t z = k->random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

size_t kc_random_size(kc *k, size_t low, size_t high) { return low + (size_t)(kc_random(k) % (high - low + 1)); }

float kc_random_float(kc *k, float low, float high) {
  return low + (high - low) * (float)(kc_random(k) >> 40) * 0x1p-24f;
}

static float adversarial(kc *k, bool infinities) {
  static const uint32_t special[] = {
      0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000, /* around 0 */
      0x3f800000, 0xbf800000, 0x3f7fffff, 0x3f800001, 0x40400000, 0xc0400000, 0x40c00000, 0xc0c00000, /* 1, 3, 6 */
      0x42b17218, 0xc2aeac50, 0xc2cff1b5, 0xc2d00000, 0x42b20000, 0x40ad8000, 0xc0ad8000, 0x41200000, /* clamps */
      0x7f7fffff, 0xff7fffff, 0x7f000000, 0xff000000, 0x7f800000, 0xff800000};                        /* huge */
  const size_t count = sizeof special / sizeof special[0] - (infinities ? 0 : 2);
  uint32_t bits;
  float x;
  switch (kc_random(k) % 4) {
    case 0:
      bits = special[kc_random(k) % count];
      break;
    case 1: /* any exponent */
      bits = (uint32_t)kc_random(k);
      if ((bits & 0x7f800000) == 0x7f800000) bits ^= 0x40000000;
      break;
    case 2:
      return kc_random_float(k, -110.0f, 110.0f);
    default:
      return kc_random_float(k, -6.0f, 6.0f);
  }
  memcpy(&x, &bits, sizeof x);
  return x;
}

void kc_fill_floats(kc *k, float *dst, size_t n, kc_fill fill) {
  for (size_t i = 0; i < n; i++) {
    dst[i] = fill == KC_UNIFORM ? kc_random_float(k, -4.0f, 4.0f) : adversarial(k, fill == KC_ANY);
  }
}

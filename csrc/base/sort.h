/* Sorting without allocation, in O(n log n) whatever the input: what is sorted comes from untrusted files. */
#ifndef KP_BASE_SORT_H
#define KP_BASE_SORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True where item `a` belongs before item `b`. */
typedef bool (*kp_less_fn)(const void *context, uint32_t a, uint32_t b);

/* Puts the items in the order that `less` gives (not stable). */
void kp_sort_items(uint32_t *items, size_t count, kp_less_fn less, const void *context);

/* Sets indices to 0, 1, ..., count - 1 in the order that `less` gives (not stable). */
void kp_sort_indices(uint32_t *indices, size_t count, kp_less_fn less, const void *context);

#endif /* KP_BASE_SORT_H */

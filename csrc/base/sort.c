#include "base/sort.h"

/* Restores the heap (the greatest item first) below `root`, in the first `count` items. */
static void sift_down(uint32_t *items, size_t root, size_t count, kp_less_fn less, const void *context) {
  uint32_t item = items[root];
  for (;;) {
    size_t child = 2 * root + 1;
    if (child >= count) break;
    if (child + 1 < count && less(context, items[child], items[child + 1])) child++;
    if (!less(context, item, items[child])) break;
    items[root] = items[child];
    root = child;
  }
  items[root] = item;
}

/* Williams' heapsort. */
void kp_sort_items(uint32_t *items, size_t count, kp_less_fn less, const void *context) {
  for (size_t i = count / 2; i-- > 0;) sift_down(items, i, count, less, context);
  for (size_t last = count; last-- > 1;) {
    uint32_t greatest = items[0];
    items[0] = items[last];
    items[last] = greatest;
    sift_down(items, 0, last, less, context);
  }
}

void kp_sort_indices(uint32_t *indices, size_t count, kp_less_fn less, const void *context) {
  for (size_t i = 0; i < count; i++) indices[i] = (uint32_t)i;
  kp_sort_items(indices, count, less, context);
}

#include "base/sort.h"

/* Restores the heap (the greatest item first) below `root`, in the first `count` items. */
static void sift_down(uint32_t *indices, size_t root, size_t count, kp_less_fn less, const void *context) {
  uint32_t item = indices[root];
  for (;;) {
    size_t child = 2 * root + 1;
    if (child >= count) break;
    if (child + 1 < count && less(context, indices[child], indices[child + 1])) child++;
    if (!less(context, item, indices[child])) break;
    indices[root] = indices[child];
    root = child;
  }
  indices[root] = item;
}

/* Williams' heapsort. */
void kp_sort_indices(uint32_t *indices, size_t count, kp_less_fn less, const void *context) {
  for (size_t i = 0; i < count; i++) indices[i] = (uint32_t)i;
  for (size_t i = count / 2; i-- > 0;) sift_down(indices, i, count, less, context);
  for (size_t last = count; last-- > 1;) {
    uint32_t greatest = indices[0];
    indices[0] = indices[last];
    indices[last] = greatest;
    sift_down(indices, 0, last, less, context);
  }
}

/* Pillow's two-pass bilinear resampling of 8-bit pictures, streamed: rows pass through a ring that holds one window of
 * the vertical filter, so that neither pass writes a whole intermediate picture. docs/numerics.md, "Pictures", has the
 * formulas. */
#include <math.h>
#include <string.h>

#include "image/convert.h"
#include "image/image.h"

/* Fractional bits of the weights. */
#define WEIGHT_BITS 22

/* Below this many source bytes a second thread does not pay. */
#define MIN_BAND_BYTES (256 * 1024)

/* One dimension's filter: output i is the sum over j < counts[i] of input starts[i] + j times weights[i * taps + j]. */
typedef struct resize_filter {
  int32_t size;     /* outputs */
  int32_t taps;     /* the most that an output may have, or more: in x a multiple of KP_RESIZE_PAD */
  int32_t *starts;  /* (size) */
  int32_t *counts;  /* (size), at least 1 each */
  int32_t *weights; /* (size, taps) */
} resize_filter;

typedef struct resize_job {
  const kp_kernels *kernels;
  const uint8_t *src; /* the rectangle's first pixel */
  size_t src_stride;  /* bytes */
  size_t channels;
  size_t src_width, dst_width; /* pixels */
  bool narrow;                 /* samples have 16 bits */
  bool resize_x, resize_y;
  bool column_first;  /* the vertical pass comes first */
  resize_filter x, y; /* filled in where resize_x, resize_y */
  uint8_t *dst;
  size_t dst_stride;
  size_t bands;
  uint8_t *band_memory; /* (bands, band_bytes) */
  size_t band_bytes;
} resize_job;

/* One band's working memory. */
typedef struct band_buffers {
  const uint8_t **rows; /* (ring_rows): the window of the vertical filter, in order */
  uint8_t *narrowed;    /* a source row in 8 bits */
  uint8_t *column;      /* a row after the vertical pass */
  uint8_t *row;         /* a row after both */
  uint8_t *ring;        /* (ring_rows, ring_stride); row r of the source is in slot r % ring_rows */
  size_t ring_rows, ring_stride;
} band_buffers;

/* ---- Filters ---- */

static double scale_of(int32_t in, int32_t out) {
  double scale = (double)in / out;
  return scale < 1 ? 1 : scale;
}

static int32_t filter_taps(int32_t in, int32_t out) { return 2 * (int32_t)ceil(scale_of(in, out)) + 1; }

static int32_t padded_taps(int32_t taps) { return (taps + KP_RESIZE_PAD - 1) / KP_RESIZE_PAD * KP_RESIZE_PAD; }

/* Triangle filter, widened by the scale where it shrinks, its weights normalised to a sum of 1 in double and rounded
 * half up to fixed point. `in` and `out` differ. */
static void filter_compute(resize_filter *filter, int32_t in, int32_t out) {
  double support = scale_of(in, out), inverse = 1 / support;
  for (int32_t i = 0; i < out; i++) {
    double center = (i + 0.5) * ((double)in / out);
    int32_t start = (int32_t)fmax(center - support + 0.5, 0);
    int32_t end = (int32_t)fmin(center + support + 0.5, in);
    int32_t *weights = filter->weights + (size_t)i * (size_t)filter->taps;
    double total = 0;
    memset(weights + (end - start), 0, (size_t)(filter->taps - (end - start)) * sizeof *weights);
    for (int32_t pass = 0; pass < 2; pass++) {
      for (int32_t j = start; j < end; j++) {
        double distance = fabs((j - center + 0.5) * inverse);
        double weight = distance < 1 ? 1 - distance : 0;
        if (pass == 0) {
          total += weight;
        } else {
          weights[j - start] = (int32_t)(0.5 + weight / total * (1 << WEIGHT_BITS));
        }
      }
    }
    filter->starts[i] = start;
    filter->counts[i] = end - start;
  }
}

/* ---- Passes ---- */

/* What the vertical pass reads: the source row itself, or the row in 8 bits, after the horizontal pass where that comes
 * first. */
static const uint8_t *row_for_columns(const resize_job *job, const band_buffers *buffers, size_t y) {
  return buffers->ring != NULL ? buffers->ring + y % buffers->ring_rows * buffers->ring_stride
                               : job->src + y * job->src_stride;
}

static void row_pass(const resize_job *job, uint8_t *dst, const uint8_t *src) {
  job->kernels->resize_row_u8(dst, src, job->dst_width, job->channels, job->x.starts, job->x.counts, job->x.weights,
                              (size_t)job->x.taps);
}

static void ring_fill(const resize_job *job, const band_buffers *buffers, size_t y) {
  uint8_t *slot = buffers->ring + y % buffers->ring_rows * buffers->ring_stride;
  const uint8_t *row = job->src + y * job->src_stride;
  bool row_first = job->resize_x && !job->column_first;
  if (job->narrow) {
    uint8_t *narrowed = row_first ? buffers->narrowed : slot;
    kp_narrow_u16(narrowed, row, job->src_width * job->channels);
    row = narrowed;
  }
  if (row_first) row_pass(job, slot, row);
}

static band_buffers band_buffers_of(const resize_job *job, size_t band) {
  size_t src_row = job->src_width * job->channels, dst_row = job->dst_width * job->channels;
  bool row_first = job->resize_x && !job->column_first;
  band_buffers buffers = {0};
  buffers.ring_rows = job->resize_y ? (size_t)job->y.taps : 1;
  buffers.ring_stride = row_first ? dst_row : src_row;
  uint8_t *next = job->band_memory + band * job->band_bytes;
  buffers.rows = (const uint8_t **)(void *)next;
  next += buffers.ring_rows * sizeof *buffers.rows;
  buffers.narrowed = next;
  next += src_row;
  buffers.column = next;
  next += src_row > dst_row ? src_row : dst_row;
  buffers.row = next;
  next += dst_row;
  if (job->narrow || row_first) buffers.ring = next;
  return buffers;
}

/* The bytes that band_buffers_of lays out. */
static bool band_bytes(resize_job *job) {
  size_t src_row = job->src_width * job->channels, dst_row = job->dst_width * job->channels;
  size_t ring_rows = job->resize_y ? (size_t)job->y.taps : 1;
  size_t widest = src_row > dst_row ? src_row : dst_row;
  bool row_first = job->resize_x && !job->column_first;
  size_t ring_stride = row_first ? dst_row : job->narrow ? src_row : 0;
  size_t bytes;
  if (!kp_mul_size(ring_rows, ring_stride + sizeof(uint8_t *), &bytes) ||
      !kp_add_size(bytes, src_row + widest + dst_row + KP_ALIGNMENT, &bytes)) {
    return false;
  }
  job->band_bytes = bytes / KP_ALIGNMENT * KP_ALIGNMENT;
  return true;
}

/* Output rows of one band, a task of the pool. */
static void resize_band(void *context, size_t band, int thread) {
  (void)thread;
  const resize_job *job = context;
  band_buffers buffers = band_buffers_of(job, band);
  size_t height = (size_t)job->y.size;
  size_t filled = 0; /* the source rows before this one are in the ring, as far as it reaches back */
  for (size_t y = height * band / job->bands; y < height * (band + 1) / job->bands; y++) {
    size_t start = job->resize_y ? (size_t)job->y.starts[y] : y;
    size_t count = job->resize_y ? (size_t)job->y.counts[y] : 1;
    if (buffers.ring != NULL) {
      for (filled = filled > start ? filled : start; filled < start + count; filled++) {
        ring_fill(job, &buffers, filled);
      }
    }
    const uint8_t *row = row_for_columns(job, &buffers, start);
    if (job->resize_y) {
      for (size_t i = 0; i < count; i++) buffers.rows[i] = row_for_columns(job, &buffers, start + i);
      size_t width = job->resize_x && !job->column_first ? job->dst_width : job->src_width;
      job->kernels->resize_column_u8(buffers.column, buffers.rows, job->y.weights + y * (size_t)job->y.taps, count,
                                     width * job->channels);
      row = buffers.column;
    }
    if (job->resize_x && job->column_first) {
      row_pass(job, buffers.row, row);
      row = buffers.row;
    }
    kp_expand_rgb(job->dst + y * job->dst_stride, row, job->dst_width, job->channels);
  }
}

/* ---- Memory ---- */

void kp_resizer_init(kp_resizer *resizer, const kp_kernels *kernels, kp_pool *pool, const kp_allocator *allocator) {
  *resizer = (kp_resizer){.kernels = kernels, .pool = pool, .allocator = *allocator};
}

void kp_resizer_release(kp_resizer *resizer) {
  kp_free(&resizer->allocator, resizer->memory, resizer->memory_size, 1);
  resizer->memory = NULL;
  resizer->memory_size = 0;
}

/* Filters first, then the bands', all in resizer->memory, which grows if need be. */
static bool job_memory(kp_resizer *resizer, resize_job *job) {
  resize_filter *filters[] = {&job->x, &job->y};
  bool wanted[] = {job->resize_x, job->resize_y};
  size_t sizes[2] = {0, 0}; /* bytes */
  size_t total = 0;
  for (int i = 0; i < 2; i++) {
    if (!wanted[i]) continue;
    if (!kp_mul_size((size_t)filters[i]->size, ((size_t)filters[i]->taps + 2) * sizeof(int32_t), &sizes[i]) ||
        !kp_add_size(sizes[i], KP_ALIGNMENT - 1, &sizes[i])) {
      return false;
    }
    sizes[i] = sizes[i] / KP_ALIGNMENT * KP_ALIGNMENT;
    if (!kp_add_size(total, sizes[i], &total)) return false;
  }
  size_t bands;
  if (!band_bytes(job) || !kp_mul_size(job->bands, job->band_bytes, &bands) || !kp_add_size(total, bands, &total)) {
    return false;
  }
  if (total > resizer->memory_size) {
    kp_resizer_release(resizer);
    resizer->memory = kp_alloc(&resizer->allocator, total);
    if (resizer->memory == NULL) return false;
    resizer->memory_size = total;
  }
  uint8_t *next = resizer->memory;
  for (int i = 0; i < 2; i++) {
    if (!wanted[i]) continue;
    filters[i]->starts = (int32_t *)(void *)next;
    filters[i]->counts = filters[i]->starts + filters[i]->size;
    filters[i]->weights = filters[i]->counts + filters[i]->size;
    next += sizes[i];
  }
  job->band_memory = next;
  return true;
}

/* ---- The whole ---- */

kp_status kp_image_resize(kp_resizer *resizer, const kp_image *image, kp_rect rect, int32_t width, int32_t height,
                          uint8_t *dst, size_t dst_stride, kp_error *error) {
  int32_t src_width = rect.x1 - rect.x0, src_height = rect.y1 - rect.y0;
  size_t pixel_bytes = (size_t)image->channels * (size_t)(image->bits / 8);
  resize_job job = {
      .kernels = resizer->kernels,
      .src = (const uint8_t *)image->data + (size_t)rect.y0 * image->row_bytes + (size_t)rect.x0 * pixel_bytes,
      .src_stride = image->row_bytes,
      .channels = (size_t)image->channels,
      .src_width = (size_t)src_width,
      .dst_width = (size_t)width,
      .narrow = image->bits == 16,
      .resize_x = src_width != width,
      .resize_y = src_height != height,
      .column_first = src_height > height && src_height - height > 2 * (src_width - width),
      .x = {.size = width, .taps = padded_taps(filter_taps(src_width, width))},
      .y = {.size = height, .taps = filter_taps(src_height, height)},
      .dst = dst,
      .dst_stride = dst_stride,
  };
  size_t threads = (size_t)kp_pool_threads(resizer->pool);
  size_t useful = 1 + (size_t)src_width * (size_t)src_height * pixel_bytes / MIN_BAND_BYTES;
  job.bands = threads < useful ? threads : useful;
  if (job.bands > (size_t)height) job.bands = (size_t)height;
  if (!job_memory(resizer, &job)) {
    return kp_fail(error, KP_ERROR_MEMORY, "no memory to resize a picture of %d x %d pixels to %d x %d", (int)src_width,
                   (int)src_height, (int)width, (int)height);
  }
  if (job.resize_x) filter_compute(&job.x, src_width, width);
  if (job.resize_y) filter_compute(&job.y, src_height, height);
  kp_pool_run(resizer->pool, job.bands, resize_band, &job);
  return KP_OK;
}

/* KeyPilot's C API: open a model file, run its programs, encode a screenshot.
 *
 * Objects
 *   kp_model    a model file in memory: graphs, weights, tokenizer, pipeline settings. Immutable after it is
 *               opened; any number of threads and sessions may share one.
 *   kp_session  what a run needs beside the model: plans, one arena, a thread pool. One caller at a time; several
 *               callers take a session each.
 *
 * Conventions
 *   - A call that can fail returns kp_status and, where `error` is not NULL, fills it with a message that says what
 *     was expected, what came and where. Nothing else is written on failure.
 *   - Tensors are dense, row-major, in native byte order. Shapes are given outermost dimension first.
 *   - A pointer returned by a model or session belongs to it; it stays valid as its comment says.
 *   - The library has no mutable globals, prints nothing, and never calls exit or abort.
 *   - Every entry sets the floating-point environment (round to nearest even, no flush to zero) and restores it.
 */
#ifndef KEYPILOT_KEYPILOT_H
#define KEYPILOT_KEYPILOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(KP_BUILD_SHARED) && defined(__GNUC__)
#define KP_API __attribute__((visibility("default")))
#else
#define KP_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status and errors ---------------------------------------------------------------------------------------- */

typedef enum kp_status {
  KP_OK = 0,
  KP_ERROR_ARGUMENT,    /* an argument is out of its documented domain */
  KP_ERROR_SHAPE,       /* a tensor's shape or dtype is not what the program takes */
  KP_ERROR_MODEL,       /* the model file is damaged, or not a KeyPilot model */
  KP_ERROR_VERSION,     /* the model file has a format version that this library does not read */
  KP_ERROR_UNSUPPORTED, /* valid, but this build or model cannot do it */
  KP_ERROR_MEMORY,      /* an allocation failed */
  KP_ERROR_IO,          /* the file could not be read */
  KP_ERROR_CANCELLED    /* a tap callback asked to stop */
} kp_status;

typedef struct kp_error {
  kp_status status;
  char message[512]; /* NUL-terminated UTF-8 */
} kp_error;

/* "argument", "shape", ...: a short constant name. */
KP_API const char *kp_status_name(kp_status status);

/* The library's version, "major.minor.patch". */
KP_API const char *kp_version(void);

/* ---- Memory --------------------------------------------------------------------------------------------------- */

/* Where the library takes its memory. `alloc` returns `size` bytes aligned to `alignment` (a power of two <= 64), or
 * NULL; `release` takes what `alloc` returned, with the same size. Both may be called from any thread. */
typedef struct kp_allocator {
  void *(*alloc)(void *context, size_t size, size_t alignment);
  void (*release)(void *context, void *pointer, size_t size);
  void *context;
} kp_allocator;

/* ---- Processor ------------------------------------------------------------------------------------------------ */

/* Instruction-set levels, lowest first. On a processor each level implies those below it of the same family. */
enum {
  KP_ISA_SCALAR = 0,
  KP_ISA_AVX2 = 1 << 0,       /* AVX2 and FMA */
  KP_ISA_AVX512 = 1 << 1,     /* AVX-512 F, BW, DQ, VL */
  KP_ISA_AVX512VNNI = 1 << 2, /* AVX-512 VNNI */
  KP_ISA_NEON = 1 << 3,
  KP_ISA_DOTPROD = 1 << 4,
  KP_ISA_I8MM = 1 << 5
};

/* The levels that this processor and operating system support, as a mask of KP_ISA_*. */
KP_API uint32_t kp_cpu_isa(void);

/* The mask with every level above `name` removed ("scalar", "avx2", "avx512", "avx512vnni", "neon", "dotprod",
 * "i8mm"). Returns false, and leaves *mask alone, where the name is none of these. */
KP_API bool kp_isa_cap(uint32_t *mask, const char *name);

/* The name of the highest level in the mask. */
KP_API const char *kp_isa_name(uint32_t mask);

/* ---- Tensors -------------------------------------------------------------------------------------------------- */

#define KP_MAX_RANK 8

typedef enum kp_dtype { KP_F32 = 0, KP_I32, KP_BOOL, KP_U8, KP_I8 } kp_dtype;

/* Bytes of one element (KP_BOOL: one byte, 0 or 1). */
KP_API size_t kp_dtype_size(kp_dtype dtype);
KP_API const char *kp_dtype_name(kp_dtype dtype); /* "f32", "i32", "bool", "u8", "i8" */

typedef struct kp_tensor {
  kp_dtype dtype;
  int32_t rank;
  int64_t shape[KP_MAX_RANK];
  void *data; /* dense, row-major; only read where it is an input */
} kp_tensor;

/* ---- Models --------------------------------------------------------------------------------------------------- */

typedef struct kp_model kp_model;

typedef struct kp_model_options {
  const kp_allocator *allocator; /* NULL: malloc. Copied; its context must outlive the model and its sessions. */
  uint32_t isa;                  /* levels to use; those that the processor lacks are removed */
} kp_model_options;

/* Opens the model file at `path` (UTF-8). `options` may be NULL: malloc, and every level of kp_cpu_isa(). */
KP_API kp_status kp_model_open(const char *path, const kp_model_options *options, kp_model **model, kp_error *error);

/* The same from memory. The bytes are copied. */
KP_API kp_status kp_model_open_memory(const void *data, size_t size, const kp_model_options *options, kp_model **model,
                                      kp_error *error);

/* Closes the model. Its sessions must be closed before. NULL is allowed. */
KP_API void kp_model_close(kp_model *model);

/* The levels in use, as a mask of KP_ISA_*. */
KP_API uint32_t kp_model_isa(const kp_model *model);

/* The size of the model file in bytes. */
KP_API size_t kp_model_file_bytes(const kp_model *model);

/* The string under the metadata key (as "general.name"), or NULL where there is none of type string.
 * Valid while the model is open. */
KP_API const char *kp_model_metadata(const kp_model *model, const char *key);

/* Weights, as stored: names are PyTorch module paths. */
typedef struct kp_weight {
  const char *name;
  kp_tensor tensor; /* data is read-only */
  size_t bytes;
} kp_weight;

KP_API size_t kp_model_weight_count(const kp_model *model);
KP_API kp_status kp_model_weight(const kp_model *model, size_t index, kp_weight *weight, kp_error *error);

/* A dimension: value * N^n * T^t, where N is the batch and T the number of text tokens. */
typedef struct kp_dim {
  int64_t value;
  uint8_t n, t; /* exponents, 0 or 1 */
} kp_dim;

/* What goes in, comes out, or can be tapped. PyTorch's tensor ("logical") has `shape`; the bytes in memory are that
 * tensor with its dimensions in another order: memory dimension i is logical dimension order[i], so that an image,
 * logically N,3,H,W, with order 0,2,3,1 lies in memory as N,H,W,3. */
typedef struct kp_port {
  const char *name; /* a parameter's name for inputs; else a PyTorch module path or an output's name */
  kp_dtype dtype;
  int32_t rank;
  kp_dim shape[KP_MAX_RANK];
  uint8_t order[KP_MAX_RANK];
  /* Of KP_I8, else 0 and NULL: element i in memory stands for scale[c] * (q - zero_point[c]), c = i % channels. */
  int64_t channels;
  const float *scale;
  const int8_t *zero_point;
} kp_port;

typedef enum kp_port_kind { KP_INPUT = 0, KP_OUTPUT, KP_TAP } kp_port_kind;

KP_API size_t kp_model_program_count(const kp_model *model);
KP_API const char *kp_model_program_name(const kp_model *model, size_t program); /* NULL: no such program */
/* The program's index, or -1. */
KP_API int kp_model_find_program(const kp_model *model, const char *name);
KP_API size_t kp_model_port_count(const kp_model *model, size_t program, kp_port_kind kind);
KP_API kp_status kp_model_port(const kp_model *model, size_t program, kp_port_kind kind, size_t index, kp_port *port,
                               kp_error *error);

/* ---- Sessions ------------------------------------------------------------------------------------------------- */

typedef struct kp_session kp_session;

#define KP_MAX_THREADS 64

/* A session with `threads` threads (1 to KP_MAX_THREADS, the calling one included). The model must outlive it. */
KP_API kp_status kp_session_create(const kp_model *model, int threads, kp_session **session, kp_error *error);
KP_API void kp_session_close(kp_session *session); /* NULL is allowed */
KP_API int kp_session_threads(const kp_session *session);

/* Called in execution order, on the calling thread, right after a tapped tensor was computed. `tensor` is in memory
 * order (see kp_port) and valid during the call. Return true to go on, false to stop the run. */
typedef bool (*kp_tap_fn)(void *context, size_t program, size_t tap, const kp_tensor *tensor);

/* Runs a program. Inputs are in the order of its input ports, in memory order; N and T are taken from their shapes.
 * Every float input must be finite. `outputs`, room for `output_count` tensors, one per output port, receives tensors
 * that point into the session and are valid until its next call. `tap` may be NULL. */
KP_API kp_status kp_session_run(kp_session *session, size_t program, const kp_tensor *inputs, size_t input_count,
                                kp_tensor *outputs, size_t output_count, kp_tap_fn tap, void *tap_context,
                                kp_error *error);

/* What a run of a program at batch n and t text tokens costs. */
typedef struct kp_program_cost {
  size_t arena_bytes; /* tensors and scratch at their peak */
  uint64_t macs;      /* multiply-accumulates of convolutions, linear layers, matmuls and attention */
  size_t op_count;    /* operators that run a kernel */
} kp_program_cost;

KP_API kp_status kp_session_cost(kp_session *session, size_t program, int64_t n, int64_t t, kp_program_cost *cost,
                                 kp_error *error);

/* One operator of a program, in execution order. */
typedef struct kp_op_info {
  const char *type;   /* "conv2d", ... */
  const char *output; /* the name of the value it computes */
  uint64_t macs;
  size_t output_bytes;
} kp_op_info;

/* The operator `index` (< kp_program_cost.op_count) at batch n and t text tokens. */
KP_API kp_status kp_session_op(kp_session *session, size_t program, int64_t n, int64_t t, size_t index,
                               kp_op_info *info, kp_error *error);

/* ---- Digests -------------------------------------------------------------------------------------------------- */

/* Takes `size` bytes of text, which are not terminated. Return true to go on, false to stop the run. */
typedef bool (*kp_write_fn)(void *context, const char *text, size_t size);

/* Has the session write a digest of what it runs, until this is called with NULL for `write`: at once a header with
 * version, instruction set, threads and the model file's hash; then, in each kp_session_run and kp_encode, a line with
 * a hash for every tensor that an operator computes, in execution order (docs/digest.md). The digests of an int8 model
 * are equal everywhere but for the header. */
KP_API kp_status kp_session_write_digest(kp_session *session, kp_write_fn write, void *context, kp_error *error);

/* ---- Text ----------------------------------------------------------------------------------------------------- */

/* Encodes UTF-8 text (any bytes: what is not UTF-8 becomes U+FFFD, as Python's errors="replace") with the model's
 * tokenizer, special tokens and truncation included. `ids` has room for `capacity` ids; *count is how many there
 * are, at most the model's maximum. KP_ERROR_ARGUMENT where they do not fit, KP_ERROR_UNSUPPORTED where the model
 * has no tokenizer. */
KP_API kp_status kp_model_tokenize(const kp_model *model, const char *text, size_t size, int32_t *ids, size_t capacity,
                                   size_t *count, kp_error *error);

/* ---- The encoder ---------------------------------------------------------------------------------------------- */

#define KP_REGION_COUNT 4
#define KP_EMBEDDING_SIZE 256
#define KP_MAX_IMAGE_SIDE 16384

/* The regions, in this order everywhere. */
typedef enum kp_region { KP_INPUT_FIELD = 0, KP_CHAT_BUBBLE, KP_KEYBOARD, KP_TITLE_BAR } kp_region;

/* Pixels of 1 (grey), 3 (RGB) or 4 (RGBA; alpha is ignored) channels, of 8 or 16 bits (native byte order; the upper
 * 8 bits are used, as Pillow does). */
typedef struct kp_image {
  const void *data;
  int32_t width, height; /* 1 to KP_MAX_IMAGE_SIDE */
  int32_t channels;      /* 1, 3 or 4 */
  int32_t bits;          /* 8 or 16 */
  size_t row_bytes;      /* from one row to the next; >= width * channels * bits / 8 */
} kp_image;

typedef struct kp_encoder_info {
  int32_t image_side;   /* the screen program's input, in pixels */
  int32_t crop_side;    /* the roi program's input; 0 where regions are pooled from the feature map */
  int32_t regions_side; /* of the letterboxed picture that the masks lie over */
  int32_t mask_height, mask_width;
  int32_t max_tokens;
  int64_t user_count; /* 0: the model does not ask who types */
  bool trained;       /* false: seeded weights, for testing the engine */
} kp_encoder_info;

/* KP_ERROR_UNSUPPORTED where the model is not an encoder. */
KP_API kp_status kp_model_encoder_info(const kp_model *model, kp_encoder_info *info, kp_error *error);

typedef enum kp_stage {
  KP_STAGE_IMAGE = 0, /* letterbox, resize, normalise */
  KP_STAGE_SCREEN,
  KP_STAGE_GLOBAL,  /* the image embedding, where it has a program of its own, from the picture on */
  KP_STAGE_REGIONS, /* their program, where they have one, from the picture on; masks, boxes, crops */
  KP_STAGE_ROI,
  KP_STAGE_TEXT,
  KP_STAGE_FUSION,
  KP_STAGE_COUNT
} kp_stage;

KP_API const char *kp_stage_name(kp_stage stage);

/* What one picture and one text give. */
typedef struct kp_encoding {
  float context[KP_EMBEDDING_SIZE];
  float image[KP_EMBEDDING_SIZE];
  float rois[KP_REGION_COUNT][KP_EMBEDDING_SIZE];
  float text[KP_EMBEDDING_SIZE];
  int32_t boxes[KP_REGION_COUNT][4]; /* x0, y0, x1, y1 in the picture's pixels; x1 and y1 exclusive */
  bool roi_valid[KP_REGION_COUNT];   /* false: no mask was found and the fixed grid's cell was used */
  const uint8_t *masks;              /* (KP_REGION_COUNT, mask_height, mask_width), 0 or 1, over the picture letterboxed
                                        to regions_side; valid until the session's next call */
  int32_t token_count;
  uint64_t nanoseconds[KP_STAGE_COUNT];
} kp_encoding;

#define KP_USER_SIZE 64
#define KP_UNKNOWN_USER (-1)

/* Who types: one of the model's users, or a vector in place of the one that the model has for a user. */
typedef struct kp_user {
  int64_t id;          /* 0 to user_count - 1, or KP_UNKNOWN_USER; not read where there is a vector */
  const float *vector; /* KP_USER_SIZE finite numbers, or NULL */
} kp_user;

/* Encodes a picture and UTF-8 text. `text` may be NULL where text_size is 0. `user` may be NULL: unknown; a model whose
 * user_count is 0 takes no other. `tap` may be NULL; it sees every program in turn. */
KP_API kp_status kp_encode(kp_session *session, const kp_image *image, const char *text, size_t text_size,
                           const kp_user *user, kp_encoding *encoding, kp_tap_fn tap, void *tap_context,
                           kp_error *error);

#ifdef __cplusplus
}
#endif

#endif /* KEYPILOT_KEYPILOT_H */

/* Encodes a picture and a text, and prints the context vector and the regions.
 *
 *   encode [--digest FILE] MODEL.gguf PICTURE.ppm [TEXT]
 *
 * PICTURE.ppm is binary Netpbm, "P6" with 8 bits a channel, which any image tool writes. --digest writes a hash of every
 * tensor on the way, which `keypilot digest --diff` compares with another machine's. */
#include <keypilot/keypilot.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads the picture; its pixels are the caller's to free. False where the file is none. */
static bool read_ppm(const char *path, kp_image *image) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return false;
  int width, height, largest;
  bool ok = fscanf(file, "P6 %d %d %d", &width, &height, &largest) == 3 && largest == 255 && fgetc(file) != EOF &&
            width >= 1 && width <= KP_MAX_IMAGE_SIDE && height >= 1 && height <= KP_MAX_IMAGE_SIDE;
  size_t row_bytes = ok ? 3 * (size_t)width : 0;
  void *pixels = ok ? malloc(row_bytes * (size_t)height) : NULL;
  ok = pixels != NULL && fread(pixels, row_bytes, (size_t)height, file) == (size_t)height;
  fclose(file);
  if (!ok) {
    free(pixels);
    return false;
  }
  *image =
      (kp_image){.data = pixels, .width = width, .height = height, .channels = 3, .bits = 8, .row_bytes = row_bytes};
  return true;
}

static void print(const kp_encoding *encoding) {
  static const char *const names[KP_REGION_COUNT] = {"input field", "chat bubble", "keyboard", "title bar"};
  for (int i = 0; i < KP_EMBEDDING_SIZE; i++) {
    printf("%s%.6f", i == 0 ? "" : i % 8 == 0 ? "\n" : " ", (double)encoding->context[i]);
  }
  printf("\n\n");
  for (int i = 0; i < KP_REGION_COUNT; i++) {
    const int32_t *box = encoding->boxes[i];
    printf("%-12s x %d to %d, y %d to %d%s\n", names[i], (int)box[0], (int)box[2], (int)box[1], (int)box[3],
           encoding->roi_valid[i] ? "" : " (no mask: the fixed grid's cell)");
  }
}

/* A kp_write_fn. */
static bool write_to_file(void *file, const char *text, size_t size) { return fwrite(text, 1, size, file) == size; }

int main(int argc, char **argv) {
  const char *digest_path = NULL;
  if (argc > 2 && strcmp(argv[1], "--digest") == 0) {
    digest_path = argv[2];
    argv += 2;
    argc -= 2;
  }
  if (argc < 3 || argc > 4) {
    fprintf(stderr, "usage: encode [--digest FILE] MODEL.gguf PICTURE.ppm [TEXT]\n");
    return 2;
  }
  const char *text = argc == 4 ? argv[3] : "";

  kp_image image;
  if (!read_ppm(argv[2], &image)) {
    fprintf(stderr, "%s: expected a binary PPM (P6) picture of 8 bits a channel\n", argv[2]);
    return 1;
  }
  FILE *digest = digest_path != NULL ? fopen(digest_path, "wb") : NULL;
  if (digest_path != NULL && digest == NULL) {
    fprintf(stderr, "%s: expected a file that can be written\n", digest_path);
    free((void *)image.data);
    return 1;
  }

  kp_model *model = NULL;     /* the file: shared by any number of sessions */
  kp_session *session = NULL; /* threads and working memory: one per concurrent caller */
  kp_encoding encoding;
  kp_error error;
  kp_status status = kp_model_open(argv[1], NULL, &model, &error);
  if (status == KP_OK) status = kp_session_create(model, 1, &session, &error);
  if (status == KP_OK && digest != NULL) status = kp_session_write_digest(session, write_to_file, digest, &error);
  if (status == KP_OK) status = kp_encode(session, &image, text, strlen(text), NULL, &encoding, NULL, NULL, &error);

  if (status == KP_OK) {
    print(&encoding);
  } else {
    fprintf(stderr, "%s error: %s\n", kp_status_name(status), error.message);
  }
  kp_session_close(session);
  kp_model_close(model);
  free((void *)image.data);
  if (digest != NULL && fclose(digest) != 0) {
    fprintf(stderr, "%s: expected room for the digest\n", digest_path);
    return 1;
  }
  return status == KP_OK ? 0 : 1;
}

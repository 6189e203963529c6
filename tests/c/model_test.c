/* csrc/runtime/model.c over the files of make_models.py: what opens, what is refused, what a model tells. */
#include "check.h"

enum { ARITHMETIC = 0, TEXT = 1, PICTURE = 2 }; /* the sample's programs */

static void a_model_tells_what_is_in_it(void) {
  kp_model *model = check_open("sample.gguf", NULL);
  CHECK(kp_model_program_count(model) == 3);
  CHECK(strcmp(kp_model_program_name(model, TEXT), "text") == 0 && kp_model_program_name(model, 3) == NULL);
  CHECK(kp_model_find_program(model, "picture") == PICTURE && kp_model_find_program(model, "pict") == -1);
  CHECK(strcmp(kp_model_metadata(model, "general.name"), "sample") == 0);
  CHECK(kp_model_metadata(model, "general.none") == NULL && kp_model_metadata(model, "keypilot.trained") == NULL);
  kp_port port;
  CHECK_OK(kp_model_port(model, PICTURE, KP_INPUT, 0, &port, &error));
  CHECK(strcmp(port.name, "image") == 0 && port.dtype == KP_F32 && port.rank == 4 && port.shape[0].n == 1 &&
        port.shape[1].value == 3 && port.order[1] == 2 && port.order[3] == 1);
  CHECK(kp_model_port_count(model, ARITHMETIC, KP_OUTPUT) == 3 && kp_model_port_count(model, 9, KP_OUTPUT) == 0);
  CHECK_FAILS(kp_model_port(model, TEXT, KP_OUTPUT, 1, &port, &error), KP_ERROR_ARGUMENT, "1 ports");
  kp_weight weight;
  CHECK_OK(kp_model_weight(model, 0, &weight, &error));
  CHECK(strcmp(weight.name, "w") == 0 && weight.bytes == 16 && ((const float *)weight.tensor.data)[3] == -4);
  CHECK_FAILS(kp_model_weight(model, kp_model_weight_count(model), &weight, &error), KP_ERROR_ARGUMENT, "weight index");
  kp_model_close(model);
}

static void files_that_cannot_be_read_are_io_errors(void) {
  char path[512];
  kp_model *model = NULL;
  CHECK_FAILS(kp_model_open(check_model_path("none.gguf", path), NULL, &model, &error), KP_ERROR_IO, "none.gguf: ");
  CHECK_FAILS(kp_model_open(check_models, NULL, &model, &error), KP_ERROR_IO, "not a regular file");
  CHECK_FAILS(kp_model_open(NULL, NULL, &model, &error), KP_ERROR_ARGUMENT, "got NULL");
  CHECK(model == NULL);
}

static void damaged_models_are_refused_with_what_is_wrong_and_where(void) {
  char path[512], line[512];
  FILE *list = fopen(check_model_path("refused/expected.txt", path), "r");
  CHECK(list != NULL);
  if (list == NULL) return;
  size_t count = 0;
  for (; fgets(line, sizeof line, list) != NULL; count++) {
    char *name = line, *status = strchr(line, '\t') + 1, *message = strchr(status, '\t') + 1;
    status[-1] = message[-1] = message[strcspn(message, "\n")] = '\0';
    char relative[600];
    snprintf(relative, sizeof relative, "refused/%s", name);
    check_allocator state = {.fail_at = SIZE_MAX};
    kp_allocator allocator = check_counting(&state);
    kp_model_options options = {.allocator = &allocator, .isa = UINT32_MAX};
    kp_model *model = NULL;
    kp_error error = {.status = KP_OK};
    kp_status got = kp_model_open(check_model_path(relative, path), &options, &model, &error);
    if (strcmp(kp_status_name(got), status) != 0 || strstr(error.message, message) == NULL) {
      check_failed(__FILE__, __LINE__, "%s: expected %s with '%s', got %s: %s", name, status, message,
                   kp_status_name(got), got != KP_OK ? error.message : "");
    }
    if (got == KP_OK) kp_model_close(model);
    CHECK(state.live == 0);
  }
  fclose(list);
  CHECK(count > 30);
}

const check_test model_tests[] = {TEST(a_model_tells_what_is_in_it),
                                  TEST(files_that_cannot_be_read_are_io_errors),
                                  TEST(damaged_models_are_refused_with_what_is_wrong_and_where),
                                  {NULL, NULL}};

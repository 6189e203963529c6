/* csrc/model/notation.c and attributes.c: the notations inside the file's strings. */
#include <math.h>

#include "check.h"
#include "model/attributes.h"
#include "model/notation.h"

/* ---- Numbers and shapes ---- */

static bool whole_float(const char *text, double *value) { return kp_read_float(&text, value) && *text == '\0'; }

static void hexadecimal_floats_come_back_exactly(void) {
  static const double samples[] = {
      0.0,     -0.0, 1.0, -1.5, 1e-5, 3.14159265358979, 0x1p-149, 0x1p-1074, 0x1p-1022, 0x1.fffffffffffffp1023,
      1.0 / 3, 6e23};
  char text[64];
  for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
    double value = 7;
    snprintf(text, sizeof text, "%a", samples[i]);
    CHECK(whole_float(text, &value) && memcmp(&value, &samples[i], sizeof value) == 0);
  }
  check_random random = {3};
  for (int i = 0; i < 100000; i++) {
    uint64_t bits = (uint64_t)check_next(&random) << 32 | check_next(&random);
    double sample, value = 7;
    memcpy(&sample, &bits, sizeof sample);
    if (!isfinite(sample)) continue;
    snprintf(text, sizeof text, "%a", sample);
    CHECK(whole_float(text, &value) && memcmp(&value, &sample, sizeof value) == 0);
  }
}

static void other_floats_are_refused(void) {
  static const char *const samples[] = {"",
                                        "1.5",
                                        "0x",
                                        "0x1",
                                        "0x1p",
                                        "0xp1",
                                        "inf",
                                        "nan",
                                        "0x1p+",
                                        "0x1p99999",
                                        "0x1p1024",
                                        "+0x1p0",
                                        "0X1p0",
                                        "0x.p0",
                                        "0x1,5p0",
                                        " 0x1p0",
                                        "0x11111111111111111p0",
                                        "0x1p-"};
  double value;
  for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
    if (whole_float(samples[i], &value)) check_failed(__FILE__, __LINE__, "'%s' was read as %a", samples[i], value);
  }
}

static void shapes_are_read_with_their_symbols(void) {
  kp_dim dims[KP_MAX_RANK];
  int32_t rank;
  CHECK(kp_read_shape("4N,64,2NT,T,N,0", dims, &rank) && rank == 6);
  static const kp_dim expected[] = {{4, 1, 0}, {64, 0, 0}, {2, 1, 1}, {1, 0, 1}, {1, 1, 0}, {0, 0, 0}};
  for (int i = 0; i < 6; i++) {
    CHECK(dims[i].value == expected[i].value && dims[i].n == expected[i].n && dims[i].t == expected[i].t);
  }
  CHECK(kp_read_shape("", dims, &rank) && rank == 0);
  static const char *const wrong[] = {
      ",",  "1,", ",1", "1,,2", "-1", "TN", "NN", "2147483648", "1 ", "n", "1,1,1,1,1,1,1,1,1", "99999999999999999999",
      "0x1"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) CHECK(!kp_read_shape(wrong[i], dims, &rank));
}

/* ---- Attributes ---- */

static const char *const colours[] = {"red", "blue", NULL};

static const kp_op sample_op = {
    .name = "sample",
    .attribute_count = 4,
    .attributes = {
        {.name = "stride", .kind = KP_ATTR_INT, .min_count = 2, .max_count = 2, .default_int = 1},
        {.name = "dims", .kind = KP_ATTR_DIM, .min_count = 1, .max_count = 3, .required = true},
        {.name = "eps", .kind = KP_ATTR_FLOAT, .min_count = 1, .max_count = 1, .default_float = 0.25},
        {.name = "colour", .kind = KP_ATTR_WORD, .min_count = 1, .max_count = 1, .words = colours, .default_int = 1}}};

static void attributes_follow_the_schema_in_any_order_with_defaults(void) {
  kp_node_attribute attributes[4] = {{0}};
  kp_attribute resolved[4];
  CHECK_OK(kp_attributes_parse(&sample_op, "colour=red dims=2N,T stride=3,-4", attributes, &error));
  CHECK_OK(kp_attributes_resolve(&sample_op, attributes, 5, 7, resolved, &error));
  CHECK(resolved[0].count == 2 && resolved[0].i[0] == 3 && resolved[0].i[1] == -4);
  CHECK(resolved[1].count == 2 && resolved[1].i[0] == 10 && resolved[1].i[1] == 7);
  CHECK(resolved[2].count == 1 && resolved[2].f[0] == 0.25);
  CHECK(resolved[3].count == 1 && resolved[3].i[0] == 0);
  memset(attributes, 0, sizeof attributes);
  CHECK_OK(kp_attributes_parse(&sample_op, "dims=8 eps=0x1p-3", attributes, &error));
  CHECK_OK(kp_attributes_resolve(&sample_op, attributes, 5, 7, resolved, &error));
  CHECK(resolved[0].count == 2 && resolved[0].i[0] == 1 && resolved[0].i[1] == 1);
  CHECK(resolved[2].f[0] == 0.125 && resolved[3].i[0] == 1);
}

static void wrong_attributes_are_refused_by_name(void) {
  static const struct {
    const char *text, *message;
  } wrong[] = {{"", "'dims' is missing"},
               {"dims=1 dims=2", "'dims': it appears twice"},
               {"dims=1 size=2", "'size': the operator has none"},
               {"dims=1,2,3,4", "'dims': expected at most 3"},
               {"dims=", "'dims': expected at least 1"},
               {"dims=1 stride=2", "'stride': expected at least 2 values, got 1"},
               {"dims=1 stride=2,x", "'stride': value 1: expected integers"},
               {"dims=1 stride=2,N", "'stride': value 1: expected integers"},
               {"dims=1 eps=0.5", "'eps': value 0: expected hexadecimal floats"},
               {"dims=1 colour=green", "'colour': value 0: expected a known word"},
               {"dims=1 colour=re", "'colour': value 0: expected a known word"},
               {"dims=1;", "'dims': unexpected text"},
               {"dims=1 ", "end with a space"},
               {" dims=1", "expected 'name=value' at character 0"},
               {"dims=1  eps=0x1p0", "expected 'name=value' at character 7"},
               {"dims", "expected 'name=value' at character 0"}};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    kp_node_attribute attributes[4] = {{0}};
    CHECK_FAILS(kp_attributes_parse(&sample_op, wrong[i].text, attributes, &error), KP_ERROR_MODEL, wrong[i].message);
  }
}

static void a_dimension_that_grows_too_large_is_refused(void) {
  kp_node_attribute attributes[4] = {{0}};
  kp_attribute resolved[4];
  CHECK_OK(kp_attributes_parse(&sample_op, "dims=1000000NT", attributes, &error));
  CHECK_OK(kp_attributes_resolve(&sample_op, attributes, 2, 1000, resolved, &error));
  CHECK_FAILS(kp_attributes_resolve(&sample_op, attributes, 4096, 4096, resolved, &error), KP_ERROR_SHAPE, "'dims'");
}

const check_test notation_tests[] = {TEST(hexadecimal_floats_come_back_exactly),
                                     TEST(other_floats_are_refused),
                                     TEST(shapes_are_read_with_their_symbols),
                                     TEST(attributes_follow_the_schema_in_any_order_with_defaults),
                                     TEST(wrong_attributes_are_refused_by_name),
                                     TEST(a_dimension_that_grows_too_large_is_refused),
                                     {NULL, NULL}};

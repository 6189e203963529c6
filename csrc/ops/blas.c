#ifdef KP_OPENBLAS_AT_RUN_TIME
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>
#endif

#include "ops/blas.h"

#include <cblas.h>
#include <string.h>

static bool has_small_kernels(const char *core) {
  static const char *const cores[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
  for (size_t i = 0; i < sizeof cores / sizeof cores[0]; i++) {
    if (strcmp(core, cores[i]) == 0) return true;
  }
  return false;
}

/* The functions that the core calls. */
typedef struct functions {
  __typeof__(&scipy_cblas_sgemm) sgemm;
  __typeof__(&scipy_openblas_get_corename) get_corename;
  __typeof__(&scipy_openblas_set_num_threads) set_num_threads;
} functions;

#ifdef KP_OPENBLAS_AT_RUN_TIME
/* POSIX has functions and objects in pointers of one size. */
static void find(const char *name, void *function) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  memcpy(function, &symbol, sizeof symbol);
}

static bool find_functions(functions *found) {
  find("scipy_cblas_sgemm", &found->sgemm);
  find("scipy_openblas_get_corename", &found->get_corename);
  find("scipy_openblas_set_num_threads", &found->set_num_threads);
  return found->sgemm != NULL && found->get_corename != NULL && found->set_num_threads != NULL;
}
#else
static bool find_functions(functions *found) {
  *found = (functions){scipy_cblas_sgemm, scipy_openblas_get_corename, scipy_openblas_set_num_threads};
  return true;
}
#endif

kp_status kp_blas_find(kp_blas *blas, kp_error *error) {
  functions found;
  if (!find_functions(&found)) {
    return kp_fail(error, KP_ERROR_UNSUPPORTED, "an fp32 model needs OpenBLAS, which the process has not loaded");
  }
  found.set_num_threads(1);
  *blas = (kp_blas){.sgemm = (void (*)(void))found.sgemm, .small_kernels = has_small_kernels(found.get_corename())};
  return KP_OK;
}

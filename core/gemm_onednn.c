#include "core/gemm_onednn.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* The beginning of oneDNN's dnnl_version_t. */
struct version {
    int major, minor, patch;
};

static int has_avx2(void)
{
#if defined __x86_64__
    return __builtin_cpu_supports("avx2");
#else
    return 0;
#endif
}

/* The major versions whose dnnl_sgemm has this signature; newest first. */
static void *open_library(void)
{
    static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library)
            return library;
    }
    return NULL;
}

/* dlsym's answer as a function: ISO C has no cast for it. */
static void find(void *library, const char *name, void *function)
{
    *(void **)function = dlsym(library, name);
}

gemm_onednn_sgemm gemm_onednn_load(char *version, size_t version_size)
{
    gemm_onednn_sgemm sgemm = NULL;
    const struct version *(*of)(void) = NULL;
    if (!has_avx2())
        return NULL;
    /* Its OpenMP runtime reads this when it is loaded, and never again. */
    if (setenv("OMP_NUM_THREADS", "1", 1) != 0)
        return NULL;
    void *library = open_library();
    if (!library)
        return NULL;
    find(library, "dnnl_sgemm", &sgemm);
    find(library, "dnnl_version", &of);
    if (!sgemm || !of) {
        dlclose(library);
        return NULL;
    }
    const struct version *v = of();
    snprintf(version, version_size, "%d.%d.%d", v->major, v->minor, v->patch);
    return sgemm; /* stays loaded until the process ends */
}

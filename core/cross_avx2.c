/* AVX2 and FMA. */
#include "core/cross_int.h"

#ifdef __x86_64__

#include <immintrin.h>

static bool runs(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx2,fma")

#define TILE_BYTES 32
#define TILE_HEADS 4
#define TILE_TOKENS 2
#include "core/cross_tile.h"

CROSS_RUN(run_f32, FORM_F32, mac_f32)
CROSS_RUN(run_bf16, FORM_WIDENED, mac_f32)

const struct cross_kernel cross_avx2 = {"avx2", runs, {run_f32, run_bf16}};

#pragma GCC pop_options

#else

const struct cross_kernel cross_avx2 = {"avx2", NULL, {NULL}};

#endif

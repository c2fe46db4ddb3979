/* AVX-512 as of its first server processors: bfloat16 is widened. */
#include "core/cross_int.h"

#ifdef __x86_64__

#include <immintrin.h>

static bool runs(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma")

#define TILE_BYTES 64
#define TILE_HEADS 8
#define TILE_TOKENS 3
#include "core/cross_tile.h"

CROSS_RUN(run_f32, FORM_F32, mac_f32)
CROSS_RUN(run_bf16, FORM_WIDENED, mac_f32)

const struct cross_kernel cross_avx512 = {"avx512", runs, {run_f32, run_bf16}};

#pragma GCC pop_options

#else

const struct cross_kernel cross_avx512 = {"avx512", NULL, {NULL}};

#endif

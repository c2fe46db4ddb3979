/* AVX-512 as of its first server processors: bfloat16 and int8 are widened. */
#include "core/linear_int.h"

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
#define TILE_ROWS 12
#define TILE_VECS 2
#include "core/linear_attend.h"

LINEAR_WIDENING(linear_avx512, "avx512", runs)

#pragma GCC pop_options

#else

const struct linear_kernel linear_avx512 = {"avx512", NULL, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}};

#endif

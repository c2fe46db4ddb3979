/* AVX2 and FMA. */
#include "core/linear_int.h"

#ifdef __x86_64__

#include <immintrin.h>

static bool runs(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx2,fma")

#define TILE_BYTES 32
#define TILE_ROWS 6
#define TILE_VECS 2
#include "core/linear_attend.h"

LINEAR_WIDENING(linear_avx2, "avx2", runs)

#pragma GCC pop_options

#else

const struct linear_kernel linear_avx2 = {"avx2", NULL, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}};

#endif

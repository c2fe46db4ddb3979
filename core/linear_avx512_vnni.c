/* AVX-512 with VPDPBUSD, which multiplies int8 at four times the rate of float32. */
#include "core/linear_int.h"

#ifdef __x86_64__

#include <immintrin.h>

static bool runs(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512vnni")

#define TILE_BYTES 64
#define TILE_ROWS 12
#define TILE_VECS 2
#include "core/linear_attend.h"

TILE_INLINE vec mac(vec sum, vecu a, vecu b)
{
    return (vec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)b, (__m512i)a);
}

TILE_APPLY(apply, true, mac)
ROWS(int8, LINEAR_INT8)

const struct linear_kernel linear_avx512_vnni = {"avx512-vnni", runs, {NULL, NULL, apply},
    {NULL, NULL, int8_convert}, {NULL, NULL, int8_norm}, {NULL, NULL, int8_activate}, {NULL, NULL}};

#pragma GCC pop_options

#else

const struct linear_kernel linear_avx512_vnni = {"avx512-vnni", NULL, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}};

#endif

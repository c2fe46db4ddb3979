/* AVX-512 with VDPBF16PS, which multiplies bfloat16 pairs at twice the rate of float32. */
#include "core/cross_int.h"

#ifdef __x86_64__

#include <immintrin.h>

static bool runs(void)
{
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,avx512bf16")

#define TILE_BYTES 64
#define TILE_HEADS 8
#define TILE_TOKENS 3
#include "core/cross_tile.h"

TILE_INLINE vec mac_pairs(vec sum, vec a, vec b)
{
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

CROSS_RUN(run_bf16, FORM_PAIRS, mac_pairs)

const struct cross_kernel cross_avx512_bf16 = {"avx512-bf16", runs, {NULL, run_bf16}};

#pragma GCC pop_options

#else

const struct cross_kernel cross_avx512_bf16 = {"avx512-bf16", NULL, {NULL}};

#endif

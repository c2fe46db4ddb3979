/* AVX-512 with VDPBF16PS, which multiplies bfloat16 pairs at twice the rate of float32. */
#include "core/linear_int.h"

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
#define TILE_ROWS 12
#define TILE_VECS 2
#include "core/linear_attend.h"

TILE_INLINE vec mac(vec sum, vecu a, vecu b)
{
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

TILE_APPLY(apply, false, mac)
ROWS(bf16, LINEAR_BF16)
ATTEND(attend_bf16, true, apply)

const struct linear_kernel linear_avx512_bf16 = {"avx512-bf16", runs, {NULL, apply}, {NULL, bf16_convert},
    {NULL, bf16_norm}, {NULL, bf16_activate}, {NULL, attend_bf16}};

#pragma GCC pop_options

#else

const struct linear_kernel linear_avx512_bf16 = {"avx512-bf16", NULL, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}};

#endif

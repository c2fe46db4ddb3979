/* AVX-512 with VDPBF16PS, which multiplies bfloat16 pairs at twice the rate of float32. */
#include "core/scorer_int.h"

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
#define TILE_PAIRS 4
#define TILE_VECS 2
#include "core/scorer_tile.h"
#include "core/scorer_tile_pack.h"

TILE_INLINE vec mac(vec sum, vecu a, vecu b)
{
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

TILE_RUN(run_bf16, false, mac)
TILE_GATE(gate_bf16, true, mac)
TILE_PACK(pack_bf16, true)

const struct scorer_kernel scorer_avx512_bf16 = {
    "avx512-bf16", runs, {NULL, run_bf16, NULL}, {NULL, gate_bf16}, NULL, {NULL, pack_bf16}, NULL};

#pragma GCC pop_options

#else

const struct scorer_kernel scorer_avx512_bf16 = {"avx512-bf16", NULL, {NULL}, {NULL}, NULL, {NULL}, NULL};

#endif

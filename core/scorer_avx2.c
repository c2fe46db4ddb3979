/* AVX2 and FMA. */
#include "core/scorer_int.h"

#ifdef __x86_64__

#include <immintrin.h>

static bool runs(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#pragma GCC push_options
#pragma GCC target("avx2,fma")

#define TILE_BYTES 32
#define TILE_PAIRS 2
#define TILE_VECS 2
#include "core/scorer_tile.h"
#include "core/scorer_tile_bound.h"
#include "core/scorer_tile_pack.h"

TILE_RUN(run_f32, false, vec_mac_f32)
TILE_RUN(run_bf16, false, vec_mac_bf16)
TILE_RUN(run_int8, true, vec_mac_int8)
TILE_GATE(gate_f32, false, vec_mac_f32)
TILE_BOUNDER(bounder, vec_mac_int8)
TILE_PACK(pack_f32, false)
TILE_PACK(pack_bf16, true)
TILE_PACK_INT8(pack_int8)

const struct scorer_kernel scorer_avx2 = {"avx2", runs, {run_f32, run_bf16, run_int8}, {gate_f32, NULL},
    &bounder, {pack_f32, pack_bf16}, pack_int8};

#pragma GCC pop_options

#else

const struct scorer_kernel scorer_avx2 = {"avx2", NULL, {NULL}, {NULL}, NULL, {NULL}, NULL};

#endif

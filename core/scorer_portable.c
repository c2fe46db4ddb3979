/* Vectors of 16 bytes, which every processor has: SSE2 on x86-64, NEON on arm64. */
#if defined __SSE2__
#include <emmintrin.h>
#elif defined __ARM_NEON
#include <arm_neon.h>
#endif

#define TILE_BYTES 16
#define TILE_PAIRS 2
#define TILE_VECS 2
#include "core/scorer_tile.h"
#include "core/scorer_tile_bound.h"
#include "core/scorer_tile_pack.h"

static bool always(void)
{
    return true;
}

TILE_RUN(run_f32, false, vec_mac_f32)
TILE_RUN(run_bf16, false, vec_mac_bf16)
TILE_RUN(run_int8, true, vec_mac_int8)
TILE_GATE(gate_f32, false, vec_mac_f32)
TILE_BOUNDER(bounder, vec_mac_int8)
TILE_PACK(pack_f32, false)
TILE_PACK(pack_bf16, true)
TILE_PACK_INT8(pack_int8)

const struct scorer_kernel scorer_portable = {"portable", always, {run_f32, run_bf16, run_int8},
    {gate_f32, NULL}, &bounder, {pack_f32, pack_bf16}, pack_int8};

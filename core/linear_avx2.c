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

TILE_APPLY(apply_f32, false, vec_mac_f32)
TILE_APPLY(apply_bf16, false, vec_mac_bf16)
TILE_APPLY(apply_int8, true, vec_mac_int8)
ROWS(f32, LINEAR_F32)
ROWS(bf16, LINEAR_BF16)
ROWS(int8, LINEAR_INT8)
ATTEND(attend_f32, false, apply_f32)

const struct linear_kernel linear_avx2 = {"avx2", runs, {apply_f32, apply_bf16, apply_int8},
    {f32_convert, bf16_convert, int8_convert}, {f32_norm, bf16_norm, int8_norm},
    {f32_activate, bf16_activate, int8_activate}, {attend_f32, NULL}};

#pragma GCC pop_options

#else

const struct linear_kernel linear_avx2 = {"avx2", NULL, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}};

#endif

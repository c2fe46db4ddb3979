/* Vectors of 16 bytes, which every processor has: SSE2 on x86-64, NEON on arm64. */
#if defined __SSE2__
#include <emmintrin.h>
#elif defined __ARM_NEON
#include <arm_neon.h>
#endif

#define TILE_BYTES 16
#ifdef __aarch64__ /* 32 registers, else 16 */
#define TILE_ROWS 8
#else
#define TILE_ROWS 4
#endif
#define TILE_VECS 2
#include "core/linear_attend.h"

static bool always(void)
{
    return true;
}

TILE_APPLY(apply_f32, false, vec_mac_f32)
TILE_APPLY(apply_bf16, false, vec_mac_bf16)
TILE_APPLY(apply_int8, true, vec_mac_int8)
ROWS(f32, LINEAR_F32)
ROWS(bf16, LINEAR_BF16)
ROWS(int8, LINEAR_INT8)
ATTEND(attend_f32, false, apply_f32)

const struct linear_kernel linear_portable = {"portable", always, {apply_f32, apply_bf16, apply_int8},
    {f32_convert, bf16_convert, int8_convert}, {f32_norm, bf16_norm, int8_norm},
    {f32_activate, bf16_activate, int8_activate}, {attend_f32, NULL}};

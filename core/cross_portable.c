/* Vectors of 16 bytes, which every processor has: SSE2 on x86-64, NEON on arm64. */
#if defined __SSE2__
#include <emmintrin.h>
#elif defined __ARM_NEON
#include <arm_neon.h>
#endif

#define TILE_BYTES 16
#define TILE_HEADS 4
#define TILE_TOKENS 3
#include "core/cross_tile.h"

static bool always(void)
{
    return true;
}

CROSS_RUN(run_f32, FORM_F32, mac_f32)
CROSS_RUN(run_bf16, FORM_WIDENED, mac_f32)

const struct cross_kernel cross_portable = {"portable", always, {run_f32, run_bf16}};

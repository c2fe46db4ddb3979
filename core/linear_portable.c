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

LINEAR_WIDENING(linear_portable, "portable", always)

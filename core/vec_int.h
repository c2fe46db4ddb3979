/* Shared by core/vec*.c alone. */
#ifndef EMBSUM_CORE_VEC_INT_H
#define EMBSUM_CORE_VEC_INT_H

#include "core/vec.h"

#include <string.h>

/* The loader's choice between clones runs before a sanitizer is ready, so sanitized builds take the plain one. */
#if defined __x86_64__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
#define DISPATCHED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DISPATCHED
#endif

enum { LANES = 16 }; /* partial sums: a reduction that the compiler may vectorise without reordering */

/* e^x for x <= 0, to 1 ulp or so; 0 below -87.3. x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r
 * (the Taylor coefficients, degree 7, suffice at that radius), and 2^n put into the exponent. */
static inline float exp_negative(float x)
{
    const float clamped = x < -87.3f ? -87.3f : x;
    const float shifted = clamped * 1.44269504f + 12582912.0f; /* 1.5 x 2^23: rounds to an integer */
    const float n = shifted - 12582912.0f;
    const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.3f ? 0.0f : p * scale;
}

#endif

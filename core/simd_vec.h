/* Vectors of TILE_BYTES (16, 32 or 64) for one kernel: GCC's vector types, and by name the few operations for which
 * they have no operator. Included once by a core/scorer_<kernel>.c or core/linear_<kernel>.c, behind its target pragma and
 * its instruction set's header. */
#ifndef EMBSUM_CORE_SIMD_VEC_H
#define EMBSUM_CORE_SIMD_VEC_H

#include <stdint.h>

#ifndef TILE_BYTES
#error "TILE_BYTES is the kernel's to say"
#endif

#define TILE_INLINE static inline __attribute__((always_inline))
#define TILE_UNROLL _Pragma("GCC unroll 16")

/* aligned and may_alias as packed matrices are; vec_load and vec_store are for the others. */
typedef float vec __attribute__((vector_size(TILE_BYTES), may_alias));
typedef int32_t veci __attribute__((vector_size(TILE_BYTES), may_alias));
typedef uint32_t vecu __attribute__((vector_size(TILE_BYTES), may_alias));
typedef int16_t vech __attribute__((vector_size(TILE_BYTES), may_alias));
typedef float vec_unaligned __attribute__((vector_size(TILE_BYTES), may_alias, aligned(4)));

enum { VEC_LANES = TILE_BYTES / 4 };

TILE_INLINE vec vec_all(float x)
{
    return x - (vec){0};
}

TILE_INLINE vecu vec_all_units(uint32_t x)
{
    return x + (vecu){0};
}

/* vec_muladd is a b + c, rounded once where the processor can; vec_dot16 adds the products of two neighbouring 16-bit
 * numbers to each sum. */
#if TILE_BYTES == 64
TILE_INLINE vec vec_muladd(vec a, vec b, vec c)
{
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
TILE_INLINE vec vec_max(vec a, vec b)
{
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
}
TILE_INLINE vec vec_min(vec a, vec b)
{
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
}
TILE_INLINE veci vec_dot16(veci sum, vech a, vech b)
{
    return sum + (veci)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}
#elif TILE_BYTES == 32
TILE_INLINE vec vec_muladd(vec a, vec b, vec c)
{
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
TILE_INLINE vec vec_max(vec a, vec b)
{
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
}
TILE_INLINE vec vec_min(vec a, vec b)
{
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
}
TILE_INLINE veci vec_dot16(veci sum, vech a, vech b)
{
    return sum + (veci)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
#elif defined __SSE2__
TILE_INLINE vec vec_muladd(vec a, vec b, vec c)
{
    return a * b + c;
}
TILE_INLINE vec vec_max(vec a, vec b)
{
    return (vec)_mm_max_ps((__m128)a, (__m128)b);
}
TILE_INLINE vec vec_min(vec a, vec b)
{
    return (vec)_mm_min_ps((__m128)a, (__m128)b);
}
TILE_INLINE veci vec_dot16(veci sum, vech a, vech b)
{
    return sum + (veci)_mm_madd_epi16((__m128i)a, (__m128i)b);
}
#elif defined __ARM_NEON && defined __aarch64__
TILE_INLINE vec vec_muladd(vec a, vec b, vec c)
{
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
TILE_INLINE vec vec_max(vec a, vec b)
{
    return (vec)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
}
TILE_INLINE vec vec_min(vec a, vec b)
{
    return (vec)vminq_f32((float32x4_t)a, (float32x4_t)b);
}
TILE_INLINE veci vec_dot16(veci sum, vech a, vech b) /* a product of an int8 and a uint8 fits into 16 bits */
{
    return (veci)vpadalq_s16((int32x4_t)sum, (int16x8_t)(a * b));
}
#else
TILE_INLINE vec vec_muladd(vec a, vec b, vec c)
{
    return a * b + c;
}
TILE_INLINE vec vec_max(vec a, vec b)
{
    const veci above = a > b;
    return (vec)(((veci)a & above) | ((veci)b & ~above));
}
TILE_INLINE vec vec_min(vec a, vec b)
{
    const veci below = a < b;
    return (vec)(((veci)a & below) | ((veci)b & ~below));
}
TILE_INLINE veci vec_dot16(veci sum, vech a, vech b)
{
    const vech product = a * b; /* of an int8 and a uint8: fits */
    return sum + ((veci)product << 16 >> 16) + ((veci)product >> 16);
}
#endif

/* ---- one unit of every lane: sum += a b, where b is the same unit in every lane ---- */

TILE_INLINE vec vec_mac_f32(vec sum, vecu a, vecu b)
{
    return vec_muladd((vec)a, (vec)b, sum);
}

/* A bfloat16 is the upper half of a float32. */
TILE_INLINE vec vec_mac_bf16(vec sum, vecu a, vecu b)
{
    sum = vec_muladd((vec)(a << 16), (vec)(b << 16), sum);
    return vec_muladd((vec)(a & 0xFFFF0000), (vec)(b & 0xFFFF0000), sum);
}

/* a signed, b unsigned. Widened to 16 bits: VPMADDUBSW on the bytes themselves would saturate. */
TILE_INLINE vec vec_mac_int8(vec sum, vecu a, vecu b)
{
    const veci even = vec_dot16((veci)sum, (vech)a << 8 >> 8, (vech)(b & 0x00FF00FF));
    return (vec)vec_dot16(even, (vech)a >> 8, (vech)(b >> 8 & 0x00FF00FF));
}

/* ---- functions ---- */

/* e^x for x <= 0 within 2 ulp; below -86 it stays at e^-86 = 4e-38, which is no weight beside the 1 of the largest.
 * x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r (degree 6, least largest error: 3e-9), and n added to the
 * exponent. */
TILE_INLINE vec vec_exp_negative(vec x)
{
    const float round = 12582912.0f; /* 1.5 x 2^23: what is added to it is rounded to an integer */
    x = vec_max(x, vec_all(-86.0f));
    const vec shifted = vec_muladd(x, vec_all(1.44269504f), vec_all(round)), n = shifted - round;
    vec r = vec_muladd(n, vec_all(-0.693359375f), x);
    r = vec_muladd(n, vec_all(2.12194440e-4f), r);
    vec p = vec_all(1.38131458e-3f);
    p = vec_muladd(p, r, vec_all(8.36941916e-3f));
    p = vec_muladd(p, r, vec_all(4.16684568e-2f));
    p = vec_muladd(p, r, vec_all(1.66665148e-1f));
    p = vec_muladd(p, r, vec_all(4.99999931e-1f));
    p = vec_muladd(p, r, vec_all(1.0f));
    p = vec_muladd(p, r, vec_all(1.0f));
    return (vec)((vecu)p + ((vecu)shifted << 23));
}

/* gelu(x) = x Phi(x). Phi(x) - 1/2 is x times an even function of x: a polynomial of degree 14 in
 * t = 2 (x / 5.4)^2 - 1, fitted so that the largest error of Phi on |x| <= 5.4 is least (3e-8). Beyond, x times its
 * value at t = 1 leaves [-1/2, 1/2], so that Phi is 0 or 1. Good to 2e-7 of |x|. Even and odd powers are two chains,
 * half as long to wait for. */
TILE_INLINE vec vec_gelu(vec x)
{
    const vec square = vec_min(x * x, vec_all(29.16f)),
              t = vec_muladd(square, vec_all(0.0685871056f), vec_all(-1.0f)), t2 = t * t;
    vec even = vec_all(0.000392858696f), odd = vec_all(-0.00102836895f);
    even = vec_muladd(even, t2, vec_all(0.00087493402f));
    odd = vec_muladd(odd, t2, vec_all(-0.00118640997f));
    even = vec_muladd(even, t2, vec_all(0.00365892216f));
    odd = vec_muladd(odd, t2, vec_all(-0.00671533868f));
    even = vec_muladd(even, t2, vec_all(0.00965119619f));
    odd = vec_muladd(odd, t2, vec_all(-0.0139633203f));
    even = vec_muladd(even, t2, vec_all(0.0196451433f));
    odd = vec_muladd(odd, t2, vec_all(-0.0257464573f));
    even = vec_muladd(even, t2, vec_all(0.0321165957f));
    odd = vec_muladd(odd, t2, vec_all(-0.039206814f));
    even = vec_muladd(even, t2, vec_all(0.0484995916f));
    odd = vec_muladd(odd, t2, vec_all(-0.0653280541f));
    even = vec_muladd(even, t2, vec_all(0.130928114f));
    const vec phi = vec_muladd(x, vec_muladd(odd, t, even), vec_all(0.5f));
    return x * vec_min(vec_max(phi, vec_all(0.0f)), vec_all(1.0f));
}

#endif

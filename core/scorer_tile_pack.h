/* A full block of a content, 4 pairs (B_j, G_j), to its units: eight rows are woven together in three rounds of zips,
 * VEC_LANES steps at a time. Included by a core/scorer_<kernel>.c behind core/simd_vec.h; scorer_pack_content() in
 * core/scorer.c has the plain way, which packs what is left over and judges this one. */
#ifndef EMBSUM_CORE_SCORER_TILE_PACK_H
#define EMBSUM_CORE_SCORER_TILE_PACK_H

#include "core/scorer_int.h"
#include "core/simd_vec.h"

enum { PACK_ROWS = 2 * SCORER_PAIRS };

typedef uint64_t vec_wide __attribute__((vector_size(TILE_BYTES), may_alias));
typedef double vec_double __attribute__((vector_size(TILE_BYTES), may_alias));
typedef float vec_half __attribute__((vector_size(TILE_BYTES / 2), may_alias, aligned(4)));

/* Every second lane of a and b. */
TILE_INLINE vecu pack_even(vecu a, vecu b)
{
    veci even;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) even[i] = 2 * i;
    return __builtin_shuffle(a, b, even);
}

/* Neighbouring lanes, of which the lower `bits` are used, side by side in one. */
TILE_INLINE vecu pack_pairs(vecu a, vecu b, int bits)
{
    const vec_wide x = (vec_wide)a, y = (vec_wide)b;
    return pack_even((vecu)(x | x >> (32 - bits)), (vecu)(y | y >> (32 - bits)));
}

/* to = a0 b0 a1 b1 ...: two streams of `count` vectors. */
TILE_INLINE void pack_zip(vecu *to, const vecu *a, const vecu *b, int count)
{
    veci low, high;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++)
    {
        low[i] = i / 2 + i % 2 * VEC_LANES;
        high[i] = low[i] + VEC_LANES / 2;
    }
    TILE_UNROLL for (int i = 0; i < count; i++)
    {
        to[2 * i] = __builtin_shuffle(a[i], b[i], low);
        to[2 * i + 1] = __builtin_shuffle(a[i], b[i], high);
    }
}

/* VEC_LANES units of each row to VEC_LANES steps. */
TILE_INLINE void pack_weave(uint32_t *units, const vecu row[PACK_ROWS])
{
    vecu pair[PACK_ROWS], four[PACK_ROWS], all[PACK_ROWS];
    TILE_UNROLL for (int r = 0; r < 4; r++) pack_zip(pair + 2 * r, row + r, row + r + 4, 1);
    TILE_UNROLL for (int r = 0; r < 2; r++) pack_zip(four + 4 * r, pair + 2 * r, pair + 2 * r + 4, 2);
    pack_zip(all, four, four + 4, 4);
    TILE_UNROLL for (int r = 0; r < PACK_ROWS; r++) * (vecu *)(units + (size_t)r * VEC_LANES) = all[r];
}

/* ---- float32 and bfloat16 ---- */

/* Rounded as by f32_to_bf16(), in the lower half of each lane. */
TILE_INLINE vecu pack_round(const float *x)
{
    const vecu bits = (vecu) * (const vec_unaligned *)x;
    const vecu nan = (vecu)((veci)(bits & 0x7FFFFFFF) > 0x7F800000);
    const vecu quiet = bits >> 16 | 0x40, nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return (quiet & nan) | (nearest & ~nan);
}

/* As many steps as fill vectors, of d numbers a row; returns how many. */
TILE_INLINE size_t pack_block(uint32_t *units, const float *const *rows, size_t d, bool bf16)
{
    const size_t per_unit = bf16 ? 2 : 1, steps = d / per_unit / VEC_LANES * VEC_LANES;
    for (size_t step = 0; step < steps; step += VEC_LANES) {
        vecu row[PACK_ROWS];
        TILE_UNROLL for (int r = 0; r < PACK_ROWS; r++)
        {
            const float *x = rows[r] + step * per_unit;
            row[r] = bf16 ? pack_pairs(pack_round(x), pack_round(x + VEC_LANES), 16)
                          : (vecu) * (const vec_unaligned *)x;
        }
        pack_weave(units + PACK_ROWS * step, row);
    }
    return steps;
}

/* ---- int8 ---- */

TILE_INLINE float pack_largest(const float *row, size_t d)
{
    vec top = {0};
    for (size_t k = 0; k < d; k += VEC_LANES) {
        const vecu x = (vecu) * (const vec_unaligned *)(row + k) & 0x7FFFFFFF, above = (vecu)((vec)x > top);
        top = (vec)((x & above) | ((vecu)top & ~above));
    }
    float largest = 0;
    for (int i = 0; i < VEC_LANES; i++)
        largest = top[i] > largest ? top[i] : largest;
    return largest;
}

/* The bytes of VEC_LANES numbers, one a lane. A sum with 1.5 x 2^52 is rounded to an integer, which is its lower half. */
TILE_INLINE vecu pack_bytes(const float *x, double inverse)
{
    const double round = 6755399441055744.0;
    const vec_double a = __builtin_convertvector(*(const vec_half *)x, vec_double) * inverse + round,
                     b = __builtin_convertvector(*(const vec_half *)(x + VEC_LANES / 2), vec_double) *
                             inverse +
                         round;
    return (pack_even((vecu)a, (vecu)b) + SCORER_BIAS) & 0xFF;
}

/* All steps and the rows' scales, as pack_int8() makes them, if they fill vectors; false and nothing if not. */
TILE_INLINE bool pack_block_int8(uint32_t *units, float *scales, const float *const *rows, size_t d)
{
    double inverse[PACK_ROWS];
    if (d % (4 * VEC_LANES))
        return false;
    for (int r = 0; r < PACK_ROWS; r++) {
        const double top = (double)pack_largest(rows[r], d);
        inverse[r] = top > 0 ? 127 / top : 0;
        scales[r] = (float)(top / 127);
    }
    for (size_t step = 0; step < d / 4; step += VEC_LANES) {
        vecu row[PACK_ROWS];
        for (int r = 0; r < PACK_ROWS; r++) {
            vecu bytes[4];
            TILE_UNROLL for (int i = 0; i < 4; i++) bytes[i] =
                pack_bytes(rows[r] + 4 * step + (size_t)i * VEC_LANES, inverse[r]);
            row[r] = pack_pairs(pack_pairs(bytes[0], bytes[1], 8), pack_pairs(bytes[2], bytes[3], 8), 16);
        }
        pack_weave(units + PACK_ROWS * step, row);
    }
    return true;
}

/* Functions to put into the table of kernels. */
#define TILE_PACK(name, bf16)                                                                                \
    static size_t name(uint32_t *units, const float *const *rows, size_t d)                                  \
    {                                                                                                        \
        return pack_block(units, rows, d, bf16);                                                             \
    }
#define TILE_PACK_INT8(name)                                                                                 \
    static bool name(uint32_t *units, float *scales, const float *const *rows, size_t d)                     \
    {                                                                                                        \
        return pack_block_int8(units, scales, rows, d);                                                      \
    }

#endif

/* A full block of a content, 4 pairs (B_j, G_j), to its units: eight rows are woven together in three rounds of zips,
 * VEC_LANES steps at a time. Included by a core/scorer_<kernel>.c behind core/scorer_vec.h; scorer_pack_content() in
 * core/scorer.c has the plain way, which packs what is left over and judges this one. */
#ifndef EMBSUM_CORE_SCORER_TILE_PACK_H
#define EMBSUM_CORE_SCORER_TILE_PACK_H

#include "core/scorer_vec.h"

enum { PACK_ROWS = 2 * SCORER_PAIRS };

typedef uint64_t vec_wide __attribute__((vector_size(TILE_BYTES), may_alias));

/* Rounded as by f32_to_bf16(), in the lower half of each lane. */
TILE_INLINE vecu pack_round(vecu bits)
{
    const vecu nan = (vecu)((veci)(bits & 0x7FFFFFFF) > 0x7F800000);
    const vecu quiet = bits >> 16 | 0x40, nearest = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return (quiet & nan) | (nearest & ~nan);
}

/* VEC_LANES units of a row. */
TILE_INLINE vecu pack_units(const float *row, bool bf16)
{
    if (!bf16)
        return (vecu) * (const vec_unaligned *)row;
    veci even;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) even[i] = 2 * i;
    const vec_wide a = (vec_wide)pack_round((vecu) * (const vec_unaligned *)row),
                   b = (vec_wide)pack_round((vecu) * (const vec_unaligned *)(row + VEC_LANES));
    return __builtin_shuffle((vecu)(a | a >> 16), (vecu)(b | b >> 16), even);
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

/* As many steps as fill vectors, of d numbers a row; returns how many. */
TILE_INLINE size_t pack_block(uint32_t *units, const float *const *rows, size_t d, bool bf16)
{
    const size_t per_unit = bf16 ? 2 : 1, steps = d / per_unit / VEC_LANES * VEC_LANES;
    for (size_t step = 0; step < steps; step += VEC_LANES) {
        vecu row[PACK_ROWS], pair[PACK_ROWS], four[PACK_ROWS], all[PACK_ROWS];
        TILE_UNROLL for (int r = 0; r < PACK_ROWS; r++) row[r] = pack_units(rows[r] + step * per_unit, bf16);
        TILE_UNROLL for (int r = 0; r < 4; r++) pack_zip(pair + 2 * r, row + r, row + r + 4, 1);
        TILE_UNROLL for (int r = 0; r < 2; r++) pack_zip(four + 4 * r, pair + 2 * r, pair + 2 * r + 4, 2);
        pack_zip(all, four, four + 4, 4);
        TILE_UNROLL for (int r = 0; r < PACK_ROWS; r++) *
            (vecu *)(units + PACK_ROWS * step + (size_t)r * VEC_LANES) = all[r];
    }
    return steps;
}

/* A function to put into the table of kernels. */
#define TILE_PACK(name, bf16)                                                                                \
    static size_t name(uint32_t *units, const float *const *rows, size_t d)                                  \
    {                                                                                                        \
        return pack_block(units, rows, d, bf16);                                                             \
    }

#endif

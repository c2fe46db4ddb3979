/* Sums of a tile of rows and lanes, and the product made of them, written once over vectors of any width. Included by a
 * core/linear_<kernel>.c behind its target pragma, having said what fits into its registers:
 *
 *     TILE_ROWS    rows of a tile: 4, 6, 8 or 12
 *     TILE_VECS    vectors of lanes of a tile */
#ifndef EMBSUM_CORE_LINEAR_TILE_H
#define EMBSUM_CORE_LINEAR_TILE_H

#include "core/linear_rows.h"

enum {
    TILE_LANES = TILE_VECS * VEC_LANES,
    TILE_AHEAD = 32,              /* steps of a panel that are fetched before they are multiplied */
    TILE_BLOCK_BYTES = 256 * 1024 /* of rows that stay in the L2 cache while all panels pass */
};

typedef vec tile_mac(vec sum, vecu a, vecu b);

/* sums (count x TILE_LANES, `stride` apart) = the products of rows and lanes. */
typedef void tile_function(float *sums, size_t stride, const uint32_t *lanes, const uint32_t *rows,
    size_t apart, size_t steps, size_t count);

/* Every third row has a pointer, and the rows between are found by adding `apart` once or twice: the addressing that
 * x86 has, and few enough pointers for its registers. */
enum { TILE_GROUP = 3, TILE_GROUPS = (TILE_ROWS + TILE_GROUP - 1) / TILE_GROUP };

TILE_INLINE void tile_sums(float *out, size_t stride, const uint32_t *lanes, const uint32_t *rows,
    size_t apart, size_t steps, int count, tile_mac *mac)
{
    vec sums[TILE_ROWS][TILE_VECS];
    const char *group[TILE_GROUPS];
    const size_t bytes = apart * sizeof *rows;
    TILE_UNROLL for (int g = 0; g < TILE_GROUPS; g++)
    {
        group[g] = (const char *)rows + (size_t)g * TILE_GROUP * bytes;
        __asm__("" : "+r"(group[g])); /* or the compiler would see one pointer a row in them */
    }
    TILE_UNROLL for (int r = 0; r < count; r++)
    {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) sums[r][v] = (vec){0};
    }
    for (size_t step = 0; step < steps; step += 2) {
        TILE_UNROLL for (int half = 0; half < 2; half++)
        {
            vecu a[TILE_VECS];
            __builtin_prefetch(lanes + TILE_AHEAD * LINEAR_LANES);
            if (TILE_LANES * 4 > LINEAR_LINE)
                __builtin_prefetch(lanes + TILE_AHEAD * LINEAR_LANES + LINEAR_LINE / 4);
            TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) a[v] = *(const vecu *)(lanes + v * VEC_LANES);
            TILE_UNROLL for (int r = 0; r < count; r++)
            {
                const char *row = group[r / TILE_GROUP] + (size_t)(r % TILE_GROUP) * bytes;
                const vecu b = vec_all_units(((const uint32_t *)row)[half]);
                TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) sums[r][v] = mac(sums[r][v], a[v], b);
            }
            lanes += LINEAR_LANES;
        }
        TILE_UNROLL for (int g = 0; g < TILE_GROUPS; g++) group[g] += 2 * sizeof *rows;
    }
    TILE_UNROLL for (int r = 0; r < count; r++)
    {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) * (vec *)(out + (size_t)r * stride + v * VEC_LANES) =
            sums[r][v];
    }
}

#define TILE_CASE(n)                                                                                         \
    case n:                                                                                                  \
        tile_sums(sums, stride, lanes, rows, apart, steps, n, mac);                                          \
        break;

/* A number of rows that the compiler knows. */
TILE_INLINE void tile_any(float *sums, size_t stride, const uint32_t *lanes, const uint32_t *rows,
    size_t apart, size_t steps, size_t count, tile_mac *mac)
{
    switch (count) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
#if TILE_ROWS >= 6
        TILE_CASE(5)
        TILE_CASE(6)
#endif
#if TILE_ROWS >= 8
        TILE_CASE(7)
        TILE_CASE(8)
#endif
#if TILE_ROWS >= 12
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
#endif
    default:
        break;
    }
}

/* The sums of a tile to the numbers of the result: int8 without the bias, and scaled. store and bf16 are out's, where the
 * compiler knows them. */
TILE_INLINE void tile_store(const struct linear_out *out, const struct linear *linear,
    const struct linear_rows *rows, size_t row, size_t count, size_t lane, const float *sums, bool scaled,
    enum linear_store store, bool bf16)
{
    const size_t left = linear->outputs - lane;
    TILE_UNROLL for (int v = 0; v < TILE_VECS; v++)
    {
        const size_t at = lane + (size_t)v * VEC_LANES;
        veci bias = {0};
        vec scale = {0};
        if (scaled) {
            bias += *(const veci *)(linear->sums + at) * (rows->positive ? 0 : LINEAR_BIAS);
            scale = *(const vec *)(linear->scales + at);
        }
        for (size_t r = 0; left > (size_t)v * VEC_LANES && r < count; r++) {
            vec x = *(const vec *)(sums + r * TILE_LANES + v * VEC_LANES);
            if (scaled)
                x = __builtin_convertvector((veci)x - bias, vec) * (scale * rows->scales[row + r]);
            const size_t to = (row + r) * out->stride + at;
            if (left >= TILE_LANES)
                row_out(out, to, VEC_LANES, x, store, bf16);
            else
                row_out(out, to, left - (size_t)v * VEC_LANES, x, store, bf16);
        }
    }
}

TILE_INLINE void tile_store_any(const struct linear_out *out, const struct linear *linear,
    const struct linear_rows *rows, size_t row, size_t count, size_t lane, const float *sums, bool scaled)
{
    if (out->store == LINEAR_ADD)
        tile_store(out, linear, rows, row, count, lane, sums, scaled, LINEAR_ADD, false);
    else if (out->store == LINEAR_RELU && out->bf16)
        tile_store(out, linear, rows, row, count, lane, sums, scaled, LINEAR_RELU, true);
    else if (out->store == LINEAR_RELU)
        tile_store(out, linear, rows, row, count, lane, sums, scaled, LINEAR_RELU, false);
    else if (out->bf16)
        tile_store(out, linear, rows, row, count, lane, sums, scaled, LINEAR_SET, true);
    else
        tile_store(out, linear, rows, row, count, lane, sums, scaled, LINEAR_SET, false);
}

/* Ask for the lines that a tile's numbers will go to, lest storing them waits. */
TILE_INLINE void tile_touch(const struct linear_out *out, size_t row, size_t count, size_t lane)
{
    const size_t size = out->bf16 ? 2 : 4;
    char *at = (char *)out->data + (row * out->stride + lane) * size;
    for (size_t r = 0; r < count; r++, at += out->stride * size)
        for (size_t byte = 0; byte < TILE_LANES * size; byte += LINEAR_LINE)
            __builtin_prefetch(at + byte, 1);
}

/* While a block of rows stays in the L2 cache all panels pass, each tile of rows takes a panel from there. */
TILE_INLINE void tile_apply(const struct linear_out *out, const struct linear *linear,
    const struct linear_rows *rows, size_t count, bool scaled, tile_function *tile)
{
    float sums[TILE_ROWS * TILE_LANES] __attribute__((aligned(LINEAR_LINE)));
    const size_t tiles = TILE_BLOCK_BYTES / (rows->stride * sizeof *rows->units * TILE_ROWS),
                 block = (tiles ? tiles : 1) * TILE_ROWS;
    for (size_t first = 0; first < count; first += block) {
        const size_t end = count - first < block ? count : first + block;
        for (size_t lane = 0; lane < linear->outputs; lane += TILE_LANES) {
            const uint32_t *lanes =
                linear->units + lane / LINEAR_LANES * LINEAR_LANES * linear->steps + lane % LINEAR_LANES;
            for (size_t row = first; row < end; row += TILE_ROWS) {
                const size_t some = end - row < TILE_ROWS ? end - row : TILE_ROWS;
                tile_touch(out, row, some, lane);
                tile(sums, TILE_LANES, lanes, rows->units + row * rows->stride, rows->stride, linear->steps,
                    some);
                tile_store_any(out, linear, rows, row, some, lane, sums, scaled);
            }
        }
    }
}

/* Functions for the table of kernels. The tile is one of its own: in another the compiler would keep constants in the
 * sums' registers. */
#define TILE_APPLY(name, scaled, mac)                                                                        \
    static __attribute__((noinline)) void name##_tile(float *sums, size_t stride, const uint32_t *lanes,     \
        const uint32_t *rows, size_t apart, size_t steps, size_t count)                                      \
    {                                                                                                        \
        tile_any(sums, stride, lanes, rows, apart, steps, count, mac);                                       \
    }                                                                                                        \
    static void name(const struct linear_out *out, const struct linear *linear,                              \
        const struct linear_rows *rows, size_t count)                                                        \
    {                                                                                                        \
        tile_apply(out, linear, rows, count, scaled, name##_tile);                                           \
    }

#endif

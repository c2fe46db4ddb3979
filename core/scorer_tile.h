/* The program of a kernel, written once over vectors of any width. A core/scorer_<kernel>.c includes it behind
 * core/simd_vec.h, having said what fits into its registers:
 *
 *     TILE_PAIRS   pairs (B_j, G_j) of a tile, 1 to 4
 *     TILE_VECS    vectors of lanes of a tile
 *
 * A tile is 2 x TILE_PAIRS sums of TILE_VECS vectors: the products stay in registers, then similarities and logits are
 * weighted there. Softmax over all tiles of a pair (user, content) is kept online: every lane has its own largest
 * logit and its own sums, relative to that; lanes are brought together at the end. */
#ifndef EMBSUM_CORE_SCORER_TILE_H
#define EMBSUM_CORE_SCORER_TILE_H

#include "core/half.h"
#include "core/scorer_int.h"
#include "core/simd_vec.h"

#include <float.h>

struct tile_state {
    vec top, sum, weighted; /* largest logit; sums of e^(L - top) and of e^(L - top) K */
    vec low, high;          /* of K */
};

typedef vec tile_mac(vec sum, vecu a, vecu b);

enum { TILE_L2 = 2 }; /* __builtin_prefetch()'s name for it */

struct tile_source {
    const uint32_t *lanes; /* [step][SCORER_LANES] */
    const uint32_t *rows;  /* [step][stride], the tile's rows `apart` from each other */
    size_t steps, stride, apart;
    const char *next, *later,
        *other; /* to prefetch line by line, the first into the L1 cache, else L2, unless NULL */
};

/* sums[row][vec] += the products of all steps, two at a time: two of a full block are one line of the cache. */
TILE_INLINE void tile_products(
    vec sums[2 * TILE_PAIRS][TILE_VECS], const struct tile_source *source, int rows, int vecs, tile_mac *mac)
{
    const uint32_t *lanes = source->lanes, *units = source->rows;
    const char *next = source->next, *later = source->later, *other = source->other;
    const size_t stride = source->stride, apart = source->apart;
    for (size_t step = 0; step < source->steps; step += 2) {
        if (next) {
            __builtin_prefetch(next);
            next += 8 * stride;
        }
        if (later) {
            __builtin_prefetch(later, 0, TILE_L2);
            later += 8 * stride;
        }
        if (other) {
            __builtin_prefetch(other, 0, TILE_L2);
            other += 8 * stride;
        }
        TILE_UNROLL
        for (int half = 0; half < 2; half++) {
            vecu a[TILE_VECS];
            TILE_UNROLL
            for (int v = 0; v < vecs; v++)
                a[v] = *(const vecu *)(lanes + v * VEC_LANES);
            TILE_UNROLL
            for (int r = 0; r < rows; r++) {
                const vecu b = vec_all_units(units[(size_t)r * apart]);
                TILE_UNROLL
                for (int v = 0; v < vecs; v++)
                    sums[r][v] = mac(sums[r][v], a[v], b);
            }
            lanes += SCORER_LANES;
            units += stride;
        }
    }
}

TILE_INLINE void tile_merge(struct tile_state *state, const struct tile_state *other)
{
    const vec top = vec_max(state->top, other->top);
    const vec mine = vec_exp_negative(state->top - top), theirs = vec_exp_negative(other->top - top);
    state->top = top;
    state->sum = state->sum * mine + other->sum * theirs;
    state->weighted = state->weighted * mine + other->weighted * theirs;
    state->low = vec_min(state->low, other->low);
    state->high = vec_max(state->high, other->high);
}

/* The lanes brought together: every lane is merged with the one `apart` away, then with the one half as far. */
TILE_INLINE float tile_score(struct tile_state state)
{
    veci lane;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) lane[i] = i;
    vec top = state.top, low = state.low, high = state.high;
    TILE_UNROLL for (int apart = VEC_LANES / 2; apart; apart /= 2)
    {
        const veci partner = lane ^ apart;
        top = vec_max(top, __builtin_shuffle(top, partner));
        low = vec_min(low, __builtin_shuffle(low, partner));
        high = vec_max(high, __builtin_shuffle(high, partner));
    }
    const vec share = vec_exp_negative(state.top - top);
    vec sum = state.sum * share, weighted = state.weighted * share;
    TILE_UNROLL for (int apart = VEC_LANES / 2; apart; apart /= 2)
    {
        const veci partner = lane ^ apart;
        sum += __builtin_shuffle(sum, partner);
        weighted += __builtin_shuffle(weighted, partner);
    }
    /* A mean lies between its extremes; rounding must not say otherwise. */
    return vec_max(vec_min(weighted / sum, high), low)[0];
}

/* One tile of sums to the state of its lanes. scales: of the content's rows, for int8 alone. */
TILE_INLINE void tile_weigh(struct tile_state *state, vec sums[2 * TILE_PAIRS][TILE_VECS], int pairs,
    int vecs, const struct scorer_lanes *constants, size_t lane, const float *scales)
{
    if (scales) {
        TILE_UNROLL for (int v = 0; v < vecs; v++)
        {
            const vec scale = *(const vec *)(constants->scale + lane + (size_t)v * VEC_LANES);
            TILE_UNROLL for (int r = 0; r < 2 * pairs; r++) sums[r][v] =
                __builtin_convertvector((veci)sums[r][v], vec) * (scale * scales[r]);
        }
    }
    vec top = sums[1][0], low = sums[0][0], high = sums[0][0];
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        TILE_UNROLL for (int j = 0; j < pairs; j++)
        {
            low = vec_min(low, sums[2 * j][v]);
            high = vec_max(high, sums[2 * j][v]);
            top = vec_max(top, sums[2 * j + 1][v]);
        }
    }
    vec sum = {0}, weighted = {0};
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        const vec live = *(const vec *)(constants->live + lane + (size_t)v * VEC_LANES);
        vec lane_sum = {0}, lane_weighted = {0};
        TILE_UNROLL for (int j = 0; j < pairs; j++)
        {
            const vec weight = vec_exp_negative(sums[2 * j + 1][v] - top);
            lane_sum += weight;
            lane_weighted = vec_muladd(weight, sums[2 * j][v], lane_weighted);
        }
        sum = vec_muladd(lane_sum, live, sum);
        weighted = vec_muladd(lane_weighted, live, weighted);
    }
    *state = (struct tile_state){top, sum, weighted, low, high};
}

/* A tile whose number of pairs and vectors the compiler knows. */
TILE_INLINE void tile_fixed(struct tile_state *state, const struct tile_source *source, int pairs, int vecs,
    const struct scorer_lanes *constants, size_t lane, const float *scales, tile_mac *mac)
{
    vec sums[2 * TILE_PAIRS][TILE_VECS];
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        const vec start =
            scales ? *(const vec *)(constants->offset + lane + (size_t)v * VEC_LANES) : (vec){0};
        TILE_UNROLL for (int r = 0; r < 2 * pairs; r++) sums[r][v] = start;
    }
    tile_products(sums, source, 2 * pairs, vecs, mac);
    tile_weigh(state, sums, pairs, vecs, constants, lane, scales);
}

TILE_INLINE void tile_any(struct tile_state *state, const struct tile_source *source, size_t pairs, int vecs,
    const struct scorer_lanes *constants, size_t lane, const float *scales, tile_mac *mac)
{
#if TILE_PAIRS >= 4
    if (pairs == 4) {
        const struct tile_source full = {
            source->lanes, source->rows, source->steps, 8, 1, source->next, source->later, source->other};
        tile_fixed(state, &full, 4, vecs, constants, lane, scales, mac);
    } else if (pairs == 3)
        tile_fixed(state, source, 3, vecs, constants, lane, scales, mac);
    else
#endif
        if (pairs == 2)
        tile_fixed(state, source, 2, vecs, constants, lane, scales, mac);
    else
        tile_fixed(state, source, 1, vecs, constants, lane, scales, mac);
}

/* One content: all panels of lanes beside all blocks of rows. */
TILE_INLINE float tile_content(const struct scorer *scorer, const uint32_t *user, const uint32_t *content,
    const char *next, const char *later, bool scaled, tile_mac *mac)
{
    const struct scorer_lanes *constants = scorer_user_lanes(scorer, user);
    const float *scales = scaled ? scorer_row_scales(scorer, content) : NULL;
    const size_t steps = scorer->steps, block_units = 2 * SCORER_PAIRS * steps;
    struct tile_state state = {.top = vec_all(-FLT_MAX)};
    if (scaled && later)
        __builtin_prefetch(later + 8 * scorer->n * steps);
    for (size_t j = 0; j < scorer->n; j += TILE_PAIRS) {
        const size_t block = j / SCORER_PAIRS, from = j % SCORER_PAIRS;
        const size_t left = scorer->n - block * SCORER_PAIRS,
                     width = left < SCORER_PAIRS ? left : SCORER_PAIRS;
        const size_t pairs = width - from < TILE_PAIRS ? width - from : TILE_PAIRS;
        for (size_t i = 0; i < scorer->m; i += TILE_VECS * VEC_LANES) {
            const size_t panel = i / SCORER_LANES, lane = i % SCORER_LANES;
            const struct tile_source source = {user + panel * SCORER_LANES * steps + lane,
                content + block * block_units + 2 * from, steps, 2 * width, 1,
                next && i == 0 ? next + 4 * block * block_units : NULL,
                later && i == 0 ? later + 4 * block * block_units : NULL, NULL};
            const float *row_scales = scaled ? scales + 2 * j : NULL;
            struct tile_state tile;
            if (TILE_VECS == 1 || scorer->m - i > (TILE_VECS - 1) * VEC_LANES)
                tile_any(&tile, &source, pairs, TILE_VECS, constants + panel, lane, row_scales, mac);
            else
                tile_any(&tile, &source, pairs, 1, constants + panel, lane, row_scales, mac);
            if (i == 0 && j == 0)
                state = tile;
            else
                tile_merge(&state, &tile);
        }
    }
    return tile_score(state);
}

TILE_INLINE void tile_run(const struct scorer *scorer, float *scores, const void *user,
    const void *const *contents, size_t count, size_t ahead, size_t left, bool scaled, tile_mac *mac)
{
    for (size_t c = 0; c < count; c++)
        scores[c] = tile_content(scorer, user, contents[c], c + 1 < left ? contents[c + 1] : NULL,
            c + ahead < left ? contents[c + ahead] : NULL, scaled, mac);
}

/* A function to put into the table of kernels. */
#define TILE_RUN(name, scaled, mac)                                                                          \
    static void name(const struct scorer *scorer, float *scores, const void *user,                           \
        const void *const *contents, size_t count, size_t ahead, size_t left)                                \
    {                                                                                                        \
        tile_run(scorer, scores, user, contents, count, ahead, left, scaled, mac);                           \
    }

/* ---- gates: the lanes are columns of W_s, the rows are those of B ---- */

/* Rows and steps that are packed at a time, on the stack. While the rows pass a panel of W_s, its part of 32 KiB stays
 * in the L1 cache. A row's end is padded by a line, lest the rows of a tile fall into the same sets of that cache. */
enum {
    GATE_ROWS = 64,
    GATE_AHEAD = 8, /* rows of B that are fetched before they are packed */
    GATE_STEPS = 256,
    GATE_STRIDE = GATE_STEPS + SCORER_LINE / 4,
    GATE_TILE = 2 * TILE_PAIRS,
    GATE_LANES = TILE_VECS * VEC_LANES
};

/* sums [GATE_TILE][stride], of GATE_LANES columns, += rows x lanes, or = for the first part of d. */
typedef void gate_tile(
    float *sums, size_t stride, const uint32_t *lanes, const uint32_t *rows, size_t steps, bool first);

TILE_INLINE vec_unaligned *gate_vec(float *sums, size_t stride, int r, int v)
{
    return (vec_unaligned *)(sums + (size_t)r * stride + v * VEC_LANES);
}

TILE_INLINE void gate_products(float *out, size_t stride, const uint32_t *lanes, const uint32_t *rows,
    size_t steps, bool first, tile_mac *mac)
{
    const struct tile_source source = {lanes, rows, steps, 1, GATE_STRIDE, NULL, NULL, NULL};
    vec sums[GATE_TILE][TILE_VECS];
    TILE_UNROLL for (int r = 0; r < GATE_TILE; r++)
    {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) sums[r][v] =
            first ? (vec){0} : *gate_vec(out, stride, r, v);
    }
    tile_products(sums, &source, GATE_TILE, TILE_VECS, mac);
    TILE_UNROLL for (int r = 0; r < GATE_TILE; r++)
    {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) * gate_vec(out, stride, r, v) = sums[r][v];
    }
}

TILE_INLINE void gate_gelu(float *gate, size_t stride)
{
    for (int r = 0; r < GATE_TILE; r++) {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++)
        {
            vec_unaligned *sum = gate_vec(gate, stride, r, v);
            *sum = vec_gelu(*sum);
        }
    }
}

/* `count` numbers of a row to its units, and zeros behind them. Plain loops: a memcpy() of a size unknown to the
 * compiler becomes REP MOVS, which starts slowly. */
TILE_INLINE void gate_pack(uint32_t *units, size_t steps, const float *row, size_t count, bool bf16)
{
    uint16_t *halves = (uint16_t *)units;
    size_t k = 0, used = count;
    if (bf16) {
        for (; k < count; k++)
            halves[k] = f32_to_bf16(row[k]);
        if (count % 2)
            halves[count] = 0;
        used = (count + 1) / 2;
    } else {
        for (; k + VEC_LANES <= count; k += VEC_LANES)
            *(vec *)(units + k) = *(const vec_unaligned *)(row + k);
        for (; k < count; k++)
            memcpy(units + k, row + k, sizeof *units);
    }
    for (k = used; k < steps; k++)
        units[k] = 0;
}

TILE_INLINE void gate_copy(
    float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * to_stride, from + r * from_stride, columns * sizeof *to);
}

/* A panel beside all packed rows, tile by tile; gate: d apart. A tile that juts out is made beside gate. */
TILE_INLINE void gate_panel(float *gate, size_t d, size_t count, size_t columns, const uint32_t *lanes,
    const uint32_t *units, size_t steps, bool first, bool last, gate_tile *tile)
{
    float spare[GATE_TILE * GATE_LANES] = {0};
    for (size_t q = 0; q < count; q += GATE_TILE) {
        const size_t rows = count - q < GATE_TILE ? count - q : GATE_TILE;
        const bool whole = rows == GATE_TILE && columns == GATE_LANES;
        float *to = gate + q * d, *out = whole ? to : spare;
        const size_t stride = whole ? d : GATE_LANES;
        if (!whole && !first)
            gate_copy(spare, GATE_LANES, to, d, rows, columns);
        tile(out, stride, lanes, units + q * GATE_STRIDE, steps, first);
        if (last)
            gate_gelu(out, stride);
        if (!whole)
            gate_copy(to, d, spare, GATE_LANES, rows, columns);
    }
}

/* gate = gelu(b W_s), some rows and a part of d at a time. */
TILE_INLINE void tile_gate(const struct scorer *scorer, float *gate, const uint32_t *proj, const float *b,
    size_t rows, bool bf16, gate_tile *tile)
{
    const size_t d = scorer->d, steps = scorer->gate_steps, per_unit = bf16 ? 2 : 1;
    uint32_t units[GATE_ROWS * GATE_STRIDE] __attribute__((aligned(SCORER_LINE))) = {0};
    for (size_t r = 0; r < rows; r += GATE_ROWS) {
        const size_t count = rows - r < GATE_ROWS ? rows - r : GATE_ROWS;
        for (size_t k = 0; k < steps; k += GATE_STEPS) {
            const size_t part = steps - k < GATE_STEPS ? steps - k : GATE_STEPS, from = k * per_unit;
            const size_t numbers = d - from < part * per_unit ? d - from : part * per_unit;
            for (size_t q = 0; q < count; q++) {
                const float *row = b + (r + q) * d + from;
                for (size_t l = 0; q + GATE_AHEAD < count && l < numbers; l += SCORER_LINE / sizeof *row)
                    __builtin_prefetch(row + GATE_AHEAD * d + l);
                gate_pack(units + q * GATE_STRIDE, part, row, numbers, bf16);
            }
            for (size_t i = 0; i < d; i += GATE_LANES)
                gate_panel(gate + r * d + i, d, count, d - i < GATE_LANES ? d - i : GATE_LANES,
                    proj + scorer_lane(steps, i) + k * SCORER_LANES, units, part, k == 0, k + part == steps,
                    tile);
        }
    }
}

/* The tile is a function of its own: in one with gelu its constants would take the sums' registers. */
#define TILE_GATE(name, bf16, mac)                                                                           \
    static __attribute__((noinline)) void name##_tile(                                                       \
        float *sums, size_t stride, const uint32_t *lanes, const uint32_t *rows, size_t steps, bool first)   \
    {                                                                                                        \
        gate_products(sums, stride, lanes, rows, steps, first, mac);                                         \
    }                                                                                                        \
    static void name(                                                                                        \
        const struct scorer *scorer, float *gate, const void *proj, const float *b, size_t rows)             \
    {                                                                                                        \
        tile_gate(scorer, gate, proj, b, rows, bf16, name##_tile);                                           \
    }

#endif

/* The program of a kernel, written once over vectors of any width. A core/scorer_<kernel>.c includes it behind
 * core/scorer_vec.h, having said what fits into its registers:
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
#include "core/scorer_vec.h"

#include <float.h>

struct tile_state {
    vec top, sum, weighted; /* largest logit; sums of e^(L - top) and of e^(L - top) K */
    vec low, high;          /* of K */
};

typedef vec tile_mac(vec sum, vecu a, vecu b);

struct tile_source {
    const uint32_t *lanes; /* [step][SCORER_LANES] */
    const uint32_t *rows;  /* [step][stride] */
    size_t steps, stride;
    const char *ahead; /* what to prefetch, line by line */
};

/* sums[row][vec] += the products of all steps, two at a time: two of a full block are one line of the cache. */
TILE_INLINE void tile_products(
    vec sums[2 * TILE_PAIRS][TILE_VECS], const struct tile_source *source, int rows, int vecs, tile_mac *mac)
{
    const uint32_t *lanes = source->lanes, *units = source->rows;
    const char *ahead = source->ahead;
    const size_t stride = source->stride;
    for (size_t step = 0; step < source->steps; step += 2) {
        if (ahead) {
            __builtin_prefetch(ahead);
            ahead += 8 * stride;
        }
        TILE_UNROLL
        for (int half = 0; half < 2; half++) {
            vecu a[TILE_VECS];
            TILE_UNROLL
            for (int v = 0; v < vecs; v++)
                a[v] = *(const vecu *)(lanes + v * VEC_LANES);
            TILE_UNROLL
            for (int r = 0; r < rows; r++) {
                const vecu b = vec_all_units(units[r]);
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
        const struct tile_source full = {source->lanes, source->rows, source->steps, 8, source->ahead};
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
    const char *ahead, bool scaled, tile_mac *mac)
{
    const struct scorer_lanes *constants = scorer_user_lanes(scorer, user);
    const float *scales = scaled ? scorer_row_scales(scorer, content) : NULL;
    const size_t steps = scorer->steps, block_units = 2 * SCORER_PAIRS * steps;
    struct tile_state state = {.top = vec_all(-FLT_MAX)};
    if (scaled && ahead)
        __builtin_prefetch(ahead + 8 * scorer->n * steps);
    for (size_t j = 0; j < scorer->n; j += TILE_PAIRS) {
        const size_t block = j / SCORER_PAIRS, from = j % SCORER_PAIRS;
        const size_t left = scorer->n - block * SCORER_PAIRS,
                     width = left < SCORER_PAIRS ? left : SCORER_PAIRS;
        const size_t pairs = width - from < TILE_PAIRS ? width - from : TILE_PAIRS;
        for (size_t i = 0; i < scorer->m; i += TILE_VECS * VEC_LANES) {
            const size_t panel = i / SCORER_LANES, lane = i % SCORER_LANES;
            const struct tile_source source = {user + panel * SCORER_LANES * steps + lane,
                content + block * block_units + 2 * from, steps, 2 * width,
                ahead && i == 0 ? ahead + 4 * block * block_units : NULL};
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
        scores[c] = tile_content(
            scorer, user, contents[c], c + ahead < left ? contents[c + ahead] : NULL, scaled, mac);
}

/* A function to put into the table of kernels. */
#define TILE_RUN(name, scaled, mac)                                                                          \
    static void name(const struct scorer *scorer, float *scores, const void *user,                           \
        const void *const *contents, size_t count, size_t ahead, size_t left)                                \
    {                                                                                                        \
        tile_run(scorer, scores, user, contents, count, ahead, left, scaled, mac);                           \
    }

/* ---- gates: the lanes are columns of W_s, the rows are those of B ---- */

/* Rows and steps that are packed at a time, on the stack: beside them a panel's part of W_s stays in the L1 cache. */
enum { GATE_ROWS = 4 * 2 * TILE_PAIRS, GATE_STEPS = 256 };

/* Some steps of `count` rows of b, the tile's rows beside each other: [row / tile][step][row % tile]. Rows that are
 * missing from the last tile are zeros. */
TILE_INLINE void gate_pack(
    uint32_t *units, const float *b, size_t d, size_t count, size_t from, size_t steps, bool bf16)
{
    enum { ROWS = 2 * TILE_PAIRS };
    const size_t per_unit = bf16 ? 2 : 1;
    for (size_t r = 0; r < (count + ROWS - 1) / ROWS * ROWS; r++) {
        uint32_t *unit = units + r / ROWS * ROWS * steps + r % ROWS;
        const float *row = b + (r < count ? r : 0) * d;
        for (size_t k = from * per_unit; k < (from + steps) * per_unit; k += per_unit, unit += ROWS) {
            if (r >= count || k >= d)
                *unit = 0;
            else if (bf16)
                *unit = f32_to_bf16(row[k]) | (uint32_t)(k + 1 < d ? f32_to_bf16(row[k + 1]) : 0) << 16;
            else
                memcpy(unit, row + k, sizeof *unit);
        }
    }
}

/* One tile's sums so far to and from gate; columns beyond d are not stored. */
TILE_INLINE void gate_load(vec *sum, const float *gate, size_t columns)
{
    if (columns >= VEC_LANES)
        *sum = *(const vec_unaligned *)gate;
    else
        for (size_t i = 0; i < columns; i++)
            (*sum)[i] = gate[i];
}

TILE_INLINE void gate_store(float *gate, vec sum, size_t columns)
{
    if (columns >= VEC_LANES)
        *(vec_unaligned *)gate = sum;
    else
        for (size_t i = 0; i < columns; i++)
            gate[i] = sum[i];
}

/* One tile: rows of b and TILE_VECS vectors of columns. first, last: of the parts of d. */
TILE_INLINE void gate_tile(float *gate, const struct tile_source *source, size_t d, size_t rows,
    size_t columns, bool first, bool last, tile_mac *mac)
{
    vec sums[2 * TILE_PAIRS][TILE_VECS];
    TILE_UNROLL for (int r = 0; r < 2 * TILE_PAIRS; r++)
    {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++) sums[r][v] = (vec){0};
    }
    tile_products(sums, source, 2 * TILE_PAIRS, TILE_VECS, mac);
    TILE_UNROLL for (int r = 0; r < 2 * TILE_PAIRS; r++)
    {
        TILE_UNROLL for (int v = 0; v < TILE_VECS; v++)
        {
            const size_t at = (size_t)v * VEC_LANES;
            float *to = gate + (size_t)r * d + at;
            if ((size_t)r >= rows || at >= columns)
                continue;
            vec before = {0};
            if (!first)
                gate_load(&before, to, columns - at);
            const vec sum = sums[r][v] + before;
            gate_store(to, last ? vec_gelu(sum) : sum, columns - at);
        }
    }
}

/* gate = gelu(b W_s), some rows and a part of d at a time. */
TILE_INLINE void tile_gate(const struct scorer *scorer, float *gate, const uint32_t *proj, const float *b,
    size_t rows, bool bf16, tile_mac *mac)
{
    const size_t d = scorer->d, steps = scorer->gate_steps;
    uint32_t units[GATE_ROWS * GATE_STEPS];
    for (size_t r = 0; r < rows; r += GATE_ROWS) {
        const size_t count = rows - r < GATE_ROWS ? rows - r : GATE_ROWS;
        for (size_t k = 0; k < steps; k += GATE_STEPS) {
            const size_t part = steps - k < GATE_STEPS ? steps - k : GATE_STEPS;
            gate_pack(units, b + r * d, d, count, k, part, bf16);
            for (size_t i = 0; i < d; i += TILE_VECS * VEC_LANES) {
                const uint32_t *lanes = proj + scorer_lane(steps, i) + k * SCORER_LANES;
                for (size_t q = 0; q < count; q += 2 * TILE_PAIRS) {
                    const struct tile_source source = {lanes, units + q * part, part, 2 * TILE_PAIRS, NULL};
                    gate_tile(
                        gate + (r + q) * d + i, &source, d, count - q, d - i, k == 0, k + part == steps, mac);
                }
            }
        }
    }
}

#define TILE_GATE(name, bf16, mac)                                                                           \
    static void name(                                                                                        \
        const struct scorer *scorer, float *gate, const void *proj, const float *b, size_t rows)             \
    {                                                                                                        \
        tile_gate(scorer, gate, proj, b, rows, bf16, mac);                                                   \
    }

#endif

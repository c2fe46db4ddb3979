/* A kernel's part of the bound in core/scorer_bound.h. Included by a core/scorer_<kernel>.c behind core/scorer_tile.h. */
#ifndef EMBSUM_CORE_SCORER_TILE_BOUND_H
#define EMBSUM_CORE_SCORER_TILE_BOUND_H

#include "core/scorer_bound.h"
#include "core/scorer_tile.h"

#include <math.h>

/* ---- products ---- */

/* What turns a tile's integers into products; everything points to the tile's first lane or row. */
struct bound_factors {
    const float *lane_scales, *sums, *left_sums;
    const int32_t *offsets;
    const float *row_scales, *shifts, *means;
};

TILE_INLINE vec bound_lane(const float *numbers, int v)
{
    return *(const vec *)(numbers + (size_t)v * VEC_LANES);
}

TILE_INLINE void bound_tile(float *to, size_t lanes, bool add, const struct tile_source *source, int pairs,
    int vecs, const struct bound_factors *factors, tile_mac *mac)
{
    vec sums[2 * TILE_PAIRS][TILE_VECS];
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        const vec start = *(const vec *)(factors->offsets + (size_t)v * VEC_LANES);
        TILE_UNROLL for (int r = 0; r < 2 * pairs; r++) sums[r][v] = start;
    }
    tile_products(sums, source, 2 * pairs, vecs, mac);
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        const vec scale = bound_lane(factors->lane_scales, v), sum = bound_lane(factors->sums, v),
                  left_sum = bound_lane(factors->left_sums, v);
        TILE_UNROLL for (int r = 0; r < 2 * pairs; r++)
        {
            vec product = __builtin_convertvector((veci)sums[r][v], vec) * (scale * factors->row_scales[r]);
            product = vec_muladd(sum, vec_all(factors->shifts[r]), product);
            product = vec_muladd(left_sum, vec_all(factors->means[r]), product);
            vec *at = (vec *)(to + (size_t)r * lanes + (size_t)v * VEC_LANES);
            if (add)
                product += *at;
            *at = product;
        }
    }
}

TILE_INLINE void bound_any(float *to, size_t lanes, bool add, const struct tile_source *source, size_t pairs,
    int vecs, const struct bound_factors *factors, tile_mac *mac)
{
#if TILE_PAIRS >= 4
    if (pairs == 4) {
        const struct tile_source full = {
            source->lanes, source->rows, source->steps, 8, 1, source->next, source->later, source->other};
        bound_tile(to, lanes, add, &full, 4, vecs, factors, mac);
    } else if (pairs == 3)
        bound_tile(to, lanes, add, source, 3, vecs, factors, mac);
    else
#endif
        if (pairs == 2)
        bound_tile(to, lanes, add, source, 2, vecs, factors, mac);
    else
        bound_tile(to, lanes, add, source, 1, vecs, factors, mac);
}

/* All panels of lanes beside all blocks of rows, as tile_content() goes through them. */
TILE_INLINE void bound_products(const struct scorer *scorer, float *products, bool add,
    const struct scorer_bound_pass *pass, const struct scorer_bound_content *content,
    const char *const fetch[3], tile_mac *mac)
{
    const struct scorer_lanes *constants = scorer_user_lanes(scorer, pass->packed);
    const float *scales = scorer_row_scales(scorer, content->first);
    const size_t steps = scorer->steps, lanes = scorer->panels * SCORER_LANES;
    if (fetch[1]) { /* the scales, and what is behind the rows */
        const size_t behind = scorer->content_bytes + scorer_bound_floats(scorer->n) * sizeof(float);
        for (size_t at = 8 * scorer->n * steps; at < behind; at += SCORER_LINE)
            __builtin_prefetch(fetch[1] + at);
    }
    for (size_t j = 0; j < scorer->n; j += TILE_PAIRS) {
        const size_t block = j / SCORER_PAIRS, from = j % SCORER_PAIRS;
        const size_t left = scorer->n - block * SCORER_PAIRS,
                     width = left < SCORER_PAIRS ? left : SCORER_PAIRS;
        const size_t pairs = width - from < TILE_PAIRS ? width - from : TILE_PAIRS;
        const size_t block_at = block * 2 * SCORER_PAIRS * steps;
        for (size_t i = 0; i < scorer->m; i += TILE_VECS * VEC_LANES) {
            const size_t panel = i / SCORER_LANES, lane = i % SCORER_LANES;
            const bool fetching = i == 0 && from == 0;
            const struct tile_source source = {
                (const uint32_t *)pass->packed + panel * SCORER_LANES * steps + lane,
                (const uint32_t *)content->first + block_at + 2 * from, steps, 2 * width, 1,
                fetch[0] && fetching ? fetch[0] + 4 * block_at : NULL,
                fetch[1] && fetching ? fetch[1] + 4 * block_at : NULL,
                fetch[2] && fetching ? fetch[2] + 4 * block_at : NULL};
            const struct bound_factors factors = {constants[panel].scale + lane, pass->sums + i,
                pass->left_sums + i, constants[panel].offset + lane, scales + 2 * j, content->shifts + 2 * j,
                content->means + 2 * j};
            float *to = products + 2 * j * lanes + i;
            if (TILE_VECS == 1 || scorer->m - i > (TILE_VECS - 1) * VEC_LANES)
                bound_any(to, lanes, add, &source, pairs, TILE_VECS, &factors, mac);
            else
                bound_any(to, lanes, add, &source, pairs, 1, &factors, mac);
        }
    }
}

/* ---- refinement: a few lanes beside a full block, whose rows take the vectors' lanes ---- */

enum { BOUND_ROWS = 2 * SCORER_PAIRS, BOUND_VECS = 2 * BOUND_ROWS / VEC_LANES };

/* Indices of shuffles: units 2s and 2s + 1, each as often as a block has rows. */
static const int32_t bound_steps[8][16] __attribute__((aligned(64))) = {
    {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1},
    {2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3},
    {4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5},
    {6, 6, 6, 6, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7, 7, 7},
    {8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9, 9, 9, 9, 9},
    {10, 10, 10, 10, 10, 10, 10, 10, 11, 11, 11, 11, 11, 11, 11, 11},
    {12, 12, 12, 12, 12, 12, 12, 12, 13, 13, 13, 13, 13, 13, 13, 13},
    {14, 14, 14, 14, 14, 14, 14, 14, 15, 15, 15, 15, 15, 15, 15, 15},
};

/* Units 2s and 2s + 1 of 16 beside vector v of a line. */
TILE_INLINE vecu bound_spread(const uint32_t *units, size_t s, int v)
{
#if TILE_BYTES == 64
    (void)v;
    return __builtin_shuffle((vecu) * (const vec_unaligned *)units, *(const vecu *)bound_steps[s]);
#else
    return vec_all_units(units[2 * s + (v >= BOUND_VECS / 2)]);
#endif
}

/* Two steps of a block are a line, and BOUND_VECS vectors; s: which line of eight. */
TILE_INLINE void bound_refine_line(vec sums[SCORER_REFINED][BOUND_VECS], const uint32_t *line,
    const uint32_t *const lanes[SCORER_REFINED], size_t from, size_t s, tile_mac *mac)
{
    TILE_UNROLL
    for (int v = 0; v < BOUND_VECS; v++) {
        const vecu row = *(const vecu *)(line + (size_t)v * VEC_LANES);
        TILE_UNROLL
        for (int q = 0; q < SCORER_REFINED; q++)
            sums[q][v] = mac(sums[q][v], bound_spread(lanes[q] + from, s, v), row);
    }
}

/* What is refined of a block's rows, for one lane: 8 sums, from the two steps of a line. */
typedef int32_t bound_integers __attribute__((vector_size(4 * BOUND_ROWS), may_alias));
typedef float bound_rows __attribute__((vector_size(4 * BOUND_ROWS), may_alias));
typedef float bound_rows_unaligned __attribute__((vector_size(4 * BOUND_ROWS), may_alias, aligned(4)));

/* Products of some lanes with the rows of a block. Behind a lane's last unit there are 16 that may be read. */
TILE_INLINE void bound_refine_block(bound_integers totals[SCORER_REFINED], const uint32_t *rows,
    const uint32_t *const lanes[SCORER_REFINED], size_t steps, tile_mac *mac)
{
    vec sums[SCORER_REFINED][BOUND_VECS] = {0};
    size_t step = 0;
    for (; step + 16 <= steps; step += 16) {
        TILE_UNROLL
        for (size_t s = 0; s < 8; s++)
            bound_refine_line(sums, rows + (step + 2 * s) * BOUND_ROWS, lanes, step, s, mac);
    }
    for (size_t s = 0; step + 2 * s < steps; s++)
        bound_refine_line(sums, rows + (step + 2 * s) * BOUND_ROWS, lanes, step, s, mac);
    TILE_UNROLL
    for (int q = 0; q < SCORER_REFINED; q++) {
        vec line[BOUND_VECS] __attribute__((aligned(SCORER_LINE)));
        TILE_UNROLL
        for (int v = 0; v < BOUND_VECS; v++)
            line[v] = sums[q][v];
        const bound_integers *halves = (const bound_integers *)line;
        totals[q] = halves[0] + halves[1];
    }
}

/* products += rows of a user x content, of these lanes. */
TILE_INLINE void bound_refine(const struct scorer *scorer, float *products, const void *rows,
    const void *content, const uint32_t refined[SCORER_REFINED], size_t count, tile_mac *mac)
{
    const struct scorer_lanes *constants = scorer_user_lanes(scorer, rows);
    const float *scales = scorer_row_scales(scorer, content);
    const size_t steps = scorer->steps, stride = scorer->panels * SCORER_LANES;
    const uint32_t *lanes[SCORER_REFINED];
    for (size_t q = 0; q < SCORER_REFINED; q++)
        lanes[q] = (const uint32_t *)rows + refined[q < count ? q : 0] * steps;
    for (size_t from = 0; from < 2 * scorer->n; from += BOUND_ROWS) {
        const bound_rows row_scales = *(const bound_rows_unaligned *)(scales + from);
        bound_integers totals[SCORER_REFINED];
        bound_refine_block(totals, (const uint32_t *)content + from * steps, lanes, steps, mac);
        for (size_t q = 0; q < count; q++) {
            const struct scorer_lanes *panel = constants + refined[q] / SCORER_LANES;
            const float scale = panel->scale[refined[q] % SCORER_LANES];
            const int32_t offset = panel->offset[refined[q] % SCORER_LANES];
            const bound_rows more =
                __builtin_convertvector(totals[q] + offset, bound_rows) * (row_scales * scale);
            for (size_t r = 0; r < BOUND_ROWS; r++)
                products[(from + r) * stride + refined[q]] += more[r];
        }
    }
}

/* ---- moments ---- */

/* Indices of shuffles, in tables: GCC would build such vectors number by number. bound_pairs takes the even lanes of two
 * vectors in turn, bound_fours pairs of lanes; the odd lanes and the other pairs lie 1 and 2 behind. */
static const int32_t bound_lanes[16]
    __attribute__((aligned(64))) = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const int32_t bound_pairs[16]
    __attribute__((aligned(64))) = {0, VEC_LANES, 2, VEC_LANES + 2, 4, VEC_LANES + 4, 6, VEC_LANES + 6, 8,
        VEC_LANES + 8, 10, VEC_LANES + 10, 12, VEC_LANES + 12, 14, VEC_LANES + 14};
static const int32_t bound_fours[16] __attribute__((aligned(64))) = {0, 1, VEC_LANES, VEC_LANES + 1, 4, 5,
    VEC_LANES + 4, VEC_LANES + 5, 8, 9, VEC_LANES + 8, VEC_LANES + 9, 12, 13, VEC_LANES + 12, VEC_LANES + 13};

typedef vec bound_operation(vec x, vec y);

TILE_INLINE vec bound_add(vec x, vec y)
{
    return x + y;
}

/* All lanes of x brought together, in every lane. */
TILE_INLINE vec bound_all(vec x, bound_operation *operation, int first)
{
    TILE_UNROLL
    for (int apart = VEC_LANES / 2; apart >= first; apart /= 2)
        x = operation(x, __builtin_shuffle(x, *(const veci *)bound_lanes ^ apart));
    return x;
}

/* The lanes of four vectors brought together, each in a lane of its own: 0 to 3. */
TILE_INLINE vec bound_each(const vec x[4], bound_operation *operation)
{
    const veci pairs = *(const veci *)bound_pairs, fours = *(const veci *)bound_fours;
    const vec low = operation(__builtin_shuffle(x[0], x[1], pairs), __builtin_shuffle(x[0], x[1], pairs + 1));
    const vec high =
        operation(__builtin_shuffle(x[2], x[3], pairs), __builtin_shuffle(x[2], x[3], pairs + 1));
    const vec four = operation(__builtin_shuffle(low, high, fours), __builtin_shuffle(low, high, fours + 2));
    return bound_all(four, operation, 4);
}

/* Weights that are not yet divided by their sum, and their sums over j; score, top and total. */
TILE_INLINE void bound_weigh(struct scorer_moments *moments, vec *weights, const vec *products, size_t n,
    size_t vecs, size_t stride, const struct scorer_lanes *constants)
{
    vec most = products[stride], largest = vec_all(0);
    for (size_t j = 0; j < n; j++) {
        const vec *k = products + 2 * j * stride, *l = k + stride;
        for (size_t v = 0; v < vecs; v++) {
            most = vec_max(most, l[v]);
            largest = vec_max(largest, (vec)((vecu)k[v] & 0x7FFFFFFF));
        }
    }
    const vec top = bound_all(most, vec_max, 1);
    vec sum = vec_all(0), weighted = vec_all(0);
    for (size_t v = 0; v < vecs; v++) {
        enum { VECS = SCORER_LANES / VEC_LANES };
        const vec live = ((const vec *)constants[v / VECS].live)[v % VECS];
        vec lane = vec_all(0);
        for (size_t j = 0; j < n; j++) {
            const vec *k = products + 2 * j * stride, *l = k + stride;
            const vec weight = vec_exp_negative(l[v] - top) * live;
            lane += weight;
            weighted = vec_muladd(weight, k[v], weighted);
            weights[j * stride + v] = weight;
        }
        weights[n * stride + v] = lane;
        sum += lane;
    }
    moments->total = bound_all(sum, bound_add, 1)[0];
    moments->score = bound_all(weighted, bound_add, 1)[0] / moments->total;
    moments->top = bound_all(largest, vec_max, 1)[0];
}

/* Lanes 0 to 3, and what is done with them. */
typedef float bound_four __attribute__((vector_size(16), may_alias));

TILE_INLINE bound_four bound_low(vec x)
{
#if TILE_BYTES == 64
    return (bound_four)_mm512_castps512_ps128((__m512)x);
#elif TILE_BYTES == 32
    return (bound_four)_mm256_castps256_ps128((__m256)x);
#else
    return (bound_four)x;
#endif
}

TILE_INLINE bound_four bound_root(bound_four x)
{
#if defined __SSE2__
    return (bound_four)_mm_sqrt_ps((__m128)x);
#else
    return (bound_four){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
#endif
}

TILE_INLINE float bound_sum(bound_four x)
{
    return (x[0] + x[1]) + (x[2] + x[3]);
}

TILE_INLINE void bound_moments(struct scorer_moments *moments, const vec *weights, const vec *products,
    const vec *loose, size_t n, size_t vecs, size_t stride, const float *y, const float *z)
{
    const vec share = vec_all(1 / moments->total), score = vec_all(moments->score),
              unit = vec_all(moments->top > 0 ? 1 / moments->top : 0), zero = vec_all(0);
    vec positive = zero;
    bound_four weights_y = {0}, weights_z = {0}, spread_z = {0}, weights_yy = {0}, weights_zz = {0},
               positive_zz = {0};
    for (size_t from = 0; from < n; from += 4) { /* four pairs, whose lanes are brought together at once */
        vec squares[4] = {zero, zero, zero, zero}, spreads[4] = {zero, zero, zero, zero},
            most[4] = {zero, zero, zero, zero}, most_positive[4] = {zero, zero, zero, zero};
        const size_t here = n - from < 4 ? n - from : 4;
        TILE_UNROLL
        for (size_t q = 0; q < here; q++) {
            const vec *k = products + 2 * (from + q) * stride, *w = weights + (from + q) * stride;
            for (size_t v = 0; v < vecs; v++) {
                const vec all = w[v] * share, p = all * loose[v], factor = (k[v] - score) * unit;
                const vec c = p * factor;
                squares[q] = vec_muladd(p, p, squares[q]);
                spreads[q] = vec_muladd(c, c, spreads[q]);
                most[q] = vec_max(most[q], p);
                most_positive[q] = vec_max(most_positive[q], c);
                positive += vec_max(all * factor, zero);
            }
        }
        const bound_four yj = *(const bound_four *)(y + from), zj = *(const bound_four *)(z + from);
        const bound_four p = bound_root(bound_low(bound_each(squares, bound_add)));
        const bound_four c = bound_root(bound_low(bound_each(spreads, bound_add)));
        const bound_four p_most = bound_low(bound_each(most, vec_max));
        const bound_four c_most = bound_low(bound_each(most_positive, vec_max));
        weights_y += yj * p;
        weights_z += zj * p;
        spread_z += zj * c;
        weights_yy += yj * yj * p_most;
        weights_zz += zj * zj * p_most;
        positive_zz += zj * zj * c_most;
    }
    moments->positive = bound_all(positive, bound_add, 1)[0];
    moments->weights_y = bound_sum(weights_y);
    moments->weights_z = bound_sum(weights_z);
    moments->spread_z = bound_sum(spread_z);
    moments->weights_yy = bound_sum(weights_yy);
    moments->weights_zz = bound_sum(weights_zz);
    moments->positive_zz = bound_sum(positive_zz);
}

/* The struct to put into the table of kernels. The usual m and n get loops whose length the compiler knows. */
#define TILE_BOUNDER(name, mac)                                                                              \
    static void name##_products(const struct scorer *rough, float *products, bool second,                    \
        const struct scorer_bound_pass *pass, const struct scorer_bound_content *content,                    \
        const char *const fetch[3])                                                                          \
    {                                                                                                        \
        bound_products(rough, products, second, pass, content, fetch, mac);                                  \
    }                                                                                                        \
    static void name##_refine(const struct scorer *rough, float *products, const void *rows,                 \
        const void *content, const uint32_t refined[SCORER_REFINED], size_t count)                           \
    {                                                                                                        \
        bound_refine(rough, products, rows, content, refined, count, mac);                                   \
    }                                                                                                        \
    static void name##_weigh(const struct scorer *rough, struct scorer_moments *moments, float *weights,     \
        const float *products, const void *user)                                                             \
    {                                                                                                        \
        enum { VECS = SCORER_LANES / VEC_LANES };                                                            \
        const struct scorer_lanes *constants = scorer_user_lanes(rough, user);                               \
        vec *w = (vec *)weights;                                                                             \
        const vec *x = (const vec *)products;                                                                \
        if (rough->m == SCORER_LANES && rough->n == 4)                                                       \
            bound_weigh(moments, w, x, 4, VECS, VECS, constants);                                            \
        else                                                                                                 \
            bound_weigh(                                                                                     \
                moments, w, x, rough->n, (rough->m - 1) / VEC_LANES + 1, rough->panels * VECS, constants);   \
    }                                                                                                        \
    static void name##_moments(const struct scorer *rough, struct scorer_moments *moments,                   \
        const float *weights, const float *products, const float *loose, const float *y, const float *z)     \
    {                                                                                                        \
        enum { VECS = SCORER_LANES / VEC_LANES };                                                            \
        const vec *w = (const vec *)weights, *x = (const vec *)products, *l = (const vec *)loose;            \
        if (rough->m == SCORER_LANES && rough->n == 4)                                                       \
            bound_moments(moments, w, x, l, 4, VECS, VECS, y, z);                                            \
        else                                                                                                 \
            bound_moments(                                                                                   \
                moments, w, x, l, rough->n, (rough->m - 1) / VEC_LANES + 1, rough->panels * VECS, y, z);     \
    }                                                                                                        \
    static const struct scorer_bounder name = {name##_products, name##_refine, name##_weigh, name##_moments};

#endif

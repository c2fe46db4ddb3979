/* A kernel's part of the bound in core/scorer_bound.h. Included by a core/scorer_<kernel>.c behind core/scorer_tile.h. */
#ifndef EMBSUM_CORE_SCORER_TILE_BOUND_H
#define EMBSUM_CORE_SCORER_TILE_BOUND_H

#include "core/scorer_bound.h"
#include "core/scorer_tile.h"

#include <math.h>

/* ---- products ---- */

TILE_INLINE void bound_tile(float *to, size_t lanes, bool add, const struct tile_source *source, int pairs,
    int vecs, const struct scorer_lanes *constants, size_t lane, const float *scales, tile_mac *mac)
{
    vec sums[2 * TILE_PAIRS][TILE_VECS];
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        const vec start = *(const vec *)(constants->offset + lane + (size_t)v * VEC_LANES);
        TILE_UNROLL for (int r = 0; r < 2 * pairs; r++) sums[r][v] = start;
    }
    tile_products(sums, source, 2 * pairs, vecs, mac);
    TILE_UNROLL for (int v = 0; v < vecs; v++)
    {
        const vec scale = *(const vec *)(constants->scale + lane + (size_t)v * VEC_LANES);
        TILE_UNROLL for (int r = 0; r < 2 * pairs; r++)
        {
            vec *at = (vec *)(to + (size_t)r * lanes + (size_t)v * VEC_LANES);
            vec sum = __builtin_convertvector((veci)sums[r][v], vec) * (scale * scales[r]);
            if (add)
                sum += *at;
            *at = sum;
        }
    }
}

TILE_INLINE void bound_any(float *to, size_t lanes, bool add, const struct tile_source *source, size_t pairs,
    int vecs, const struct scorer_lanes *constants, size_t lane, const float *scales, tile_mac *mac)
{
#if TILE_PAIRS >= 4
    if (pairs == 4) {
        const struct tile_source full = {
            source->lanes, source->rows, source->steps, 8, 1, source->next, source->later};
        bound_tile(to, lanes, add, &full, 4, vecs, constants, lane, scales, mac);
    } else if (pairs == 3)
        bound_tile(to, lanes, add, source, 3, vecs, constants, lane, scales, mac);
    else
#endif
        if (pairs == 2)
        bound_tile(to, lanes, add, source, 2, vecs, constants, lane, scales, mac);
    else
        bound_tile(to, lanes, add, source, 1, vecs, constants, lane, scales, mac);
}

/* All panels of lanes beside all blocks of rows, as tile_content() goes through them. */
TILE_INLINE void bound_products(const struct scorer *scorer, float *products, bool add, const uint32_t *user,
    const uint32_t *content, const char *ahead, tile_mac *mac)
{
    const struct scorer_lanes *constants = scorer_user_lanes(scorer, user);
    const float *scales = scorer_row_scales(scorer, content);
    const size_t steps = scorer->steps, lanes = scorer->panels * SCORER_LANES;
    if (ahead) { /* the scales and the norms behind the rows */
        __builtin_prefetch(ahead + 8 * scorer->n * steps);
        __builtin_prefetch(ahead + scorer->content_bytes);
    }
    for (size_t j = 0; j < scorer->n; j += TILE_PAIRS) {
        const size_t block = j / SCORER_PAIRS, from = j % SCORER_PAIRS;
        const size_t left = scorer->n - block * SCORER_PAIRS,
                     width = left < SCORER_PAIRS ? left : SCORER_PAIRS;
        const size_t pairs = width - from < TILE_PAIRS ? width - from : TILE_PAIRS;
        const size_t block_at = block * 2 * SCORER_PAIRS * steps;
        for (size_t i = 0; i < scorer->m; i += TILE_VECS * VEC_LANES) {
            const size_t panel = i / SCORER_LANES, lane = i % SCORER_LANES;
            const struct tile_source source = {user + panel * SCORER_LANES * steps + lane,
                content + block_at + 2 * from, steps, 2 * width, 1,
                ahead && i == 0 && from == 0 ? ahead + 4 * block_at : NULL, NULL};
            float *to = products + 2 * j * lanes + i;
            if (TILE_VECS == 1 || scorer->m - i > (TILE_VECS - 1) * VEC_LANES)
                bound_any(
                    to, lanes, add, &source, pairs, TILE_VECS, constants + panel, lane, scales + 2 * j, mac);
            else
                bound_any(to, lanes, add, &source, pairs, 1, constants + panel, lane, scales + 2 * j, mac);
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

/* Weights that are not yet divided by their sum; score, top and total. */
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
        for (size_t j = 0; j < n; j++) {
            const vec *k = products + 2 * j * stride, *l = k + stride;
            const vec weight = vec_exp_negative(l[v] - top) * live;
            sum += weight;
            weighted = vec_muladd(weight, k[v], weighted);
            weights[j * stride + v] = weight;
        }
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
    size_t n, size_t vecs, size_t stride, const float *y, const float *z)
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
                const vec p = w[v] * share, c = p * ((k[v] - score) * unit), above = vec_max(c, zero);
                squares[q] = vec_muladd(p, p, squares[q]);
                spreads[q] = vec_muladd(c, c, spreads[q]);
                most[q] = vec_max(most[q], p);
                most_positive[q] = vec_max(most_positive[q], above);
                positive += above;
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
    static void name##_products(const struct scorer *rough, float *products, bool add, const void *user,     \
        const void *content, const char *ahead)                                                              \
    {                                                                                                        \
        bound_products(rough, products, add, user, content, ahead, mac);                                     \
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
        const float *weights, const float *products, const float *y, const float *z)                         \
    {                                                                                                        \
        enum { VECS = SCORER_LANES / VEC_LANES };                                                            \
        const vec *w = (const vec *)weights, *x = (const vec *)products;                                     \
        if (rough->m == SCORER_LANES && rough->n == 4)                                                       \
            bound_moments(moments, w, x, 4, VECS, VECS, y, z);                                               \
        else                                                                                                 \
            bound_moments(                                                                                   \
                moments, w, x, rough->n, (rough->m - 1) / VEC_LANES + 1, rough->panels * VECS, y, z);        \
    }                                                                                                        \
    static const struct scorer_bounder name = {name##_products, name##_weigh, name##_moments};

#endif

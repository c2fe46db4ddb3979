/* A kernel's part of the bound in core/scorer_bound.h. Included by a core/scorer_<kernel>.c behind core/scorer_tile.h. */
#ifndef EMBSUM_CORE_SCORER_TILE_BOUND_H
#define EMBSUM_CORE_SCORER_TILE_BOUND_H

#include "core/scorer_bound.h"
#include "core/scorer_tile.h"

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
        const struct tile_source full = {source->lanes, source->rows, source->steps, 8, source->ahead};
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
        const size_t left = scorer->n - block * SCORER_PAIRS, width = left < SCORER_PAIRS ? left : SCORER_PAIRS;
        const size_t pairs = width - from < TILE_PAIRS ? width - from : TILE_PAIRS;
        const size_t block_at = block * 2 * SCORER_PAIRS * steps;
        for (size_t i = 0; i < scorer->m; i += TILE_VECS * VEC_LANES) {
            const size_t panel = i / SCORER_LANES, lane = i % SCORER_LANES;
            const struct tile_source source = {user + panel * SCORER_LANES * steps + lane,
                content + block_at + 2 * from, steps, 2 * width,
                ahead && i == 0 && from == 0 ? ahead + 4 * block_at : NULL};
            float *to = products + 2 * j * lanes + i;
            if (TILE_VECS == 1 || scorer->m - i > (TILE_VECS - 1) * VEC_LANES)
                bound_any(to, lanes, add, &source, pairs, TILE_VECS, constants + panel, lane, scales + 2 * j, mac);
            else
                bound_any(to, lanes, add, &source, pairs, 1, constants + panel, lane, scales + 2 * j, mac);
        }
    }
}

/* ---- moments ---- */

/* The lane that is `apart` lanes away from each, from a table: GCC would build a vector of its own number by number. */
static const int32_t bound_lanes[16] __attribute__((aligned(64))) = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

TILE_INLINE veci bound_partner(int apart)
{
    return *(const veci *)bound_lanes ^ apart;
}

TILE_INLINE float bound_sum(vec x)
{
    TILE_UNROLL for (int apart = VEC_LANES / 2; apart; apart /= 2) x += __builtin_shuffle(x, bound_partner(apart));
    return x[0];
}

TILE_INLINE float bound_largest(vec x)
{
    TILE_UNROLL for (int apart = VEC_LANES / 2; apart; apart /= 2) x =
        vec_max(x, __builtin_shuffle(x, bound_partner(apart)));
    return x[0];
}

/* Weights that are not yet divided by their sum, which is returned; score and top. */
TILE_INLINE float bound_weigh(struct scorer_moments *moments, vec *weights, const vec *products, size_t n,
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
    const vec top = vec_all(bound_largest(most));
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
    const float total = bound_sum(sum);
    moments->score = bound_sum(weighted) / total;
    moments->top = bound_largest(largest);
    return total;
}

TILE_INLINE void bound_moments(struct scorer_moments *moments, vec *weights, const vec *products,
    size_t n, size_t vecs, size_t stride, const struct scorer_lanes *constants, const float *reach)
{
    const float total = bound_weigh(moments, weights, products, n, vecs, stride, constants);
    const vec share = vec_all(1 / total), score = vec_all(moments->score),
              unit = vec_all(moments->top > 0 ? 1 / moments->top : 0), zero = vec_all(0);
    vec positive = zero, weights_y = zero, weights_z = zero, spread_z = zero;
    float weights_yy = 0, weights_zz = 0, positive_zz = 0;
    for (size_t j = 0; j < n; j++) {
        const vec *k = products + 2 * j * stride;
        const float y = reach[2 * j], z = reach[2 * j + 1];
        vec squares = zero, spread = zero, most = zero, most_positive = zero;
        for (size_t v = 0; v < vecs; v++) {
            const vec p = weights[j * stride + v] * share, c = p * ((k[v] - score) * unit), above = vec_max(c, zero);
            squares = vec_muladd(p, p, squares);
            spread = vec_muladd(c, c, spread);
            positive += above;
            most = vec_max(most, p);
            most_positive = vec_max(most_positive, above);
        }
        weights_y = vec_muladd(squares, vec_all(y), weights_y);
        weights_z = vec_muladd(squares, vec_all(z), weights_z);
        spread_z = vec_muladd(spread, vec_all(z), spread_z);
        const float p = bound_largest(most);
        weights_yy += y * y * p;
        weights_zz += z * z * p;
        positive_zz += z * z * bound_largest(most_positive);
    }
    moments->positive = bound_sum(positive);
    moments->weights_y = bound_sum(weights_y);
    moments->weights_z = bound_sum(weights_z);
    moments->spread_z = bound_sum(spread_z);
    moments->weights_yy = weights_yy;
    moments->weights_zz = weights_zz;
    moments->positive_zz = positive_zz;
}

/* The struct to put into the table of kernels. The usual m gets loops whose length the compiler knows. */
#define TILE_BOUNDER(name, mac)                                                                              \
    static void name##_products(const struct scorer *rough, float *products, bool add, const void *user,     \
        const void *content, const char *ahead)                                                              \
    {                                                                                                        \
        bound_products(rough, products, add, user, content, ahead, mac);                                     \
    }                                                                                                        \
    static void name##_moments(const struct scorer *rough, struct scorer_moments *moments, float *weights,   \
        const float *products, const void *user, const float *reach)                                         \
    {                                                                                                        \
        enum { VECS = SCORER_LANES / VEC_LANES };                                                            \
        const struct scorer_lanes *constants = scorer_user_lanes(rough, user);                               \
        vec *w = (vec *)weights;                                                                             \
        const vec *x = (const vec *)products;                                                                \
        if (rough->m == SCORER_LANES && rough->n == 4)                                                       \
            bound_moments(moments, w, x, 4, VECS, VECS, constants, reach);                                   \
        else                                                                                                 \
            bound_moments(moments, w, x, rough->n, (rough->m - 1) / VEC_LANES + 1, rough->panels * VECS,     \
                constants, reach);                                                                           \
    }                                                                                                        \
    static const struct scorer_bounder name = {name##_products, name##_moments};

#endif

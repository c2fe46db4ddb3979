/* Attention of one head, written once over vectors of any width. Included by a core/linear_<kernel>.c behind
 * core/linear_tile.h. Keys and values are packed into panels as weights are: keys are the lanes of Q K^T, the columns
 * of V those of the weights' product. */
#ifndef EMBSUM_CORE_LINEAR_ATTEND_H
#define EMBSUM_CORE_LINEAR_ATTEND_H

#include "core/linear_tile.h"

typedef uint32_t vecu_unaligned __attribute__((vector_size(TILE_BYTES), may_alias, aligned(1)));
typedef uint32_t unit_unaligned __attribute__((may_alias, aligned(1)));

/* A row of d_kv numbers to units `apart` from one another, zeros up to `steps`. */
TILE_INLINE void attend_units(uint32_t *units, size_t apart, const char *row, size_t bytes, size_t steps)
{
    const size_t whole = bytes / 4;
    size_t i = 0;
    for (; i < whole; i++)
        units[i * apart] = ((const unit_unaligned *)row)[i];
    if (bytes % 4) /* an odd number of bfloat16 */
        units[i++ * apart] = *(const uint16_t *)(row + 4 * whole);
    for (; i < steps; i++)
        units[i * apart] = 0;
}

/* A square of VEC_LANES keys by as many units, keys beyond `count` zeros, turned over in rounds of zips. */
static __attribute__((noinline)) void attend_turn(
    uint32_t *packed, const char *rows, size_t bytes, size_t count)
{
    vecu a[VEC_LANES];
    veci low, high;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++)
    {
        low[i] = i / 2 + i % 2 * VEC_LANES;
        high[i] = low[i] + VEC_LANES / 2;
    }
    TILE_UNROLL for (size_t i = 0; i < VEC_LANES; i++)
    {
        a[i] = (vecu){0};
        if (i < count)
            a[i] += *(const vecu_unaligned *)(rows + i * bytes);
    }
    TILE_UNROLL for (int round = VEC_LANES; round > 1; round /= 2)
    {
        vecu b[VEC_LANES];
        TILE_UNROLL for (int i = 0; i < VEC_LANES / 2; i++)
        {
            b[2 * i] = __builtin_shuffle(a[i], a[i + VEC_LANES / 2], low);
            b[2 * i + 1] = __builtin_shuffle(a[i], a[i + VEC_LANES / 2], high);
        }
        TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) a[i] = b[i];
    }
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) * (vecu *)(packed + i * LINEAR_LANES) = a[i];
}

/* The part of the next head in a row, which is needed next. */
TILE_INLINE void attend_fetch(const char *row, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += LINEAR_LINE)
        __builtin_prefetch(row + bytes + at, 0, 2);
}

/* [panel][step][32 keys]; keys beyond the last are zeros. */
TILE_INLINE void attend_pack_keys(
    uint32_t *packed, const struct attention *a, size_t size, size_t steps, size_t padded)
{
    const size_t bytes = a->d_kv * size, whole = bytes / 4 / VEC_LANES * VEC_LANES;
    for (size_t k = 0; k < padded; k += VEC_LANES) {
        const char *rows = (const char *)a->k + k * a->stride * size;
        uint32_t *to = packed + k / LINEAR_LANES * LINEAR_LANES * steps + k % LINEAR_LANES;
        const size_t left = k < a->length ? a->length - k : 0, some = left < VEC_LANES ? left : VEC_LANES;
        for (size_t unit = 0; unit < whole; unit += VEC_LANES)
            attend_turn(to + unit * LINEAR_LANES, rows + 4 * unit, a->stride * size, some);
        for (size_t i = 0; i < VEC_LANES; i++) {
            const char *row = rows + i * a->stride * size;
            if (i < some)
                attend_fetch(row, bytes);
            if (whole < steps)
                attend_units(to + whole * LINEAR_LANES + i, LINEAR_LANES, row + 4 * whole,
                    i < some ? bytes - 4 * whole : 0, steps - whole);
        }
    }
}

/* Two bfloat16 of a column in a unit; odd NULL: no second key. */
TILE_INLINE void attend_pairs(uint32_t *units, const uint16_t *even, const uint16_t *odd, size_t count)
{
    for (size_t i = 0; i < count; i++)
        units[i] = even[i] | (odd ? (uint32_t)odd[i] << 16 : 0);
}

/* [panel][step][32 columns]; a bfloat16 unit is a column of two neighbouring keys. */
TILE_INLINE void attend_pack_values(
    uint32_t *packed, const struct attention *a, bool bf16, size_t steps, size_t columns)
{
    const size_t keys = bf16 ? 2 : 1, size = bf16 ? 2 : 4;
    for (size_t step = 0; step < steps; step++) {
        const char *row = (const char *)a->v + step * keys * a->stride * size;
        const size_t left = step * keys < a->length ? a->length - step * keys : 0;
        for (size_t k = 0; k < keys && k < left; k++)
            attend_fetch(row + k * a->stride * size, a->d_kv * size);
        for (size_t c = 0; c < columns; c += LINEAR_LANES) {
            uint32_t *to = packed + c * steps + step * LINEAR_LANES;
            const uint16_t *even = (const uint16_t *)row + c, *odd = left > 1 ? even + a->stride : NULL;
            const size_t some = a->d_kv - c < LINEAR_LANES ? a->d_kv - c : LINEAR_LANES;
            if (left && bf16 && odd && some == LINEAR_LANES) {
                attend_pairs(to, even, odd, LINEAR_LANES);
            } else if (left && !bf16 && some == LINEAR_LANES) {
                memcpy(to, row + c * size, LINEAR_LANES * size);
            } else {
                memset(to, 0, LINEAR_LANES * sizeof *to);
                if (left && bf16)
                    attend_pairs(to, even, odd, some);
                else if (left)
                    memcpy(to, row + c * size, some * size);
            }
        }
    }
}

/* e^x for x <= 0, to 8e-5 of it: a polynomial of degree 3 for 2^f, |f| <= 1/2, least largest error. Good for what is
 * rounded to bfloat16; core/simd_vec.h has the exact one. */
TILE_INLINE vec attend_exp(vec x)
{
    const float round = 12582912.0f;
    x = vec_max(x, vec_all(-86.0f));
    const vec shifted = vec_muladd(x, vec_all(1.44269504f), vec_all(round)), n = shifted - round,
              f = vec_muladd(x, vec_all(1.44269504f), -n);
    vec p = vec_all(5.51716691e-2f);
    p = vec_muladd(p, f, vec_all(2.42611122e-1f));
    p = vec_muladd(p, f, vec_all(6.93260985e-1f));
    p = vec_muladd(p, f, vec_all(9.99928074e-1f));
    return (vec)((vecu)p + ((vecu)shifted << 23));
}

/* weights (in place, bfloat16 where asked) = e^(scores + bias - largest), keys beyond the last next to 0. Returns their
 * sum. bias: of the query's relation to key 0. */
TILE_INLINE float attend_weigh(float *weights, const float *bias, size_t length, bool bf16)
{
    const size_t whole = length / VEC_LANES * VEC_LANES;
    vec most = vec_all(-INFINITY), sums = {0};
    for (size_t k = 0; k < whole; k += VEC_LANES) {
        vec *at = (vec *)(weights + k);
        *at += *(const vec_unaligned *)(bias + k);
        most = vec_max(most, *at);
    }
    if (whole < length) {
        vec *at = (vec *)(weights + whole);
        *at += *(const vec_unaligned *)(bias + whole);
        for (size_t k = length; k < whole + VEC_LANES; k++)
            weights[k] = -INFINITY;
        most = vec_max(most, *at);
    }
    const vec top = row_largest(most);
    for (size_t k = 0; k < length; k += VEC_LANES) {
        const vec apart = *(const vec *)(weights + k) - top,
                  weight = bf16 ? attend_exp(apart) : vec_exp_negative(apart);
        sums += weight;
        if (bf16)
            *(vec_halves *)((uint16_t *)weights + k) = vec_to_bf16(weight);
        else
            *(vec *)(weights + k) = weight;
    }
    return row_total(sums)[0];
}

TILE_INLINE void attend(const struct attention *a, void *scratch, bool bf16, tile_function *tile)
{
    const enum linear_dtype dtype = bf16 ? LINEAR_BF16 : LINEAR_F32;
    const size_t size = bf16 ? 2 : 4, keys = attention_pad(a->length), columns = attention_pad(a->d_kv);
    const size_t key_steps = linear_steps(dtype, a->d_kv), value_steps = linear_steps(dtype, a->length);
    const size_t strip_stride = keys + LINEAR_LINE / 4, query_stride = columns + LINEAR_LINE / 4;
    uint32_t *packed_keys = scratch, *packed_values = packed_keys + keys * columns;
    float *strip = (float *)(packed_values + columns * keys);
    uint32_t *queries = (uint32_t *)(strip + ATTENTION_ROWS * strip_stride);
    float sums[TILE_ROWS * TILE_LANES] __attribute__((aligned(LINEAR_LINE)));
    attend_pack_keys(packed_keys, a, size, key_steps, keys);
    attend_pack_values(packed_values, a, bf16, value_steps, columns);
    for (size_t q = 0; q < a->length; q += TILE_ROWS) {
        const size_t some = a->length - q < TILE_ROWS ? a->length - q : TILE_ROWS;
        float scale[TILE_ROWS];
        for (size_t r = 0; r < some; r++)
            attend_units(queries + r * query_stride, 1, (const char *)a->q + (q + r) * a->stride * size,
                a->d_kv * size, key_steps);
        for (size_t k = 0; k < a->length; k += TILE_LANES)
            tile(strip + k, strip_stride,
                packed_keys + k / LINEAR_LANES * LINEAR_LANES * key_steps + k % LINEAR_LANES, queries,
                query_stride, key_steps, some);
        for (size_t r = 0; r < some; r++)
            scale[r] = 1.0f / attend_weigh(strip + r * strip_stride, a->bias - (q + r), a->length, bf16);
        for (size_t c = 0; c < a->d_kv; c += TILE_LANES) {
            tile(sums, TILE_LANES,
                packed_values + c / LINEAR_LANES * LINEAR_LANES * value_steps + c % LINEAR_LANES,
                (const uint32_t *)strip, strip_stride, value_steps, some);
            const struct linear_out out = {a->context, a->context_stride, LINEAR_SET, false};
            for (size_t r = 0; r < some; r++)
                for (size_t i = 0; i < TILE_LANES && c + i < a->d_kv; i += VEC_LANES)
                    row_out(&out, (q + r) * a->context_stride + c + i, a->d_kv - c - i,
                        *(const vec *)(sums + r * TILE_LANES + i) * scale[r], LINEAR_SET, false);
        }
    }
}

/* A function for the table of kernels, with the tile of TILE_APPLY(product, ...). */
#define ATTEND(name, bf16, product)                                                                          \
    static void name(const struct attention *attention, void *scratch)                                       \
    {                                                                                                        \
        attend(attention, scratch, bf16, product##_tile);                                                    \
    }

/* All of a kernel that widens bfloat16 and int8, and its row of the table. */
#define LINEAR_WIDENING(variable, name, runs)                                                                \
    TILE_APPLY(apply_f32, false, vec_mac_f32)                                                                \
    TILE_APPLY(apply_bf16, false, vec_mac_bf16)                                                              \
    TILE_APPLY(apply_int8, true, vec_mac_int8)                                                               \
    ROWS(f32, LINEAR_F32)                                                                                    \
    ROWS(bf16, LINEAR_BF16)                                                                                  \
    ROWS(int8, LINEAR_INT8)                                                                                  \
    ATTEND(attend_f32, false, apply_f32)                                                                     \
    const struct linear_kernel variable = {name, runs, {apply_f32, apply_bf16, apply_int8},                  \
        {f32_convert, bf16_convert, int8_convert}, {f32_norm, bf16_norm, int8_norm},                         \
        {f32_activate, bf16_activate, int8_activate}, {attend_f32, NULL}};

#endif

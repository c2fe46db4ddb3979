/* Rows of numbers on their way into a product and out of it: norms, activations, and the conversion to a product's
 * dtype. Included by a core/linear_<kernel>.c behind its target pragma. */
#ifndef EMBSUM_CORE_LINEAR_ROWS_H
#define EMBSUM_CORE_LINEAR_ROWS_H

#include "core/linear_int.h"
#include "core/simd_vec.h"

#include <math.h>
#include <string.h>

typedef uint16_t vec_halves __attribute__((vector_size(TILE_BYTES / 2), may_alias, aligned(2)));
typedef uint8_t vec_bytes __attribute__((vector_size(TILE_BYTES / 4), may_alias, aligned(1)));

/* Rounded to nearest even; a NaN stays one. */
TILE_INLINE vec_halves vec_to_bf16(vec x)
{
#ifdef __AVX512BF16__
    return (vec_halves)_mm512_cvtneps_pbh((__m512)x);
#else
    const vecu bits = (vecu)x, rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16, nan = (vecu)(x != x);
    return __builtin_convertvector((rounded & ~nan) | ((bits >> 16 | 0x40) & nan), vec_halves);
#endif
}

/* The first `left` numbers, and zeros. */
TILE_INLINE vec row_load(const float *x, size_t left)
{
    if (left >= VEC_LANES)
        return *(const vec_unaligned *)x;
    float some[VEC_LANES] = {0};
    for (size_t i = 0; i < left; i++)
        some[i] = x[i];
    return *(const vec_unaligned *)some;
}

/* Every lane with the one `apart` away. */
TILE_INLINE vec row_partner(vec x, int apart)
{
    veci lane;
    TILE_UNROLL for (int i = 0; i < VEC_LANES; i++) lane[i] = i ^ apart;
    return __builtin_shuffle(x, lane);
}

/* In every lane. */
TILE_INLINE vec row_largest(vec x)
{
    TILE_UNROLL for (int apart = VEC_LANES / 2; apart; apart /= 2) x = vec_max(x, row_partner(x, apart));
    return x;
}

TILE_INLINE vec row_total(vec x)
{
    TILE_UNROLL for (int apart = VEC_LANES / 2; apart; apart /= 2) x += row_partner(x, apart);
    return x;
}

/* ---- out of a product ---- */

/* Up to `left` numbers of the result, at element `at`; store and bf16 are out's. */
TILE_INLINE void row_out(
    const struct linear_out *out, size_t at, size_t left, vec x, enum linear_store store, bool bf16)
{
    const size_t some = left < VEC_LANES ? left : VEC_LANES;
    if (store == LINEAR_RELU)
        x = vec_max(x, (vec){0});
    if (bf16) {
        uint16_t *to = (uint16_t *)out->data + at;
        const vec_halves halves = vec_to_bf16(x);
        if (some == VEC_LANES)
            *(vec_halves *)to = halves;
        else
            memcpy(to, &halves, some * sizeof *to);
        return;
    }
    float *to = (float *)out->data + at;
    if (store == LINEAR_ADD)
        x += row_load(to, some);
    if (some == VEC_LANES)
        *(vec_unaligned *)to = x;
    else
        memcpy(to, &x, some * sizeof *to);
}

/* ---- into a product ---- */

enum { ROWS_CHAINS = 4 }; /* sums that do not wait for one another */

/* Where a row comes from, and a function that gives its numbers from i on, of which `left` are left. */
struct row_source {
    const float *x, *weight; /* weight: of a norm, or what a gate multiplies */
    float scale;             /* of a norm */
};
typedef vec row_value(const struct row_source *source, size_t i, size_t left);

TILE_INLINE vec row_plain(const struct row_source *source, size_t i, size_t left)
{
    return row_load(source->x + i, left);
}

TILE_INLINE vec row_norm(const struct row_source *source, size_t i, size_t left)
{
    return row_load(source->weight + i, left) * (row_load(source->x + i, left) * source->scale);
}

TILE_INLINE vec row_relu(const struct row_source *source, size_t i, size_t left)
{
    return vec_max(row_load(source->x + i, left), (vec){0});
}

/* gelu_new(x) = x / (1 + e^-2u) with 2u = 2 sqrt(2/pi) (x + 0.044715 x^3). */
TILE_INLINE vec row_gated(const struct row_source *source, size_t i, size_t left)
{
    const vec x = row_load(source->x + i, left), linear = row_load(source->weight + i, left);
    const vec u = (x + 0.044715f * x * x * x) * 1.595769122f;
    const vec e = vec_exp_negative(vec_min(u, -u)), one = vec_all(1.0f) / (e + 1.0f);
    const veci up = u > 0;
    return x * (vec)(((veci)one & up) | ((veci)(e * one) & ~up)) * linear;
}

/* `left` numbers to a row's units, from number i on. */
TILE_INLINE void row_put(
    enum linear_dtype dtype, uint32_t *units, size_t i, size_t left, vec x, float inverse, bool positive)
{
    const size_t some = left < VEC_LANES ? left : VEC_LANES;
    if (dtype == LINEAR_F32) {
        float *to = (float *)units + i;
        if (some == VEC_LANES)
            *(vec_unaligned *)to = x;
        else
            memcpy(to, &x, some * sizeof *to);
    } else if (dtype == LINEAR_BF16) {
        uint16_t *to = (uint16_t *)units + i;
        const vec_halves halves = vec_to_bf16(x);
        if (some == VEC_LANES)
            *(vec_halves *)to = halves;
        else
            memcpy(to, &halves, some * sizeof *to);
    } else {
        uint8_t *to = (uint8_t *)units + i;
        const vecu q = (vecu)vec_muladd(x, vec_all(inverse), vec_all(12582912.0f)); /* rounds to an integer */
        const vec_bytes bytes =
            __builtin_convertvector((q ^ (positive ? 0u : (uint32_t)LINEAR_BIAS)) & 0xFF, vec_bytes);
        if (some == VEC_LANES)
            *(vec_bytes *)to = bytes;
        else
            memcpy(to, &bytes, some * sizeof *to);
    }
}

/* One row; returns its scale. */
TILE_INLINE float row_make(enum linear_dtype dtype, uint32_t *units, const struct row_source *source,
    size_t count, bool positive, row_value *value)
{
    const size_t whole = count / VEC_LANES * VEC_LANES, size = 4 / linear_per_unit(dtype);
    float top = 0, inverse = 0;
    if (dtype == LINEAR_INT8) {
        vec most = {0}, least = {0};
        size_t i = 0;
        for (; i < whole; i += VEC_LANES) {
            const vec x = value(source, i, VEC_LANES);
            most = vec_max(most, x);
            least = vec_min(least, x);
        }
        if (i < count) {
            const vec x = value(source, i, count - i);
            most = vec_max(most, x);
            least = vec_min(least, x);
        }
        most = vec_max(most, -least);
        const float steps = positive ? 255 : 127;
        top = row_largest(most)[0];
        inverse = top > 0 ? steps / top : 0;
        top /= steps;
    }
    size_t i = 0;
    for (; i < whole; i += VEC_LANES)
        row_put(dtype, units, i, VEC_LANES, value(source, i, VEC_LANES), inverse, positive);
    if (i < count)
        row_put(dtype, units, i, count - i, value(source, i, count - i), inverse, positive);
    memset((char *)units + count * size, 0, linear_steps(dtype, count) * sizeof *units - count * size);
    return top;
}

TILE_INLINE void rows_convert(enum linear_dtype dtype, struct linear_rows *rows, size_t inputs,
    const float *x, size_t x_stride, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        const struct row_source source = {x + r * x_stride, NULL, 0};
        const float scale =
            row_make(dtype, rows->units + r * rows->stride, &source, inputs, false, row_plain);
        if (dtype == LINEAR_INT8)
            rows->scales[r] = scale;
    }
}

TILE_INLINE void rows_norm(enum linear_dtype dtype, struct linear_rows *rows, size_t inputs, const float *x,
    const float *weight, float epsilon, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        struct row_source source = {x + r * inputs, weight, 0};
        vec squares[ROWS_CHAINS] = {{0}};
        size_t i = 0;
        for (; i + ROWS_CHAINS * VEC_LANES <= inputs; i += ROWS_CHAINS * VEC_LANES)
            TILE_UNROLL for (size_t k = 0; k < ROWS_CHAINS; k++)
            {
                const vec part = row_load(source.x + i + k * VEC_LANES, VEC_LANES);
                squares[k] = vec_muladd(part, part, squares[k]);
            }
        for (; i < inputs; i += VEC_LANES) {
            const vec part = row_load(source.x + i, inputs - i);
            squares[0] = vec_muladd(part, part, squares[0]);
        }
        squares[0] = (squares[0] + squares[1]) + (squares[2] + squares[3]);
        source.scale = 1.0f / sqrtf(row_total(squares[0])[0] / (float)inputs + epsilon);
        const float scale = row_make(dtype, rows->units + r * rows->stride, &source, inputs, false, row_norm);
        if (dtype == LINEAR_INT8)
            rows->scales[r] = scale;
    }
}

TILE_INLINE void rows_activate(enum linear_dtype dtype, struct linear_rows *rows, size_t inputs,
    const float *x, size_t x_stride, bool gated, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        uint32_t *units = rows->units + r * rows->stride;
        const struct row_source source = {x + r * x_stride, x + r * x_stride + inputs, 0};
        const float scale = gated ? row_make(dtype, units, &source, inputs, false, row_gated)
                                  : row_make(dtype, units, &source, inputs, true, row_relu);
        if (dtype == LINEAR_INT8)
            rows->scales[r] = scale;
    }
}

/* Functions for the table of kernels: name##_convert, name##_norm, name##_activate. */
#define ROWS(name, dtype)                                                                                    \
    static void name##_convert(struct linear_rows *rows, const struct linear *linear, const float *x,        \
        size_t x_stride, size_t count)                                                                       \
    {                                                                                                        \
        rows_convert(dtype, rows, linear->inputs, x, x_stride, count);                                       \
    }                                                                                                        \
    static void name##_norm(struct linear_rows *rows, const struct linear *linear, const float *x,           \
        const float *weight, float epsilon, size_t count)                                                    \
    {                                                                                                        \
        rows_norm(dtype, rows, linear->inputs, x, weight, epsilon, count);                                   \
    }                                                                                                        \
    static void name##_activate(struct linear_rows *rows, const struct linear *linear, const float *x,       \
        size_t x_stride, bool gated, size_t count)                                                           \
    {                                                                                                        \
        rows_activate(dtype, rows, linear->inputs, x, x_stride, gated, count);                               \
    }

#endif

/* The kernels' plain twin: the same packed numbers, the formulas as they stand, one number at a time in float64. */
#include "core/half.h"
#include "core/linear_int.h"

#include <math.h>
#include <string.h>

static bool always(void)
{
    return true;
}

/* Number k of a row or lane whose units lie `apart`. */
static double number(enum linear_dtype dtype, const uint32_t *units, size_t apart, size_t k, bool is_signed)
{
    const uint32_t unit = units[k / linear_per_unit(dtype) * apart];
    float value;
    switch (dtype) {
    case LINEAR_INT8:
        return is_signed ? (double)(int8_t)(unit >> 8 * (k % 4)) : (double)(uint8_t)(unit >> 8 * (k % 4));
    case LINEAR_BF16:
        return (double)bf16_to_f32((uint16_t)(unit >> 16 * (k % 2)));
    default:
        memcpy(&value, &unit, sizeof value);
        return (double)value;
    }
}

static void put(const struct linear_out *out, size_t row, size_t column, double sum)
{
    const size_t at = row * out->stride + column;
    float x = (float)sum;
    if (out->store == LINEAR_RELU)
        x = x > 0 ? x : 0;
    if (out->bf16)
        ((uint16_t *)out->data)[at] = f32_to_bf16(x);
    else if (out->store == LINEAR_ADD)
        ((float *)out->data)[at] += x;
    else
        ((float *)out->data)[at] = x;
}

static void apply(
    const struct linear_out *out, const struct linear *linear, const struct linear_rows *rows, size_t count)
{
    const enum linear_dtype dtype = linear->dtype;
    for (size_t r = 0; r < count; r++) {
        const uint32_t *row = rows->units + r * rows->stride;
        for (size_t o = 0; o < linear->outputs; o++) {
            const uint32_t *lane =
                linear->units + o / LINEAR_LANES * LINEAR_LANES * linear->steps + o % LINEAR_LANES;
            const double bias = dtype == LINEAR_INT8 && !rows->positive ? LINEAR_BIAS : 0;
            double sum = 0;
            for (size_t k = 0; k < linear->inputs; k++)
                sum += number(dtype, lane, LINEAR_LANES, k, true) * (number(dtype, row, 1, k, false) - bias);
            if (dtype == LINEAR_INT8)
                sum *= (double)linear->scales[o] * (double)rows->scales[r];
            put(out, r, o, sum);
        }
    }
}

/* Number k of a row in the making. */
struct source {
    const float *x, *weight; /* weight: of a norm, or what a gate multiplies */
    double scale;            /* of a norm, else 1 */
    enum { PLAIN, NORM, RELU, GATED } how;
};

static double value(const struct source *source, size_t k)
{
    const double x = (double)source->x[k];
    switch (source->how) {
    case NORM:
        return (double)source->weight[k] * (x * source->scale);
    case RELU:
        return x > 0 ? x : 0;
    case GATED:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) * (double)source->weight[k];
    default:
        return x;
    }
}

static void make(
    struct linear_rows *rows, size_t row, const struct linear *linear, const struct source *source)
{
    uint32_t *units = rows->units + row * rows->stride;
    double top = 0;
    for (size_t k = 0; k < linear->inputs; k++)
        top = fmax(top, fabs(value(source, k)));
    const double steps = rows->positive ? 255 : 127, inverse = top > 0 ? steps / top : 0;
    memset(units, 0, linear->steps * sizeof *units);
    for (size_t k = 0; k < linear->inputs; k++) {
        const double x = value(source, k);
        const float single = (float)x;
        if (linear->dtype == LINEAR_F32)
            memcpy(&units[k], &single, sizeof single);
        else if (linear->dtype == LINEAR_BF16)
            units[k / 2] |= (uint32_t)f32_to_bf16(single) << 16 * (k % 2);
        else
            units[k / 4] |= (uint32_t)(uint8_t)(lrint(x * inverse) + (rows->positive ? 0 : LINEAR_BIAS))
                            << 8 * (k % 4);
    }
    if (linear->dtype == LINEAR_INT8)
        rows->scales[row] = (float)(top / steps);
}

static void convert(
    struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride, size_t count)
{
    for (size_t r = 0; r < count; r++)
        make(rows, r, linear, &(struct source){x + r * x_stride, NULL, 1, PLAIN});
}

static void norm(struct linear_rows *rows, const struct linear *linear, const float *x, const float *weight,
    float epsilon, size_t count)
{
    const size_t d = linear->inputs;
    for (size_t r = 0; r < count; r++) {
        double squares = 0;
        for (size_t k = 0; k < d; k++)
            squares += (double)x[r * d + k] * (double)x[r * d + k];
        const double scale = 1 / sqrt(squares / (double)d + (double)epsilon);
        make(rows, r, linear, &(struct source){x + r * d, weight, scale, NORM});
    }
}

static void activate(struct linear_rows *rows, const struct linear *linear, const float *x, size_t x_stride,
    bool gated, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        const float *row = x + r * x_stride;
        make(rows, r, linear, &(struct source){row, row + linear->inputs, 1, gated ? GATED : RELU});
    }
}

/* ---- attention ---- */

static double element(const void *matrix, size_t stride, size_t row, size_t column, bool bf16)
{
    const size_t at = row * stride + column;
    return (double)(bf16 ? bf16_to_f32(((const uint16_t *)matrix)[at]) : ((const float *)matrix)[at]);
}

static double score(const struct attention *a, size_t query, size_t key, bool bf16)
{
    double sum = (double)(a->bias + key)[-(ptrdiff_t)query];
    for (size_t i = 0; i < a->d_kv; i++)
        sum += element(a->q, a->stride, query, i, bf16) * element(a->k, a->stride, key, i, bf16);
    return sum;
}

/* The scores are computed three times rather than kept. */
static void attend(const struct attention *a, bool bf16)
{
    for (size_t q = 0; q < a->length; q++) {
        double top = -INFINITY, total = 0;
        for (size_t k = 0; k < a->length; k++)
            top = fmax(top, score(a, q, k, bf16));
        for (size_t k = 0; k < a->length; k++)
            total += exp(score(a, q, k, bf16) - top);
        for (size_t i = 0; i < a->d_kv; i++)
            a->context[q * a->context_stride + i] = 0;
        for (size_t k = 0; k < a->length; k++) {
            const double weight = exp(score(a, q, k, bf16) - top) / total;
            for (size_t i = 0; i < a->d_kv; i++)
                a->context[q * a->context_stride + i] +=
                    (float)(weight * element(a->v, a->stride, k, i, bf16));
        }
    }
}

static void attend_f32(const struct attention *attention, void *scratch)
{
    (void)scratch;
    attend(attention, false);
}

static void attend_bf16(const struct attention *attention, void *scratch)
{
    (void)scratch;
    attend(attention, true);
}

const struct linear_kernel linear_plain = {"plain", always, {apply, apply, apply},
    {convert, convert, convert}, {norm, norm, norm}, {activate, activate, activate},
    {attend_f32, attend_bf16}};

/* The kernels' plain twin: the same packed numbers, the formula as it stands, one number at a time in float64. */
#include "core/half.h"
#include "core/scorer_int.h"

#include <math.h>
#include <string.h>

static bool always(void)
{
    return true;
}

static double f32_of(uint32_t unit)
{
    float value;
    memcpy(&value, &unit, sizeof value);
    return (double)value;
}

/* The product of a user's unit and a content's. */
static double unit_product(enum scorer_dtype dtype, uint32_t a, uint32_t b)
{
    if (dtype == SCORER_F32)
        return f32_of(a) * f32_of(b);
    double sum = 0;
    for (unsigned i = 0; i < scorer_per_unit(dtype); i++) {
        if (dtype == SCORER_BF16)
            sum +=
                (double)bf16_to_f32((uint16_t)(a >> 16 * i)) * (double)bf16_to_f32((uint16_t)(b >> 16 * i));
        else
            sum += (double)(int8_t)(a >> 8 * i) * (double)((int)(uint8_t)(b >> 8 * i) - SCORER_BIAS);
    }
    return sum;
}

static double product(
    enum scorer_dtype dtype, const uint32_t *lane, const uint32_t *row, size_t stride, size_t steps)
{
    double sum = 0;
    for (size_t k = 0; k < steps; k++)
        sum += unit_product(dtype, lane[k * SCORER_LANES], row[k * stride]);
    return sum;
}

/* Row i of the user beside row r of the content. */
static double pair_product(
    const struct scorer *scorer, const void *user, const void *content, size_t i, size_t r)
{
    size_t stride;
    const uint32_t *lane = (const uint32_t *)user + scorer_lane(scorer->steps, i);
    const uint32_t *row = (const uint32_t *)content + scorer_row(scorer, r, &stride);
    const double sum = product(scorer->dtype, lane, row, stride, scorer->steps);
    if (scorer->dtype != SCORER_INT8)
        return sum;
    const float scale = scorer_user_lanes(scorer, user)[i / SCORER_LANES].scale[i % SCORER_LANES];
    return sum * (double)scale * (double)scorer_row_scales(scorer, content)[r];
}

static float score(const struct scorer *scorer, const void *user, const void *content)
{
    double top = -INFINITY, low = INFINITY, high = -INFINITY, sum = 0, weighted = 0;
    for (size_t i = 0; i < scorer->m; i++)
        for (size_t j = 0; j < scorer->n; j++)
            top = fmax(top, pair_product(scorer, user, content, i, 2 * j + 1));
    for (size_t i = 0; i < scorer->m; i++) {
        for (size_t j = 0; j < scorer->n; j++) {
            const double similarity = pair_product(scorer, user, content, i, 2 * j);
            const double weight = exp(pair_product(scorer, user, content, i, 2 * j + 1) - top);
            sum += weight;
            weighted += weight * similarity;
            low = fmin(low, similarity);
            high = fmax(high, similarity);
        }
    }
    return (float)fmax(low, fmin(high, weighted / sum));
}

static void run(const struct scorer *scorer, float *scores, const void *user, const void *const *contents,
    size_t count, size_t ahead, size_t left)
{
    (void)ahead, (void)left;
    for (size_t c = 0; c < count; c++)
        scores[c] = score(scorer, user, contents[c]);
}

static void gate_f32(const struct scorer *scorer, float *gate, const void *proj, const float *b, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < scorer->d; i++) {
            const float *lane = (const float *)proj + scorer_lane(scorer->gate_steps, i);
            double sum = 0;
            for (size_t k = 0; k < scorer->d; k++)
                sum += (double)b[r * scorer->d + k] * (double)lane[k * SCORER_LANES];
            gate[r * scorer->d + i] = (float)(0.5 * sum * (1 + erf(sum * M_SQRT1_2)));
        }
    }
}

const struct scorer_kernel scorer_plain = {
    "plain", always, {run, run, run}, {gate_f32, NULL}, NULL, {NULL}, NULL};

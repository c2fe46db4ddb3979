/* The kernels' plain twin: the formula as it stands, in float64. The largest score is looked for first, and scores are
 * computed again for the sums, so that no room is needed for them. */
#include "core/cross_int.h"
#include "core/half.h"

#include <math.h>

static bool always(void)
{
    return true;
}

static double state(const struct cross_source *source, size_t at)
{
    if (source->dtype == CROSS_BF16)
        return (double)bf16_to_f32(((const uint16_t *)source->states)[at]);
    return (double)((const float *)source->states)[at];
}

static double score(const struct cross_source *source, const float *query, size_t token, size_t d)
{
    double sum = 0;
    for (size_t j = 0; j < d; j++)
        sum += (double)query[j] * state(source, token * d + j);
    return sum;
}

static void run(float *context, const float *query, const struct cross_source *source, size_t heads, size_t d,
    float *scratch)
{
    double *sums = (double *)scratch; /* d of them: less than the room for 8 queries */
    for (size_t h = 0; h < heads; h++, query += d, context += d) {
        double top = -INFINITY, total = 0;
        for (size_t t = 0; t < source->len; t++)
            top = fmax(top, score(source, query, t, d));
        for (size_t j = 0; j < d; j++)
            sums[j] = 0;
        for (size_t t = 0; t < source->len; t++) {
            const double weight = exp(score(source, query, t, d) - top);
            total += weight;
            for (size_t j = 0; j < d; j++)
                sums[j] += weight * state(source, t * d + j);
        }
        for (size_t j = 0; j < d; j++)
            context[j] = (float)(sums[j] / total);
    }
}

const struct cross_kernel cross_plain = {"plain", always, {run, run}};

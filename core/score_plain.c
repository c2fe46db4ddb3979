/* The definition alone, in a file of its own: who explains a score, as the daemon does, needs no BLAS for it. */
#include "core/score.h"

#include <math.h>

static double dot(const float *x, const float *y, size_t d)
{
    double sum = 0;
    for (size_t i = 0; i < d; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

double score_plain(double *weights, double *similarities, const float *a, const float *b, const float *gate,
    size_t m, size_t n, size_t d)
{
    double top = -INFINITY;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            top = fmax(top, dot(a + i * d, gate + j * d, d));
    double sum = 0, weighted = 0;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            const double weight = exp(dot(a + i * d, gate + j * d, d) - top);
            const double similarity = dot(a + i * d, b + j * d, d);
            sum += weight;
            weighted += weight * similarity;
            if (weights)
                weights[i * n + j] = weight;
            if (similarities)
                similarities[i * n + j] = similarity;
        }
    }
    for (size_t i = 0; weights && i < m * n; i++)
        weights[i] /= sum;
    return weighted / sum;
}

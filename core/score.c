#include "core/score.h"

#include "core/gemm.h"

#include <math.h>

/* Candidates whose blocks are widened and multiplied at a time: 32 x 2n x d doubles stay in the L2 cache. */
enum { CHUNK = 32 };

static void widen(double *dst, const float *src, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dst[i] = (double)src[i];
}

size_t score_gate_scratch(size_t rows, size_t d)
{
    return d * d + 2 * rows * d;
}

void score_gate(float *gate, const float *b, const float *score_proj, size_t rows, size_t d, double *scratch)
{
    double *wide_proj = scratch, *wide_b = wide_proj + d * d, *product = wide_b + rows * d;
    widen(wide_proj, score_proj, d * d);
    widen(wide_b, b, rows * d);
    gemm_f64(GEMM_NN, product, wide_b, wide_proj, rows, d, d, 0); /* (R,d) (d,d) -> (R,d) */
    for (size_t i = 0; i < rows * d; i++)
        gate[i] = (float)(0.5 * product[i] * (1.0 + erf(product[i] * M_SQRT1_2)));
}

/* One candidate's 2n x m products: the first n rows are similarities K, the others logits. The largest
 * logit is taken off before exp, as softmax allows, so that nothing overflows. */
static float attend(const double *products, size_t count)
{
    const double *similarity = products, *logit = products + count;
    double top = logit[0];
    for (size_t i = 1; i < count; i++)
        top = logit[i] > top ? logit[i] : top;
    double low = similarity[0], high = similarity[0], sum = 0, weighted = 0;
    for (size_t i = 0; i < count; i++) {
        const double weight = exp(logit[i] - top);
        sum += weight;
        weighted += weight * similarity[i];
        low = similarity[i] < low ? similarity[i] : low;
        high = similarity[i] > high ? similarity[i] : high;
    }
    /* A mean lies between its extremes; rounding must not say otherwise. */
    const double score = weighted / sum;
    return (float)(score < low ? low : score > high ? high : score);
}

size_t score_scratch(size_t m, size_t n, size_t d)
{
    return m * d + (size_t)CHUNK * 2 * n * (d + m);
}

void score_candidates(float *scores, const float *a, const float *blocks, size_t m, size_t n, size_t d,
    size_t candidates, double *scratch)
{
    double *wide_a = scratch, *wide_blocks = wide_a + m * d, *products = wide_blocks + CHUNK * 2 * n * d;
    widen(wide_a, a, m * d);
    for (size_t c = 0; c < candidates; c += CHUNK) {
        const size_t count = candidates - c < CHUNK ? candidates - c : CHUNK, rows = count * 2 * n;
        widen(wide_blocks, blocks + c * 2 * n * d, rows * d);
        gemm_f64(GEMM_NT, products, wide_blocks, wide_a, rows, m, d, 0); /* (C 2n,d) (m,d)^T -> (C 2n,m) */
        for (size_t i = 0; i < count; i++)
            scores[c + i] = attend(products + i * 2 * n * m, n * m);
    }
}

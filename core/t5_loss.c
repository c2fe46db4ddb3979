/* Cross-entropy over the output embedding. The logits of all positions would be T x vocabulary floats (32,128 for T5);
 * a few rows at a time are enough, each with its whole vocabulary, so that the softmax needs no second look. */
#include "core/gemm.h"
#include "core/t5_int.h"

#include <math.h>
#include <string.h>

enum { ROWS = 64 };

/* Row becomes scale x (softmax(row) - onehot(target)); returns -log softmax(row)[target]. Without a target both are 0. */
static double entropy_row(float *row, size_t vocab, int32_t target, double scale)
{
    if (target < 0) {
        memset(row, 0, vocab * sizeof *row);
        return 0;
    }
    const size_t best = vec_argmax(row, vocab);
    const double behind = (double)row[best] - (double)row[target];
    vec_softmax(row, NULL, vocab);
    const double entropy =
        behind - log((double)row[best]); /* the largest is 1 / the sum of all e^(x - top) */
    row[target] -= 1.0f;
    for (size_t i = 0; i < vocab; i++)
        row[i] *= (float)scale;
    return entropy;
}

int t5_cross_entropy(double *loss, float *grads, float *dhidden, const float *hidden, const int32_t *targets,
    size_t rows, double scale, const struct model *model, struct t5_scratch *scratch, struct err *err)
{
    const struct model_config *c = &model->config;
    const size_t d = c->d_model, vocab = c->vocab_size;
    const float factor = c->tied ? (float)(1.0 / sqrt((double)d)) : 1.0f;
    int result = t5_reserve(&scratch->logits, ROWS * vocab, err);
    if (result == 0)
        result = t5_reserve(&scratch->norm, 2 * ROWS * d, err);
    if (result < 0)
        return result;
    float *logits = scratch->logits.data, *scaled = scratch->norm.data, *dscaled = scaled + ROWS * d;
    for (size_t at = 0; at < rows; at += ROWS) {
        const size_t some = rows - at < ROWS ? rows - at : ROWS;
        for (size_t i = 0; i < some * d; i++)
            scaled[i] = hidden[at * d + i] * factor;
        gemm(GEMM_NT, logits, scaled, model->lm_head, some, vocab, d, 0); /* (R,d) (V,d)^T -> (R,V) */
        for (size_t r = 0; r < some; r++)
            *loss += scale * entropy_row(logits + r * vocab, vocab, targets[at + r], scale);
        gemm(GEMM_TN, t5_grad(grads, model, model->lm_head), logits, scaled, vocab, d, some,
            1);                                                            /* (R,V)^T (R,d) */
        gemm(GEMM_NN, dscaled, logits, model->lm_head, some, d, vocab, 0); /* (R,V) (V,d) */
        for (size_t i = 0; i < some * d; i++)
            dhidden[at * d + i] += dscaled[i] * factor;
    }
    return 0;
}

#include "core/score_train.h"

#include "core/gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct score_tape {
    size_t m, n, d, candidates;
    double *memory;
    size_t size;
    double *a, *b, *proj;         /* m x d, R x d, d x d; R = candidates n */
    double *u, *gate;             /* R x d: B W_s, and its gelu */
    double *similarity, *weight;  /* R x m, row r of candidate r / n */
    double *score;                /* candidates */
    double *dsimilarity, *dlogit; /* R x m */
    double *da, *db, *dgate, *dproj;
};

int score_tape_new(struct score_tape **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? 0 : err_set(err, ERR_NOMEM, "out of memory");
}

void score_tape_free(struct score_tape *tape)
{
    if (!tape)
        return;
    free(tape->memory);
    free(tape);
}

static int lay_out(struct score_tape *t, size_t m, size_t n, size_t d, size_t candidates, struct err *err)
{
    const size_t rows = candidates * n;
    const struct {
        double **at;
        size_t count;
    } parts[] = {{&t->a, m * d}, {&t->b, rows * d}, {&t->proj, d * d}, {&t->u, rows * d},
        {&t->gate, rows * d}, {&t->similarity, rows * m}, {&t->weight, rows * m}, {&t->score, candidates},
        {&t->dsimilarity, rows * m}, {&t->dlogit, rows * m}, {&t->da, m * d}, {&t->db, rows * d},
        {&t->dgate, rows * d}, {&t->dproj, d * d}};
    size_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        total += parts[i].count;
    if (total > t->size) {
        free(t->memory);
        t->memory = malloc(total * sizeof *t->memory);
        t->size = t->memory ? total : 0;
        if (!t->memory)
            return err_set(err, ERR_NOMEM, "out of memory for a score");
    }
    double *at = t->memory;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].at = at;
        at += parts[i].count;
    }
    t->m = m;
    t->n = n;
    t->d = d;
    t->candidates = candidates;
    return 0;
}

static void widen(double *dst, const float *src, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dst[i] = (double)src[i];
}

static void add(float *dst, const double *src, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dst[i] += (float)src[i];
}

int score_forward(double *scores, struct score_tape *t, const float *a, const float *b,
    const float *score_proj, size_t m, size_t n, size_t d, size_t candidates, struct err *err)
{
    const int result = lay_out(t, m, n, d, candidates, err);
    if (result < 0)
        return result;
    const size_t rows = candidates * n, mn = m * n;
    widen(t->a, a, m * d);
    widen(t->b, b, rows * d);
    widen(t->proj, score_proj, d * d);
    gemm_f64(GEMM_NN, t->u, t->b, t->proj, rows, d, d, 0);
    for (size_t i = 0; i < rows * d; i++)
        t->gate[i] = 0.5 * t->u[i] * (1 + erf(t->u[i] * M_SQRT1_2));
    gemm_f64(GEMM_NT, t->similarity, t->b, t->a, rows, m, d, 0); /* (R,d) (m,d)^T -> (R,m) */
    gemm_f64(GEMM_NT, t->weight, t->gate, t->a, rows, m, d, 0);
    for (size_t c = 0; c < candidates; c++) {
        double *weight = t->weight + c * mn, top = weight[0], sum = 0, score = 0;
        for (size_t i = 1; i < mn; i++)
            top = fmax(top, weight[i]);
        for (size_t i = 0; i < mn; i++)
            sum += weight[i] = exp(weight[i] - top);
        for (size_t i = 0; i < mn; i++) {
            weight[i] /= sum;
            score += weight[i] * t->similarity[c * mn + i];
        }
        scores[c] = t->score[c] = score;
    }
    return 0;
}

void score_backward(float *da, float *db, float *dproj, const double *dscores, struct score_tape *t)
{
    const size_t m = t->m, d = t->d, rows = t->candidates * t->n, mn = m * t->n;
    for (size_t c = 0; c < t->candidates; c++) {
        for (size_t i = c * mn; i < (c + 1) * mn; i++) {
            t->dsimilarity[i] = dscores[c] * t->weight[i];
            t->dlogit[i] = t->dsimilarity[i] * (t->similarity[i] - t->score[c]); /* through the softmax */
        }
    }
    gemm_f64(GEMM_TN, t->da, t->dsimilarity, t->b, m, d, rows, 0); /* (R,m)^T (R,d) -> (m,d) */
    gemm_f64(GEMM_TN, t->da, t->dlogit, t->gate, m, d, rows, 1);
    gemm_f64(GEMM_NN, t->db, t->dsimilarity, t->a, rows, d, m, 0); /* (R,m) (m,d) -> (R,d) */
    gemm_f64(GEMM_NN, t->dgate, t->dlogit, t->a, rows, d, m, 0);
    for (size_t i = 0; i < rows * d; i++) { /* gelu' = Phi(u) + u phi(u) */
        const double u = t->u[i];
        t->dgate[i] *= 0.5 * (1 + erf(u * M_SQRT1_2)) + u * exp(-0.5 * u * u) * 0.39894228040143267794;
    }
    gemm_f64(GEMM_TN, t->dproj, t->b, t->dgate, d, d, rows, 0); /* (R,d)^T (R,d) -> (d,d) */
    gemm_f64(GEMM_NT, t->db, t->dgate, t->proj, rows, d, d, 1); /* (R,d) (d,d)^T -> (R,d) */
    add(da, t->da, m * d);
    add(db, t->db, rows * d);
    add(dproj, t->dproj, d * d);
}

double score_nce(double *dscores, const double *scores, size_t candidates)
{
    double top = scores[0], sum = 0;
    for (size_t c = 1; c < candidates; c++)
        top = fmax(top, scores[c]);
    for (size_t c = 0; c < candidates; c++)
        sum += dscores[c] = exp(scores[c] - top);
    for (size_t c = 0; c < candidates; c++)
        dscores[c] = dscores[c] / sum - (c == 0);
    return log(sum) + top - scores[0];
}

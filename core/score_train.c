#include "core/score_train.h"

#include "core/array.h"
#include "core/gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* R = contents n rows, C = candidates n rows. */
struct score_tape {
    size_t n, d, contents;
    double *memory;
    size_t size;
    double *proj, *dproj; /* d x d */
    double *b, *u, *gate; /* R x d: B, B W_s, and its gelu */
    double *db, *dgate;   /* R x d */

    size_t m, candidates;
    uint32_t *which;
    double *user_memory;
    size_t which_size, user_size;
    double *a, *da;                                /* m x d */
    double *own_b, *own_gate, *own_db, *own_dgate; /* C x d: the candidates' rows */
    double *similarity, *weight;                   /* C x m, row r of candidate r / n */
    double *dsimilarity, *dlogit;                  /* C x m */
    double *score;                                 /* candidates */
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
    free(tape->user_memory);
    free(tape->which);
    free(tape);
}

struct part {
    double **at;
    size_t count;
};

/* One block for all parts, kept at its largest size. */
static int lay_out(double **memory, size_t *size, const struct part *parts, size_t count, struct err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i].count;
    if (total > *size) {
        free(*memory);
        *memory = malloc(total * sizeof **memory);
        *size = *memory ? total : 0;
        if (!*memory)
            return err_set(err, ERR_NOMEM, "out of memory for a score");
    }
    double *at = *memory;
    for (size_t i = 0; i < count; i++) {
        *parts[i].at = at;
        at += parts[i].count;
    }
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

int score_contents(struct score_tape *t, const float *b, const float *score_proj, size_t n, size_t d,
    size_t contents, struct err *err)
{
    const size_t floats = contents * n * d;
    const struct part parts[] = {{&t->proj, d * d}, {&t->dproj, d * d}, {&t->b, floats}, {&t->u, floats},
        {&t->gate, floats}, {&t->db, floats}, {&t->dgate, floats}};
    const int result = lay_out(&t->memory, &t->size, parts, sizeof parts / sizeof *parts, err);
    if (result < 0)
        return result;
    t->n = n;
    t->d = d;
    t->contents = contents;
    widen(t->proj, score_proj, d * d);
    widen(t->b, b, floats);
    gemm_f64(GEMM_NN, t->u, t->b, t->proj, contents * n, d, d, 0); /* (R,d) (d,d) */
    for (size_t i = 0; i < floats; i++)
        t->gate[i] = 0.5 * t->u[i] * (1 + erf(t->u[i] * M_SQRT1_2));
    memset(t->db, 0, floats * sizeof *t->db);
    memset(t->dgate, 0, floats * sizeof *t->dgate);
    return 0;
}

static int begin(struct score_tape *t, size_t m, const uint32_t *which, size_t candidates, struct err *err)
{
    const size_t own = candidates * t->n * t->d, pairs = candidates * t->n * m;
    const struct part parts[] = {{&t->a, m * t->d}, {&t->da, m * t->d}, {&t->own_b, own}, {&t->own_gate, own},
        {&t->own_db, own}, {&t->own_dgate, own}, {&t->similarity, pairs}, {&t->weight, pairs},
        {&t->dsimilarity, pairs}, {&t->dlogit, pairs}, {&t->score, candidates}};
    int result = lay_out(&t->user_memory, &t->user_size, parts, sizeof parts / sizeof *parts, err);
    if (result == 0)
        result = array_grow(&t->which, &t->which_size, candidates, sizeof *t->which, err);
    if (result < 0)
        return result;
    memcpy(t->which, which, candidates * sizeof *which);
    t->m = m;
    t->candidates = candidates;
    return 0;
}

int score_forward(double *scores, struct score_tape *t, const float *a, size_t m, const uint32_t *which,
    size_t candidates, struct err *err)
{
    const int result = begin(t, m, which, candidates, err);
    if (result < 0)
        return result;
    const size_t d = t->d, block = t->n * d, rows = candidates * t->n, mn = m * t->n;
    widen(t->a, a, m * d);
    for (size_t c = 0; c < candidates; c++) {
        memcpy(t->own_b + c * block, t->b + which[c] * block, block * sizeof *t->b);
        memcpy(t->own_gate + c * block, t->gate + which[c] * block, block * sizeof *t->gate);
    }
    gemm_f64(GEMM_NT, t->similarity, t->own_b, t->a, rows, m, d, 0); /* (C,d) (m,d)^T -> (C,m) */
    gemm_f64(GEMM_NT, t->weight, t->own_gate, t->a, rows, m, d, 0);
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

void score_backward(float *da, const double *dscores, struct score_tape *t)
{
    const size_t m = t->m, d = t->d, block = t->n * d, rows = t->candidates * t->n, mn = m * t->n;
    for (size_t c = 0; c < t->candidates; c++) {
        for (size_t i = c * mn; i < (c + 1) * mn; i++) {
            t->dsimilarity[i] = dscores[c] * t->weight[i];
            t->dlogit[i] = t->dsimilarity[i] * (t->similarity[i] - t->score[c]); /* through the softmax */
        }
    }
    gemm_f64(GEMM_TN, t->da, t->dsimilarity, t->own_b, m, d, rows, 0); /* (C,m)^T (C,d) -> (m,d) */
    gemm_f64(GEMM_TN, t->da, t->dlogit, t->own_gate, m, d, rows, 1);
    gemm_f64(GEMM_NN, t->own_db, t->dsimilarity, t->a, rows, d, m, 0); /* (C,m) (m,d) -> (C,d) */
    gemm_f64(GEMM_NN, t->own_dgate, t->dlogit, t->a, rows, d, m, 0);
    add(da, t->da, m * d);
    for (size_t c = 0; c < t->candidates; c++) {
        double *db = t->db + t->which[c] * block, *dgate = t->dgate + t->which[c] * block;
        for (size_t i = 0; i < block; i++) {
            db[i] += t->own_db[c * block + i];
            dgate[i] += t->own_dgate[c * block + i];
        }
    }
}

void score_contents_backward(float *db, float *dproj, struct score_tape *t)
{
    const size_t d = t->d, rows = t->contents * t->n;
    for (size_t i = 0; i < rows * d; i++) { /* gelu' = Phi(u) + u phi(u) */
        const double u = t->u[i];
        t->dgate[i] *= 0.5 * (1 + erf(u * M_SQRT1_2)) + u * exp(-0.5 * u * u) * 0.39894228040143267794;
    }
    gemm_f64(GEMM_TN, t->dproj, t->b, t->dgate, d, d, rows, 0); /* (R,d)^T (R,d) -> (d,d) */
    gemm_f64(GEMM_NT, t->db, t->dgate, t->proj, rows, d, d, 1); /* (R,d) (d,d)^T -> (R,d) */
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

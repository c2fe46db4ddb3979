/* The score against its definition, and the invariants of DESIGN 2 on 10,000 random cases. */
#include "core/gemm.h"
#include "core/rng.h"
#include "core/score.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Several candidates of random sizes and scales. */
struct pair {
    size_t m, n, d, candidates;
    float *a, *blocks, *proj;
    double *scratch;
};

static struct pair make(struct rng *rng, size_t m, size_t n, size_t d, size_t candidates, double scale)
{
    struct pair p = {m, n, d, candidates, NULL, NULL, NULL, NULL};
    const size_t gate = score_gate_scratch(n, d), score = score_scratch(m, n, d);
    p.a = malloc(m * d * sizeof(float));
    p.blocks = malloc(candidates * 2 * n * d * sizeof(float));
    p.proj = malloc(d * d * sizeof(float));
    p.scratch = malloc((gate > score ? gate : score) * sizeof(double));
    for (size_t i = 0; i < m * d; i++)
        p.a[i] = (float)(scale * rng_normal(rng));
    for (size_t i = 0; i < d * d; i++)
        p.proj[i] = (float)(rng_normal(rng) / sqrt((double)d));
    for (size_t c = 0; c < candidates; c++) {
        float *b = p.blocks + c * 2 * n * d;
        for (size_t i = 0; i < n * d; i++)
            b[i] = (float)(scale * rng_normal(rng));
        score_gate(b + n * d, b, p.proj, n, d, p.scratch);
    }
    return p;
}

static void done(struct pair *p)
{
    free(p->a);
    free(p->blocks);
    free(p->proj);
    free(p->scratch);
}

static void assert_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
        fail_msg("%.9g instead of %.9g", got, want);
}

static double plain(const struct pair *p, size_t c, double *weights, double *similarities)
{
    const float *b = p->blocks + c * 2 * p->n * p->d;
    return score_plain(weights, similarities, p->a, b, b + p->n * p->d, p->m, p->n, p->d);
}

static size_t size(struct rng *rng, size_t most)
{
    return 1 + rng_next(rng) % most;
}

static void swap_rows(float *x, size_t i, size_t j, size_t d)
{
    for (size_t k = 0; k < d; k++) {
        const float t = x[i * d + k];
        x[i * d + k] = x[j * d + k];
        x[j * d + k] = t;
    }
}

static void test_invariants(void **state)
{
    (void)state;
    struct rng rng = rng_seed(11, 0);
    for (size_t i = 0; i < test_rounds(10000); i++) {
        struct pair p = make(&rng, size(&rng, 9), size(&rng, 5), size(&rng, 40), size(&rng, 3),
            pow(10, rng_uniform(&rng) * 3 - 2));
        const size_t c = rng_next(&rng) % p.candidates, mn = p.m * p.n;
        float scores[3], again[3];
        double weights[45], similarities[45], low = INFINITY, high = -INFINITY, sum = 0;
        score_candidates(scores, p.a, p.blocks, p.m, p.n, p.d, p.candidates, p.scratch);
        assert_close((double)scores[c], plain(&p, c, weights, similarities), 1e-6);
        for (size_t k = 0; k < mn; k++) {
            low = fmin(low, similarities[k]);
            high = fmax(high, similarities[k]);
            sum += weights[k];
            assert_true(weights[k] >= 0);
        }
        assert_close(sum, 1, 1e-12);
        assert_true(
            (double)scores[c] >= low - 1e-6 * fabs(low) && (double)scores[c] <= high + 1e-6 * fabs(high));

        /* Neither the order of A's rows nor of B's (with G's) matters. */
        swap_rows(p.a, rng_next(&rng) % p.m, rng_next(&rng) % p.m, p.d);
        float *b = p.blocks + c * 2 * p.n * p.d;
        const size_t j = rng_next(&rng) % p.n, k = rng_next(&rng) % p.n;
        swap_rows(b, j, k, p.d);
        swap_rows(b + p.n * p.d, j, k, p.d);
        score_candidates(again, p.a, p.blocks, p.m, p.n, p.d, p.candidates, p.scratch);
        assert_close((double)again[c], (double)scores[c], 1e-6);
        done(&p);
    }
}

static void test_one_by_one_is_a_dot_product(void **state)
{
    (void)state;
    struct rng rng = rng_seed(12, 0);
    for (size_t i = 0; i < test_rounds(1000); i++) {
        struct pair p = make(&rng, 1, 1, size(&rng, 300), 1, 1);
        float score;
        double dot = 0;
        for (size_t k = 0; k < p.d; k++)
            dot += (double)p.a[k] * (double)p.blocks[k];
        score_candidates(&score, p.a, p.blocks, 1, 1, p.d, 1, p.scratch);
        assert_close((double)score, dot, 1e-6);
        done(&p);
    }
}

static void test_no_projection_is_the_mean(void **state)
{
    (void)state;
    struct rng rng = rng_seed(13, 0);
    for (size_t i = 0; i < test_rounds(1000); i++) {
        struct pair p = make(&rng, size(&rng, 9), size(&rng, 5), size(&rng, 40), 1, 1);
        double similarities[45], mean = 0;
        float score;
        memset(p.proj, 0, p.d * p.d * sizeof *p.proj);
        score_gate(p.blocks + p.n * p.d, p.blocks, p.proj, p.n, p.d, p.scratch);
        plain(&p, 0, NULL, similarities);
        for (size_t k = 0; k < p.m * p.n; k++)
            mean += similarities[k] / (double)(p.m * p.n);
        score_candidates(&score, p.a, p.blocks, p.m, p.n, p.d, 1, p.scratch);
        assert_close((double)score, mean, 1e-6);
        done(&p);
    }
}

/* A full-size request, many chunks and a last one that is not full; G itself against the definition in float64. */
static void test_full_size(void **state)
{
    (void)state;
    enum { CANDIDATES = 333 };
    struct rng rng = rng_seed(14, 0);
    for (double scale = 0.01; scale <= 1; scale *= 10) {
        struct pair p = make(&rng, 32, 4, 512, CANDIDATES, scale);
        float scores[CANDIDATES];
        double worst = 0;
        score_candidates(scores, p.a, p.blocks, p.m, p.n, p.d, p.candidates, p.scratch);
        for (size_t c = 0; c < CANDIDATES; c++) {
            const double want = plain(&p, c, NULL, NULL);
            worst = fmax(worst, fabs((double)scores[c] - want) / fmax(1, fabs(want)));
        }
        print_message("scale %g: worst error of a score %.1e of max(1, |s|)\n", scale, worst);
        assert_true(worst < 1e-6);
        const float *b = p.blocks, *gate = b + p.n * p.d;
        for (size_t j = 0; j < p.d; j++) {
            double x = 0;
            for (size_t k = 0; k < p.d; k++)
                x += (double)b[k] * (double)p.proj[k * p.d + j];
            assert_close((double)gate[j], 0.5 * x * (1 + erf(x / sqrt(2))), 1e-6);
        }
        done(&p);
    }
}

/* Logits far beyond the range of exp. */
static void test_extreme_logits(void **state)
{
    (void)state;
    struct rng rng = rng_seed(15, 0);
    struct pair p = make(&rng, 4, 3, 64, 1, 300);
    float score;
    score_candidates(&score, p.a, p.blocks, p.m, p.n, p.d, 1, p.scratch);
    assert_true(isfinite(score));
    assert_close((double)score, plain(&p, 0, NULL, NULL), 1e-6);
    done(&p);
}

static int init(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_invariants),
        cmocka_unit_test(test_one_by_one_is_a_dot_product), cmocka_unit_test(test_no_projection_is_the_mean),
        cmocka_unit_test(test_full_size), cmocka_unit_test(test_extreme_logits)};
    return cmocka_run_group_tests_name("score", tests, init, NULL);
}

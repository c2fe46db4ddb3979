/* The scoring kernels: every one that runs here beside the plain one on the same packed numbers, and both beside the
 * definition in float64. */
#include "core/gemm.h"
#include "core/rng.h"
#include "core/score.h"
#include "core/scorer.h"
#include "tests/lib/scratch.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double UNIT = 0x1p-24; /* half an ulp of float32 */

static void *aligned(size_t bytes)
{
    void *memory;
    assert_int_equal(posix_memalign(&memory, 64, (bytes + 63) / 64 * 64), 0);
    memset(memory, 0xFF, bytes); /* NaN in every float: what is not written must not be read */
    return memory;
}

static struct scorer *scorer_make(enum scorer_dtype dtype, const char *kernel, size_t m, size_t n, size_t d)
{
    struct err err = ERR_INIT;
    struct scorer *scorer = NULL;
    if (scorer_new(&scorer, dtype, kernel, m, n, d, &err) < 0)
        fail_msg("%s", err.message);
    return scorer;
}

/* One user and one content, packed, and the numbers that are scored. */
struct pair {
    size_t m, n, d;
    struct scorer *plain;
    void *user, *content;
    float *a, *b, *gate;
};

static struct pair pair_make(
    enum scorer_dtype dtype, const float *a, const float *b, const float *gate, size_t m, size_t n, size_t d)
{
    struct pair p = {m, n, d, scorer_make(dtype, "plain", m, n, d), NULL, NULL, NULL, NULL, NULL};
    p.user = aligned(scorer_user_bytes(p.plain));
    p.content = aligned(scorer_content_bytes(p.plain));
    scorer_pack_user(p.plain, p.user, a);
    scorer_pack_content(p.plain, p.content, b, gate);
    p.a = malloc(m * d * sizeof *p.a);
    p.b = malloc(n * d * sizeof *p.b);
    p.gate = malloc(n * d * sizeof *p.gate);
    scorer_unpack_user(p.plain, p.a, p.user);
    scorer_unpack_content(p.plain, p.b, p.gate, p.content);
    return p;
}

static void pair_done(struct pair *p)
{
    scorer_free(p->plain);
    free(p->user);
    free(p->content);
    free(p->a);
    free(p->b);
    free(p->gate);
}

static float *normals(struct rng *rng, size_t count, double scale)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(scale * rng_normal(rng));
    return x;
}

static float run_one(const struct scorer *scorer, const struct pair *p)
{
    float score = NAN;
    scorer_run(scorer, &score, (const void *const *)&p->user, 1, (const void *const *)&p->content, 1);
    return score;
}

static double largest(const float *x, const float *y, size_t rows_x, size_t rows_y, size_t d)
{
    double most = 0;
    for (size_t i = 0; i < rows_x; i++) {
        for (size_t j = 0; j < rows_y; j++) {
            double sum = 0;
            for (size_t k = 0; k < d; k++)
                sum += fabs((double)x[i * d + k] * (double)y[j * d + k]);
            most = fmax(most, sum);
        }
    }
    return most;
}

/* How far a kernel may be from the definition on the same numbers. A sum of d products in float32, each step rounded
 * once (twice without FMA), is off by at most about (d + 1) u of the sum of magnitudes, and in the mean by its root; the
 * integer sums of int8 are exact and rounded three times. A logit that is off by e changes each weight by a factor
 * e^e, so that the score moves by at most 2 e of the range of K; weights are rounded, too. */
static double allowed(enum scorer_dtype dtype, const struct pair *p, double low, double high)
{
    const double terms = dtype == SCORER_INT8 ? 4 : 4 * sqrt((double)p->d) + 4;
    const double similarity = terms * UNIT * largest(p->a, p->b, p->m, p->n, p->d);
    const double logit = terms * UNIT * largest(p->a, p->gate, p->m, p->n, p->d);
    const double shift = fmin(1, 2 * logit + 16 * UNIT + sqrt((double)(p->m * p->n)) * UNIT);
    return similarity + shift * (high - low) + 2 * UNIT * fmax(fabs(low), fabs(high)) + DBL_MIN;
}

static void check_pair(enum scorer_dtype dtype, const struct pair *p)
{
    double *similarities = malloc(p->m * p->n * sizeof *similarities), low = INFINITY, high = -INFINITY;
    const double right = score_plain(NULL, similarities, p->a, p->b, p->gate, p->m, p->n, p->d);
    for (size_t i = 0; i < p->m * p->n; i++) {
        low = fmin(low, similarities[i]);
        high = fmax(high, similarities[i]);
    }
    free(similarities);
    /* unpacked int8 are rounded to float32 once more */
    const double plain = (double)run_one(p->plain, p), bound = allowed(dtype, p, low, high);
    if (!(fabs(plain - right) <= bound))
        fail_msg("plain %s m %zu n %zu d %zu: %.9g, not %.9g", scorer_dtype_name(dtype), p->m, p->n, p->d,
            plain, right);
    for (size_t i = 1; scorer_kernel_name(i); i++) {
        if (!scorer_kernel_runs(i, dtype))
            continue;
        struct scorer *scorer = scorer_make(dtype, scorer_kernel_name(i), p->m, p->n, p->d);
        const double got = (double)run_one(scorer, p);
        if (!(fabs(got - plain) <= bound))
            fail_msg("%s %s m %zu n %zu d %zu: %.9g, not %.9g +- %.2g", scorer_kernel_name(i),
                scorer_dtype_name(dtype), p->m, p->n, p->d, got, plain, bound);
        const double slack = allowed(dtype, p, 0, 0);
        assert_true(got >= low - slack && got <= high + slack);
        scorer_free(scorer);
    }
}

static size_t size(struct rng *rng, size_t most)
{
    return 1 + rng_next(rng) % most;
}

static void test_random_sizes(void **state)
{
    (void)state;
    struct rng rng = rng_seed(41, 0);
    for (int i = 0; i < 600; i++) {
        const bool small = i % 4;
        const size_t m = size(&rng, small ? 40 : 100), n = size(&rng, small ? 6 : 20),
                     d = size(&rng, small ? 70 : 1100);
        const double scale = pow(10, rng_uniform(&rng) * 3 - 2) / sqrt(sqrt((double)d));
        float *a = normals(&rng, m * d, scale), *b = normals(&rng, n * d, scale),
              *gate = normals(&rng, n * d, scale);
        for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
            struct pair p = pair_make(dtype, a, b, gate, m, n, d);
            check_pair(dtype, &p);
            pair_done(&p);
        }
        free(a);
        free(b);
        free(gate);
    }
}

static int init(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_sizes)};
    return cmocka_run_group_tests_name("scorer", tests, init, NULL);
}

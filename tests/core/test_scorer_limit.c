/* What store/blob.h promises of BLOB_LIMIT: matrices below it give finite gates and scores, in every dtype, with every kernel
 * that runs here, for as many columns as a scorer has. */
#include "core/gemm.h"
#include "core/rng.h"
#include "core/scorer.h"
#include "store/blob.h"
#include "tests/core/scorers.h"
#include "tests/lib/scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { M = 3, N = 2 };

static const float most = 0x1.fffffep29f; /* the next below BLOB_LIMIT */

static void *aligned(size_t bytes)
{
    void *memory;
    assert_int_equal(posix_memalign(&memory, 64, (bytes + 63) / 64 * 64), 0);
    return memory;
}

/* Signs at random, or all alike, so that no sum of products is larger. */
static float *fill(struct rng *rng, size_t count, float value)
{
    float *x = malloc(count * sizeof *x);
    assert_non_null(x);
    const bool alike = rng_next(rng) % 2;
    for (size_t i = 0; i < count; i++)
        x[i] = alike || rng_next(rng) % 2 ? value : -value;
    return x;
}

static void score_one(const struct scorer *scorer, const float *a, const float *b, const float *gate)
{
    void *user = aligned(scorer_user_bytes(scorer)), *content = aligned(scorer_content_bytes(scorer));
    float score = NAN;
    scorer_pack_user(scorer, user, a);
    scorer_pack_content(scorer, content, b, gate);
    scorer_run(scorer, &score, (const void *const *)&user, 1, (const void *const *)&content, 1);
    if (!isfinite(score))
        fail_msg("%s: a score of %g", scorer_kernel(scorer), (double)score);
    free(user);
    free(content);
}

typedef void with_scorer(const struct scorer *scorer, struct rng *rng, size_t d);

static void each_scorer(size_t d, with_scorer *fn)
{
    struct rng rng = rng_seed(47, d);
    for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++)
        for (size_t k = 0; scorer_kernel_name(k); k++)
            for (int times = 0; times < 8 && scorer_kernel_runs(k, dtype); times++) {
                struct scorer *scorer = scorer_make(dtype, scorer_kernel_name(k), M, N, d);
                fn(scorer, &rng, d);
                scorer_free(scorer);
            }
}

static void with_its_gates(const struct scorer *scorer, struct rng *rng, size_t d)
{
    float *a = fill(rng, M * d, most), *b = fill(rng, N * d, most), *w = fill(rng, d * d, most);
    float *gate = malloc(N * d * sizeof *gate);
    void *proj = aligned(scorer_proj_bytes(scorer));
    assert_non_null(gate);
    scorer_pack_proj(scorer, proj, w);
    scorer_gate(scorer, gate, proj, b, N);
    for (size_t i = 0; i < N * d; i++)
        assert_true(fabsf(gate[i]) <= 0x1.04p60f * (float)d); /* what bfloat16 rounds up is in it */
    score_one(scorer, a, b, gate);
    free(a);
    free(b);
    free(w);
    free(gate);
    free(proj);
}

static void test_gates(void **state)
{
    (void)state;
    each_scorer(1, with_its_gates);
    each_scorer(17, with_its_gates);
    each_scorer(512, with_its_gates);
}

static void with_the_largest_gates(const struct scorer *scorer, struct rng *rng, size_t d)
{
    float *a = fill(rng, M * d, most), *b = fill(rng, N * d, most),
          *gate = fill(rng, N * d, 0x1.04p60f * (float)d);
    score_one(scorer, a, b, gate);
    free(a);
    free(b);
    free(gate);
}

static void test_columns(void **state)
{
    (void)state;
    each_scorer(65536, with_the_largest_gates);
}

static int init(void **state)
{
    (void)state;
    return gemm_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gates), cmocka_unit_test(test_columns)};
    return cmocka_run_group_tests_name("scorer's limit", tests, init, NULL);
}

/* The best 10 of 1,000: the float32 kernel on all of them, the int8 kernel, and scorer_best(), whose answer is that of
 * the first. One core, contents scattered over a pool that no cache holds.
 *
 *     build/tests/bench/best [rounds]
 *
 * Rounds interleave the three, each on a candidate list of its own; the table has medians of the time on a processor. */
#include "core/rng.h"
#include "core/scorer.h"
#include "tests/bench/timing.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 32, N = 4, D = 512, CANDIDATES = 1000, POOL = 20000, BEST = 10, USERS = 16, ROUNDS_MAX = 1000 };
enum series { FLOAT32, INT8, BOTH, SERIES };

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

struct bench {
    struct rng rng;
    struct scorer *scorers[SERIES];
    char *pools[SERIES], *users[SERIES][USERS];
    const void *candidates[CANDIDATES];
    float scores[CANDIDATES];
    unsigned char kept[CANDIDATES];
    void *scratch;
    double us[SERIES][ROUNDS_MAX], share[ROUNDS_MAX];
};

static void fill(struct rng *rng, float *numbers, size_t count, double deviation)
{
    for (size_t i = 0; i < count; i++)
        numbers[i] = (float)(rng_normal(rng) * deviation);
}

/* Contents as `make bench` has them: G = gelu(B W_s), logits deviate by 2. */
static void fill_gated(struct bench *bench, const void *proj, float *numbers)
{
    fill(&bench->rng, numbers, N * D, pow(D, -0.25));
    scorer_gate(bench->scorers[FLOAT32], numbers + N * D, proj, numbers, N);
}

static void *make_proj(struct bench *bench)
{
    static float numbers[D * D];
    void *proj = pages(scorer_proj_bytes(bench->scorers[FLOAT32]));
    fill(&bench->rng, numbers, D * D, 4 * pow(D, -0.5));
    scorer_pack_proj(bench->scorers[FLOAT32], proj, numbers);
    return proj;
}

/* deviation: of the elements; 0 for the matrices of `make bench`. */
static void bench_make(struct bench *bench, double deviation)
{
    static float numbers[2 * N * D > M * D ? 2 * N * D : M * D];
    bench->rng = rng_seed(1, 0);
    const void *proj = deviation > 0 ? NULL : make_proj(bench);
    for (size_t i = 0; i < POOL; i++) {
        if (proj)
            fill_gated(bench, proj, numbers);
        else
            fill(&bench->rng, numbers, 2 * N * D, deviation);
        for (int s = 0; s < SERIES; s++)
            scorer_pack_content(bench->scorers[s],
                bench->pools[s] + i * scorer_content_bytes(bench->scorers[s]), numbers, numbers + N * D);
    }
    for (size_t u = 0; u < USERS; u++) {
        fill(&bench->rng, numbers, M * D, deviation > 0 ? deviation : pow(D, -0.25));
        for (int s = 0; s < SERIES; s++)
            scorer_pack_user(bench->scorers[s], bench->users[s][u], numbers);
    }
}

static void draw(struct bench *bench, int s)
{
    for (size_t c = 0; c < CANDIDATES; c++)
        bench->candidates[c] =
            bench->pools[s] + rng_next(&bench->rng) % POOL * scorer_content_bytes(bench->scorers[s]);
}

static void run(struct bench *bench, int round)
{
    for (int s = 0; s < SERIES; s++) {
        const void *user = bench->users[s][round % USERS];
        size_t rescored = 0;
        draw(bench, s);
        const double start = now_us();
        if (s == BOTH)
            rescored = scorer_best(bench->scorers[s], bench->scores, bench->kept, user, bench->candidates,
                CANDIDATES, BEST, -INFINITY, bench->scratch);
        else
            scorer_run(bench->scorers[s], bench->scores, &user, 1, bench->candidates, CANDIDATES);
        bench->us[s][round] = now_us() - start;
        bench->share[round] = (double)rescored / CANDIDATES;
    }
}

int main(int argc, char **argv)
{
    static const enum scorer_dtype dtypes[SERIES] = {SCORER_F32, SCORER_INT8, SCORER_F32_INT8};
    static const double deviations[] = {0, 0.1, 0.2, 0.25, 0.3};
    static struct bench bench;
    const int wanted = argc > 1 ? atoi(argv[1]) : 100;
    const int rounds = wanted < 1 ? 1 : wanted < ROUNDS_MAX ? wanted : ROUNDS_MAX;
    for (int s = 0; s < SERIES; s++) {
        if (scorer_new(&bench.scorers[s], dtypes[s], NULL, M, N, D, NULL) < 0)
            return 1;
        bench.pools[s] = pages(POOL * scorer_content_bytes(bench.scorers[s]));
        for (size_t u = 0; u < USERS; u++)
            bench.users[s][u] = pages(scorer_user_bytes(bench.scorers[s]));
    }
    bench.scratch = pages(scorer_best_bytes(bench.scorers[BOTH], CANDIDATES, BEST));
    printf("one core; the best %d of %d; m %d, n %d, d %d; medians of %d rounds\n\n", BEST, CANDIDATES, M, N,
        D, rounds);
    printf("%-30s %10s %10s %12s %8s %9s\n", "us per 1,000 candidates", "float32", "int8", "scorer_best",
        "faster", "rescored");
    for (size_t i = 0; i < sizeof deviations / sizeof *deviations; i++) {
        char name[64];
        bench_make(&bench, deviations[i]);
        for (int round = 0; round < rounds; round++)
            run(&bench, round);
        double us[SERIES];
        for (int s = 0; s < SERIES; s++)
            us[s] = median(bench.us[s], rounds);
        if (deviations[i] > 0)
            snprintf(name, sizeof name, "gaussian, deviation %g", deviations[i]);
        else
            snprintf(name, sizeof name, "as in make bench");
        printf("%-30s %10.0f %10.0f %12.0f %7.2fx %8.1f%%\n", name, us[FLOAT32], us[INT8], us[BOTH],
            us[FLOAT32] / us[BOTH], 100 * median(bench.share, rounds));
    }
    return 0;
}

/* The scoring kernels beside what one core of this machine can do, all in one run: ceilings by small probes, then every
 * kernel and dtype on candidates scattered over a pool that no cache holds, and on as many that lie in the cache.
 *
 *     build/tests/bench/kernels [rounds]
 *
 * Rounds interleave all measurements, so that a disturbance hits all of them; the table has the best quartile's time
 * of each and, for the fastest kernel of a dtype, its share of the ceiling in the same run: the probes use the widest
 * vectors and the dtype's own instruction, which the other kernels do not. */
#include "core/gemm.h"
#include "core/rng.h"
#include "core/score.h"
#include "core/scorer.h"
#include "tests/bench/probes.h"
#include "tests/bench/timing.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 32, N = 4, D = 512, CANDIDATES = 1000, POOL = 100000, CACHED = 250, ROUNDS_MAX = 1000 };

static const double OPERATIONS = 2.0 * M * 2 * N * D * CANDIDATES;

/* One measured thing. */
struct series {
    char name[64];
    double operations, ceiling; /* ceiling: the index of the probe, -1 for none */
    double us[ROUNDS_MAX];
    int rounds;
};

static double quartile(struct series *series)
{
    qsort(series->us, (size_t)series->rounds, sizeof *series->us, by_value);
    return series->us[series->rounds / 4];
}

/* ---- one dtype's pool ---- */

struct pool {
    char *memory;
    size_t bytes;               /* of one content */
    const void *shuffled[POOL]; /* all contents, each once */
    size_t drawn;               /* of them since the last time round */
    const void *cached[CANDIDATES];
};

static void pool_make(struct pool *pool, const struct scorer *scorer, struct rng *rng)
{
    enum { DISTINCT = 64 }; /* contents that are really packed; the others are copies of them */
    float *numbers = malloc(2 * N * D * sizeof *numbers);
    pool->bytes = scorer_content_bytes(scorer);
    pool->memory = pages(POOL * pool->bytes);
    for (size_t i = 0; i < POOL; i++) {
        char *content = pool->memory + i * pool->bytes;
        if (i >= DISTINCT) {
            memcpy(content, content - DISTINCT * pool->bytes, pool->bytes);
            continue;
        }
        for (size_t k = 0; k < 2 * N * D; k++)
            numbers[k] = (float)(rng_normal(rng) * 0.2);
        scorer_pack_content(scorer, content, numbers, numbers + N * D);
    }
    free(numbers);
    for (size_t i = 0; i < POOL; i++) {
        const size_t k = rng_next(rng) % (i + 1);
        pool->shuffled[i] = pool->shuffled[k];
        pool->shuffled[k] = pool->memory + i * pool->bytes;
    }
    for (size_t c = 0; c < CANDIDATES; c++)
        pool->cached[c] = pool->memory + c % CACHED * pool->bytes;
}

/* The next candidates: those of the last POOL / CANDIDATES - 1 draws are not among them, so that no cache has them. */
static const void *const *pool_draw(struct pool *pool)
{
    if (pool->drawn + CANDIDATES > POOL)
        pool->drawn = 0;
    pool->drawn += CANDIDATES;
    return pool->shuffled + pool->drawn - CANDIDATES;
}

/* ---- what is measured ---- */

struct bench {
    struct rng rng;
    struct pool pools[SCORER_DTYPES];
    struct scorer *scorers[SCORER_DTYPES][16];
    void *users[SCORER_DTYPES][4];
    float a[M * D], scores[4 * CANDIDATES];
    float *proj, *b, *gate;
    float *gathered, *products;
    void *packed_proj[SCORER_DTYPES];
    float *probe_memory;
};

static struct series all[128];
static int series_count;

static struct series *series_named(const char *name, double operations, int ceiling)
{
    for (int i = 0; i < series_count; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    struct series *series = &all[series_count++];
    snprintf(series->name, sizeof series->name, "%s", name);
    series->operations = operations;
    series->ceiling = ceiling;
    return series;
}

static void add(const char *name, double operations, int ceiling, double us)
{
    struct series *series = series_named(name, operations, ceiling);
    if (series->rounds < ROUNDS_MAX)
        series->us[series->rounds++] = us;
}

static void round_probes(struct bench *bench)
{
    for (int i = 0; i < PROBES; i++) {
        const double start = now_us(), work = probe_run(i, bench->probe_memory);
        if (work > 0)
            add(probe_name(i), work, -1, now_us() - start);
    }
}

/* The probes of what is multiplied: float32+int8 is measured in neither alone, its gates are float32's. */
static const int score_ceilings[SCORER_DTYPES] = {PROBE_FMA, PROBE_BF16, PROBE_VNNI, -1};
static const int gate_ceilings[SCORER_DTYPES] = {PROBE_FMA, PROBE_BF16, PROBE_BF16, PROBE_FMA};

static void round_kernels(struct bench *bench, int round)
{
    char name[64];
    for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
        struct pool *pool = &bench->pools[dtype];
        struct scorer *best = bench->scorers[dtype][15];
        const void *const *users = (const void *const *)bench->users[dtype];
        for (size_t i = 1; scorer_kernel_name(i); i++) {
            const struct scorer *scorer = bench->scorers[dtype][i];
            if (!scorer || (round % 4 && i < 3))
                continue;
            const int ceiling =
                strcmp(scorer_kernel(scorer), scorer_kernel(best)) == 0 ? score_ceilings[dtype] : -1;
            const void *const *candidates = pool_draw(pool);
            double start = now_us();
            scorer_run(scorer, bench->scores, users, 1, candidates, CANDIDATES);
            snprintf(
                name, sizeof name, "%-9s %-12s scattered", scorer_dtype_name(dtype), scorer_kernel_name(i));
            add(name, OPERATIONS, ceiling, now_us() - start);
            scorer_run(scorer, bench->scores, users, 1, pool->cached, CACHED);
            start = now_us();
            scorer_run(scorer, bench->scores, users, 1, pool->cached, CANDIDATES);
            snprintf(name, sizeof name, "%-9s %-12s cached", scorer_dtype_name(dtype), scorer_kernel_name(i));
            add(name, OPERATIONS, ceiling, now_us() - start);
        }
        const void *const *candidates = pool_draw(pool);
        double start = now_us();
        scorer_run(best, bench->scores, users, 4, candidates, CANDIDATES);
        snprintf(name, sizeof name, "%-9s %-12s 4 users", scorer_dtype_name(dtype), scorer_kernel(best));
        add(name, 4 * OPERATIONS, score_ceilings[dtype], now_us() - start);
        start = now_us();
        scorer_gate(best, bench->gate, bench->packed_proj[dtype], bench->b, CANDIDATES * N);
        snprintf(name, sizeof name, "%-9s %-12s gates", scorer_dtype_name(dtype), scorer_kernel(best));
        add(name, 2.0 * CANDIDATES * N * D * D, gate_ceilings[dtype], now_us() - start);
    }
}

/* What a team would write: the candidates' blocks copied together, one product. */
static void round_blas(struct bench *bench)
{
    const void *const *candidates = pool_draw(&bench->pools[SCORER_F32]);
    const double start = now_us();
    for (size_t c = 0; c < CANDIDATES; c++)
        memcpy(bench->gathered + c * 2 * N * D, candidates[c], 2 * N * D * sizeof(float));
    gemm(GEMM_NT, bench->products, bench->gathered, bench->a, CANDIDATES * 2 * N, M, D, 0);
    add("float32   OpenBLAS     gather + product", OPERATIONS, -1, now_us() - start);
}

static void bench_make(struct bench *bench)
{
    bench->rng = rng_seed(1, 0);
    bench->proj = malloc(D * D * sizeof(float));
    bench->b = malloc(CANDIDATES * N * D * sizeof(float));
    bench->gate = malloc(CANDIDATES * N * D * sizeof(float));
    bench->gathered = pages(CANDIDATES * 2 * N * D * sizeof(float));
    bench->products = malloc(CANDIDATES * 2 * N * M * sizeof(float));
    bench->probe_memory = pages(PROBE_RAM_BYTES);
    memset(bench->probe_memory, 1, PROBE_RAM_BYTES);
    for (size_t i = 0; i < D * D; i++)
        bench->proj[i] = (float)(rng_normal(&bench->rng) / sqrt((double)D));
    for (size_t i = 0; i < CANDIDATES * N * D; i++)
        bench->b[i] = (float)(rng_normal(&bench->rng) * 0.2);
    for (size_t i = 0; i < M * D; i++)
        bench->a[i] = (float)(rng_normal(&bench->rng) * 0.2);
    for (enum scorer_dtype dtype = SCORER_F32; dtype < SCORER_DTYPES; dtype++) {
        for (size_t i = 1; scorer_kernel_name(i); i++)
            if (scorer_kernel_runs(i, dtype))
                scorer_new(&bench->scorers[dtype][i], dtype, scorer_kernel_name(i), M, N, D, NULL);
        struct scorer **best = &bench->scorers[dtype][15];
        scorer_new(best, dtype, NULL, M, N, D, NULL);
        pool_make(&bench->pools[dtype], *best, &bench->rng);
        for (size_t u = 0; u < 4; u++) {
            bench->users[dtype][u] = pages(scorer_user_bytes(*best));
            scorer_pack_user(*best, bench->users[dtype][u], bench->a);
        }
        bench->packed_proj[dtype] = pages(scorer_proj_bytes(*best));
        scorer_pack_proj(*best, bench->packed_proj[dtype], bench->proj);
    }
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 40;
    static struct bench bench;
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    bench_make(&bench);
    for (int round = 0; round < rounds && round < ROUNDS_MAX; round++) {
        round_probes(&bench);
        round_kernels(&bench, round);
        round_blas(&bench);
    }
    printf("one core; m %d, n %d, d %d; %d candidates of a pool of %d; best quartile of %d rounds; %s\n\n", M,
        N, D, CANDIDATES, POOL, rounds, gemm_kernel());
    printf("%-40s %10s %8s %8s\n", "", "us", "G/s", "share");
    double ceilings[PROBES] = {0};
    for (int i = 0; i < series_count; i++) {
        struct series *series = &all[i];
        const double us = quartile(series), rate = series->operations / us * 1e-3;
        printf("%-40s %10.1f %8.1f", series->name, us, rate);
        for (int k = 0; k < PROBES; k++)
            if (strcmp(series->name, probe_name(k)) == 0)
                ceilings[k] = rate;
        const int ceiling = (int)series->ceiling;
        if (ceiling >= 0 && ceilings[ceiling] > 0)
            printf(" %6.1f %%", 100 * rate / ceilings[ceiling]);
        printf("\n");
    }
    return 0;
}

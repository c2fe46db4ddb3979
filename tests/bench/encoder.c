/* T5's encoder on core/engine.h beside what the processor can multiply, all in one run.
 *
 *     build/tests/bench/encoder [--rounds N] [--dtype NAME] [--kernel NAME] [--threads N]
 *                               [--lengths FILE | --news FILE --vocab FILE]
 *
 * Random weights of T5-small's shape (tests/bench/encoder.json), whose speed is that of trained ones. Batches of 16 x 64,
 * 8 x 256 and 2 x 512 tokens; or ragged ones: as many tokens a sequence as FILE says, a number a line, or the items of a
 * news.tsv. One thread, and two, each with an encoder of its own on a core of its own. Rounds interleave everything, so
 * that a disturbance hits all; a figure is the best quartile's, in processor time. A JSON line each:
 *
 *     {"dtype": "float32", "shape": "16x64", "threads": 1, "tokens_per_s": 2900, "gflops": 110, "share": 0.94}
 *
 * gflops counts the products of real tokens, attention's among them; share is that of the processor's ceiling for the
 * dtype (VDPBF16PS, VPDPBUSD, FMA) times the threads. On stderr: the ceilings, and what rounding costs. */
#include "batch/workspace.h"
#include "core/engine.h"
#include "core/gemm.h"
#include "core/rng.h"
#include "core/t5.h"
#include "tests/bench/probes.h"
#include "tests/bench/timing.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { ROUNDS_MAX = 1000, THREADS_MAX = 2, RAGGED_TOKENS = 8192, SHAPES_MAX = 3 };

struct shape {
    char name[32];
    size_t *lengths, count, tokens;
    double operations;
    int32_t *ids;
};

/* One measured thing: a dtype, a shape, a number of threads. */
struct series {
    enum linear_dtype dtype;
    const struct shape *shape;
    int threads;
    double us[ROUNDS_MAX]; /* of a batch on the slower thread */
};

struct bench {
    struct model *model;
    struct engine *engines[LINEAR_DTYPES];
    struct shape shapes[SHAPES_MAX];
    size_t shape_count;
    struct series series[LINEAR_DTYPES * SHAPES_MAX * THREADS_MAX];
    size_t series_count;
    double ceiling[LINEAR_DTYPES][ROUNDS_MAX]; /* Gop/s */
    int rounds, threads;
    const char *kernel;
};

static void die(const char *what)
{
    fprintf(stderr, "encoder: %s\n", what);
    exit(1);
}

/* ---- shapes ---- */

static void shape_finish(struct shape *shape, const struct model_config *c, struct rng *rng)
{
    const double d = (double)c->d_model, inner = (double)(c->heads * c->d_kv);
    const double weights = 4 * d * inner + (c->gated ? 3 : 2) * d * (double)c->d_ff;
    shape->tokens = 0;
    shape->operations = 0;
    for (size_t i = 0; i < shape->count; i++) {
        const double length = (double)shape->lengths[i];
        shape->tokens += shape->lengths[i];
        shape->operations += 2 * (double)c->encoder_layers * length * (weights + 2 * length * inner);
    }
    if (shape->ids)
        return;
    shape->ids = malloc(shape->tokens * sizeof *shape->ids);
    for (size_t i = 0; i < shape->tokens; i++)
        shape->ids[i] = (int32_t)(rng_next(rng) % c->vocab_size);
}

static void shape_even(struct shape *shape, size_t count, size_t length)
{
    snprintf(shape->name, sizeof shape->name, "%zux%zu", count, length);
    shape->count = count;
    shape->lengths = malloc(count * sizeof *shape->lengths);
    for (size_t i = 0; i < count; i++)
        shape->lengths[i] = length;
}

static void shape_read(struct shape *shape, const char *path)
{
    FILE *file = fopen(path, "r");
    size_t size = 0, tokens = 0;
    if (!file)
        die("cannot open the file of lengths");
    strcpy(shape->name, "ragged");
    for (unsigned long length; tokens < RAGGED_TOKENS && fscanf(file, "%lu", &length) == 1;) {
        if (length < 1 || length > 100000)
            die("lengths must lie between 1 and 100000");
        if (shape->count == size)
            shape->lengths = realloc(shape->lengths, (size = 2 * size + 64) * sizeof *shape->lengths);
        shape->lengths[shape->count++] = length;
        tokens += length;
    }
    fclose(file);
    if (!shape->count)
        die("no lengths in the file");
}

/* The workspace keeps the model and the tokens until the program ends. */
static void shape_news(struct shape *shape, struct bench *bench, const char *news, const char *vocab)
{
    static struct workspace workspace;
    const struct workspace_options options = {
        .news = news, .rows = {.max_bad.rows = 1000000000, .quiet = true}};
    struct err err = ERR_INIT;
    if (workspace_open_around(&workspace, bench->model, vocab, &options, &err) < 0)
        die(err.message);
    size_t tokens = 0;
    strcpy(shape->name, "news");
    shape->lengths = malloc(workspace.news.ids.count * sizeof *shape->lengths);
    while (shape->count < workspace.news.ids.count && tokens < RAGGED_TOKENS) {
        shape->lengths[shape->count] = workspace_item(&workspace, shape->count).count;
        tokens += shape->lengths[shape->count++];
    }
    shape->ids = workspace.ids;
}

/* ---- measuring ---- */

struct worker {
    const struct engine *engine;
    const struct shape *shape;
    struct engine_sequence *sequences;
    float *states;
    struct engine_scratch *scratch;
    size_t core;
    pthread_barrier_t *start;
    double us;
};

static struct worker workers[THREADS_MAX];

static void worker_prepare(struct worker *w, const struct engine *engine, const struct shape *shape)
{
    const size_t d = engine_model(engine)->config.d_model;
    w->engine = engine;
    w->shape = shape;
    w->sequences = realloc(w->sequences, shape->count * sizeof *w->sequences);
    w->states = realloc(w->states, shape->tokens * d * sizeof *w->states);
    if (!w->scratch && engine_scratch_new(&w->scratch, NULL) < 0)
        die("out of memory");
    for (size_t i = 0, at = 0; i < shape->count; at += shape->lengths[i++])
        w->sequences[i] =
            (struct engine_sequence){shape->ids + at, shape->lengths[i], w->states + at * d, NULL};
}

/* At least 100 ms, so that the first moments of a thread are no great part. */
static void *worker_run(void *argument)
{
    struct worker *w = argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(w->core, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    if (w->start)
        pthread_barrier_wait(w->start);
    double spent = 0;
    int turns = 0;
    for (const double begun = now_us(); spent < 1e5; spent = now_us() - begun, turns++)
        if (engine_encode(w->engine, w->sequences, w->shape->count, w->scratch, NULL) < 0)
            die("out of memory");
    w->us = spent / turns;
    return NULL;
}

static double measure(const struct series *series, const struct engine *engine)
{
    pthread_t others[THREADS_MAX];
    pthread_barrier_t start;
    double slowest = 0;
    pthread_barrier_init(&start, NULL, (unsigned)series->threads);
    for (int t = 0; t < series->threads; t++) {
        worker_prepare(&workers[t], engine, series->shape);
        workers[t].core = (size_t)t;
        workers[t].start = series->threads > 1 ? &start : NULL;
        if (pthread_create(&others[t], NULL, worker_run, &workers[t]) != 0)
            die("no thread");
    }
    for (int t = 0; t < series->threads; t++) {
        pthread_join(others[t], NULL);
        slowest = workers[t].us > slowest ? workers[t].us : slowest;
    }
    pthread_barrier_destroy(&start);
    return slowest;
}

static double quartile(double *values, int count, bool largest)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[largest ? count - 1 - count / 4 : count / 4];
}

static void run(struct bench *bench)
{
    for (int round = 0; round < bench->rounds; round++) {
        for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
            const double start = now_us(), work = probe_run(PROBE_FMA + (int)dtype, NULL);
            bench->ceiling[dtype][round] = work / (now_us() - start) / 1e3;
        }
        for (size_t i = 0; i < bench->series_count; i++)
            bench->series[i].us[round] = measure(&bench->series[i], bench->engines[bench->series[i].dtype]);
    }
}

static void report(struct bench *bench)
{
    double ceilings[LINEAR_DTYPES];
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
        ceilings[dtype] = quartile(bench->ceiling[dtype], bench->rounds, true);
        if (bench->engines[dtype])
            fprintf(stderr, "%s on %s: ceiling %.0f Gop/s\n", linear_dtype_name(dtype),
                engine_kernel(bench->engines[dtype]), ceilings[dtype]);
    }
    for (size_t i = 0; i < bench->series_count; i++) {
        struct series *s = &bench->series[i];
        const double us = quartile(s->us, bench->rounds, false), threads = (double)s->threads,
                     gops = threads * s->shape->operations / us / 1e3,
                     ceiling = threads * (ceilings[s->dtype] > 0 ? ceilings[s->dtype] : ceilings[0]);
        printf("{\"dtype\": \"%s\", \"shape\": \"%s\", \"threads\": %d, \"tokens_per_s\": %.0f, \"gflops\": "
               "%.1f, "
               "\"share\": %.3f}\n",
            linear_dtype_name(s->dtype), s->shape->name, s->threads,
            threads * (double)s->shape->tokens / us * 1e6, gops, ceiling > 0 ? gops / ceiling : NAN);
    }
}

/* What a dtype's states differ from those of t5_encode(), relative, Frobenius. */
static void tell_errors(const struct bench *bench)
{
    const struct shape *shape = &bench->shapes[0];
    const size_t d = bench->model->config.d_model, some = shape->lengths[0], offsets[2] = {0, some};
    float *want = malloc(some * d * sizeof *want);
    struct t5_scratch *scratch;
    struct err err = ERR_INIT;
    if (t5_scratch_new(&scratch, &err) < 0 ||
        t5_encode(want, bench->model, shape->ids, offsets, 1, scratch, &err) < 0)
        die(err.message);
    for (enum linear_dtype dtype = LINEAR_F32; dtype < LINEAR_DTYPES; dtype++) {
        double difference = 0, norm = 0;
        if (!bench->engines[dtype])
            continue;
        worker_prepare(&workers[0], bench->engines[dtype], shape);
        if (engine_encode(bench->engines[dtype], workers[0].sequences, 1, workers[0].scratch, &err) < 0)
            die(err.message);
        for (size_t i = 0; i < some * d; i++) {
            difference += pow((double)workers[0].states[i] - (double)want[i], 2);
            norm += pow((double)want[i], 2);
        }
        fprintf(stderr, "%s: relative error of the states %.1e\n", linear_dtype_name(dtype),
            sqrt(difference / norm));
    }
    t5_scratch_free(scratch);
    free(want);
}

static void make(
    struct bench *bench, const char *dtype, const char *lengths, const char *news, const char *vocab)
{
    struct rng rng = rng_seed(1, 0);
    struct err err = ERR_INIT;
    enum linear_dtype only = LINEAR_DTYPES;
    if (gemm_init(&err) < 0 || model_init(&bench->model, "tests/bench/encoder.json", 1, &err) < 0 ||
        (dtype && linear_dtype_parse(&only, dtype, &err) < 0))
        die(err.message);
    if (lengths) {
        shape_read(&bench->shapes[bench->shape_count++], lengths);
    } else if (news) {
        shape_news(&bench->shapes[bench->shape_count++], bench, news, vocab);
    } else {
        shape_even(&bench->shapes[bench->shape_count++], 16, 64);
        shape_even(&bench->shapes[bench->shape_count++], 8, 256);
        shape_even(&bench->shapes[bench->shape_count++], 2, 512);
    }
    for (size_t i = 0; i < bench->shape_count; i++)
        shape_finish(&bench->shapes[i], &bench->model->config, &rng);
    for (enum linear_dtype i = LINEAR_F32; i < LINEAR_DTYPES; i++) {
        if (only != LINEAR_DTYPES && i != only)
            continue;
        if (engine_new(&bench->engines[i], bench->model, i, bench->kernel, &err) < 0)
            die(err.message);
        for (size_t s = 0; s < bench->shape_count; s++)
            for (int t = 1; t <= bench->threads; t++)
                bench->series[bench->series_count++] =
                    (struct series){.dtype = i, .shape = &bench->shapes[s], .threads = t};
    }
}

int main(int argc, char **argv)
{
    static struct bench bench;
    const char *rounds = "5", *threads = "2", *dtype = NULL, *lengths = NULL, *news = NULL, *vocab = NULL;
    const struct {
        const char *name, **value;
    } options[] = {{"--rounds", &rounds}, {"--threads", &threads}, {"--dtype", &dtype},
        {"--kernel", &bench.kernel}, {"--lengths", &lengths}, {"--news", &news}, {"--vocab", &vocab}};
    enum { OPTIONS = sizeof options / sizeof *options };
    for (int i = 1; i < argc; i += 2) {
        size_t k = 0;
        while (k < OPTIONS && strcmp(argv[i], options[k].name) != 0)
            k++;
        if (k == OPTIONS || i + 1 == argc)
            die("usage: [--rounds N] [--threads N] [--dtype NAME] [--kernel NAME] [--lengths FILE | --news "
                "FILE "
                "--vocab FILE]");
        *options[k].value = argv[i + 1];
    }
    bench.rounds = atoi(rounds);
    bench.threads = atoi(threads);
    if (bench.rounds < 1 || bench.rounds > ROUNDS_MAX || bench.threads < 1 || bench.threads > THREADS_MAX)
        die("--rounds is 1 to 1000, --threads 1 or 2");
    if (!news != !vocab)
        die("--news and --vocab go together");
    make(&bench, dtype, lengths, news, vocab);
    tell_errors(&bench);
    run(&bench);
    report(&bench);
    return 0;
}

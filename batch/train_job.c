#include "batch/train_job.h"

#include "batch/checkpoint.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "core/file.h"
#include "core/rng.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

struct job;

struct worker {
    struct job *job;
    size_t index;
    pthread_t thread;
    struct trainer *trainer;
    struct train_items items;
    float *grads;
    struct train_loss loss;
    int result;
    struct err err;
};

struct job {
    struct model *model;
    const struct train_set *set;
    const struct train_options *options;
    struct optimizer optimizer;
    struct checkpoint at;
    uint32_t *order;
    struct worker *workers;
    size_t batch_first, batch_count; /* of the order: the examples of the step in hand */
    struct progress progress;
    double started;
    size_t tokens; /* since this process started */
    FILE *log;
};

static uint64_t mix(uint64_t seed, uint64_t a, uint64_t b)
{
    struct rng rng = rng_seed(seed ^ a * 0x9E3779B97F4A7C15u, b);
    return rng_next(&rng);
}

/* A worker takes every T-th example of the batch: who computes what, and in which order it is summed, is fixed. */
static void *work(void *argument)
{
    struct worker *w = argument;
    const struct job *job = w->job;
    const struct train_options *o = job->options;
    memset(w->grads, 0, job->model->param_count * sizeof *w->grads);
    w->loss = (struct train_loss){0};
    w->result = 0;
    for (size_t i = w->index; w->result == 0 && i < job->batch_count; i += o->threads) {
        const size_t index = job->order[job->batch_first + i];
        struct train_example example;
        w->result = train_set_get(&example, job->set, index, o->negatives,
            mix(o->seed, job->at.epoch, 2 * index), &w->items, &w->err);
        const struct t5_dropout dropout = {(float)o->dropout, mix(o->seed, job->at.epoch, 2 * index + 1)};
        if (w->result == 0)
            w->result = train_example(w->trainer, w->grads, &w->loss, &example, o->lambda,
                1.0 / (double)job->batch_count, dropout, &w->err);
    }
    return NULL;
}

/* The gradient of the batch in the first worker's grads, its loss in *loss. */
static int run_batch(struct job *job, struct train_loss *loss, struct err *err)
{
    const size_t threads = job->options->threads;
    size_t started = 1;
    while (started < threads &&
           pthread_create(&job->workers[started].thread, NULL, work, &job->workers[started]) == 0)
        started++;
    work(&job->workers[0]);
    for (size_t t = 1; t < started; t++)
        pthread_join(job->workers[t].thread, NULL);
    for (size_t t = started; t < threads; t++)
        work(&job->workers[t]); /* no thread could be had: slower, the same result */
    *loss = (struct train_loss){0};
    for (size_t t = 0; t < threads; t++) {
        struct worker *w = &job->workers[t];
        if (w->result < 0) {
            if (err)
                *err = w->err;
            return w->result;
        }
        loss->nce += w->loss.nce;
        loss->sum += w->loss.sum;
        loss->tokens += w->loss.tokens;
        loss->summary_tokens += w->loss.summary_tokens;
        for (size_t i = 0; t && i < job->model->param_count; i++)
            job->workers[0].grads[i] += w->grads[i];
    }
    return 0;
}

static int save(struct job *job, struct err *err)
{
    int result = model_save(job->model, job->options->out, err);
    if (result == 0)
        result = checkpoint_save(job->options->out, &job->at, job->model, &job->optimizer, err);
    return result;
}

static int write_line(const struct job *job, const struct train_loss *loss, double norm, struct err *err)
{
    const double elapsed = progress_now() - job->started;
    fprintf(job->log,
        "{\"step\":%zu,\"epoch\":%zu,\"loss\":%.9g,\"nce\":%.9g,\"sum\":%.9g,\"norm\":%.6g,\"rate\":%.6g,"
        "\"tokens\":%zu,\"tokens_per_second\":%.1f}\n",
        job->at.step, job->at.epoch, loss->nce + job->options->lambda * loss->sum, loss->nce, loss->sum, norm,
        job->options->adam.rate * optimizer_schedule(&job->optimizer.config, job->at.step), loss->tokens,
        (double)job->tokens / elapsed);
    return fflush(job->log) == 0 ? 0 : err_errno(err, "write train.jsonl");
}

static int step(struct job *job, struct err *err)
{
    const size_t left = job->set->example_count - job->at.next;
    struct train_loss loss;
    job->batch_first = job->at.next;
    job->batch_count = left < job->options->batch ? left : job->options->batch;
    int result = run_batch(job, &loss, err);
    if (result < 0)
        return result;
    const double norm = optimizer_step(&job->optimizer, job->model, job->workers[0].grads);
    if (!isfinite(norm))
        return err_set(err, ERR_CORRUPT,
            "step %zu: the gradient is not finite (L_NCE %g, L_sum %g); a lower rate may help",
            job->at.step + 1, loss.nce, loss.sum);
    job->at.step++;
    job->at.next += job->batch_count;
    job->tokens += loss.tokens;
    result = write_line(job, &loss, norm, err);
    progress_add(&job->progress, 1);
    return result;
}

static int run(struct job *job, struct err *err)
{
    const struct train_options *o = job->options;
    const size_t steps = job->optimizer.config.steps;
    int result = 0;
    while (result == 0 && job->at.step < steps) {
        if (job->at.next == 0 || job->order[0] == UINT32_MAX)
            train_set_shuffle(job->order, job->set, mix(o->seed, job->at.epoch, 0x5EED));
        result = step(job, err);
        if (result < 0)
            break;
        if (job->at.next >= job->set->example_count) {
            job->at.next = 0;
            job->at.epoch++;
        }
        if (stop_asked()) {
            result = save(job, err);
            return result < 0 ? result
                              : err_set(err, ERR_UNAVAILABLE,
                                    "stopped by a signal after step %zu of %zu; --resume goes on",
                                    job->at.step, steps);
        }
        if (job->at.step == steps || job->at.step % o->checkpoint_every == 0)
            result = save(job, err);
    }
    return result;
}

/* What a run is: data, model and all settings that change its course. A checkpoint of another one is not resumed. */
static void identify(struct job *job)
{
    const struct train_options *o = job->options;
    const struct train_set *set = job->set;
    const double numbers[] = {o->adam.rate, o->adam.head_factor, o->adam.weight_decay, o->adam.clip,
        o->adam.warmup, (double)job->optimizer.config.steps, (double)o->batch, (double)o->negatives,
        (double)o->threads, o->lambda, o->dropout, (double)o->seed, (double)set->example_count,
        (double)set->summarised};
    uint64_t hash = XXH3_64bits_withSeed(numbers, sizeof numbers, set->workspace->model_hash);
    hash = XXH3_64bits_withSeed(set->items, set->item_count * sizeof *set->items, hash);
    snprintf(job->at.run, sizeof job->at.run, "%016llx", (unsigned long long)hash);
}

/* train.jsonl, without the lines behind the checkpoint. */
static int open_log(struct job *job, struct err *err)
{
    char path[4096];
    int result = file_path(path, job->options->out, "train.jsonl", err);
    if (result < 0)
        return result;
    job->log = fopen(path, job->at.step ? "r+e" : "we");
    if (!job->log)
        return err_errno(err, "open %s", path);
    long keep = 0;
    int c;
    for (size_t lines = 0; job->at.step && lines < job->at.step && (c = fgetc(job->log)) != EOF;)
        if (c == '\n' && ++lines)
            keep = ftell(job->log);
    if (ftruncate(fileno(job->log), keep) != 0 || fseek(job->log, keep, SEEK_SET) != 0)
        return err_errno(err, "truncate %s", path);
    return 0;
}

static int prepare(struct job *job, struct err *err)
{
    const struct train_options *o = job->options;
    const size_t count = job->set->example_count, per_epoch = (count + o->batch - 1) / o->batch;
    struct optimizer_config adam = o->adam;
    adam.steps = o->max_steps && o->max_steps < per_epoch * o->epochs ? o->max_steps : per_epoch * o->epochs;
    int result = optimizer_init(&job->optimizer, job->model, &adam, err);
    if (result < 0)
        return result;
    identify(job);
    job->order = malloc((count + 1) * sizeof *job->order);
    job->workers = calloc(o->threads, sizeof *job->workers);
    if (!job->order || !job->workers)
        return err_set(err, ERR_NOMEM, "out of memory");
    job->order[0] = UINT32_MAX; /* not drawn yet */
    for (size_t t = 0; result == 0 && t < o->threads; t++) {
        struct worker *w = &job->workers[t];
        *w = (struct worker){.job = job, .index = t};
        w->grads = malloc(job->model->param_count * sizeof *w->grads);
        result =
            w->grads ? trainer_new(&w->trainer, job->model, err) : err_set(err, ERR_NOMEM, "out of memory");
    }
    if (result == 0 && o->resume) {
        result = checkpoint_load(o->out, &job->at, job->model, &job->optimizer, err);
        if (result == -ERR_NOT_FOUND)
            result = 0; /* nothing to resume: a run from the start */
    }
    return result < 0 ? result : open_log(job, err);
}

int train_job(struct workspace *workspace, const struct train_set *set, const struct train_options *options,
    struct err *err)
{
    struct job job = {.model = workspace->model, .set = set, .options = options};
    int result = prepare(&job, err);
    if (result == 0) {
        job.started = progress_now();
        progress_begin(&job.progress, "steps", job.optimizer.config.steps, options->quiet);
        job.progress.done = job.at.step;
        result = run(&job, err);
        if (result == 0)
            progress_end(&job.progress);
    }
    for (size_t t = 0; job.workers && t < options->threads; t++) {
        trainer_free(job.workers[t].trainer);
        train_items_done(&job.workers[t].items);
        free(job.workers[t].grads);
    }
    if (job.log)
        fclose(job.log);
    free(job.workers);
    free(job.order);
    optimizer_done(&job.optimizer);
    return result;
}

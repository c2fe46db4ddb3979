#include "batch/train_job.h"

#include "batch/checkpoint.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "core/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

struct job {
    struct model *model;
    const struct train_set *set;
    const struct train_options *options;
    struct ranks *ranks;
    struct optimizer optimizer;
    struct train_step *step;
    struct checkpoint at;
    uint32_t *order;
    struct progress progress;
    double started;
    size_t tokens; /* since this process started */
    FILE *log;
};

static int write_checkpoint(struct job *job, struct err *err)
{
    int result = model_save(job->model, job->options->out, err);
    if (result == 0)
        result = checkpoint_save(job->options->out, &job->at, job->model, &job->optimizer, err);
    return result;
}

/* Replicas that have come apart would train on without a sign of it: none of them becomes a checkpoint. */
static int save(struct job *job, struct err *err)
{
    const size_t size = job->model->param_count * sizeof *job->model->params;
    int result = 0;
    if (job->ranks->size > 1)
        result = ranks_same(job->ranks, XXH3_64bits(job->model->params, size), "parameters", err);
    return result < 0 ? result
                      : ranks_agree(job->ranks, job->ranks->rank == 0 ? write_checkpoint(job, err) : 0, err);
}

static int write_line(const struct job *job, const struct train_loss *loss, double norm, struct err *err)
{
    const double elapsed = progress_now() - job->started;
    fprintf(job->log,
        "{\"step\":%zu,\"epoch\":%zu,\"loss\":%.9g,\"nce\":%.9g,\"sum\":%.9g,\"norm\":%.6g,\"rate\":%.6g,"
        "\"tokens\":%zu,\"encoded\":%zu,\"tokens_per_second\":%.1f}\n",
        job->at.step, job->at.epoch, loss->nce + job->options->step.lambda * loss->sum, loss->nce, loss->sum,
        norm, job->options->adam.rate * optimizer_schedule(&job->optimizer.config, job->at.step),
        loss->tokens, loss->encoded, (double)job->tokens / elapsed);
    return fflush(job->log) == 0 ? 0 : err_errno(err, "write train.jsonl");
}

static int step(struct job *job, struct err *err)
{
    const size_t left = job->set->example_count - job->at.next;
    const size_t count = left < job->options->batch ? left : job->options->batch;
    struct train_loss loss;
    double norm;
    int result =
        train_step_run(job->step, job->order + job->at.next, count, job->at.epoch, &loss, &norm, err);
    if (result < 0)
        return result;
    job->at.step++;
    job->at.next += count;
    job->tokens += loss.tokens;
    if (job->ranks->rank == 0)
        result = write_line(job, &loss, norm, err);
    progress_add(&job->progress, 1);
    return result;
}

static int run(struct job *job, struct err *err)
{
    const struct train_options *o = job->options;
    const size_t steps = job->optimizer.config.steps;
    int result = 0;
    bool stop = false;
    while (result == 0 && job->at.step < steps) {
        if (job->at.next == 0 || job->order[0] == UINT32_MAX)
            result = train_set_shuffle(job->order, job->set, o->step.seed, job->at.epoch, err);
        if (result == 0)
            result = step(job, err);
        result = ranks_agree(job->ranks, result, err);
        if (result == 0)
            result = ranks_any(job->ranks, stop_asked(), &stop, err);
        if (result < 0)
            break;
        if (job->at.next >= job->set->example_count) {
            job->at.next = 0;
            job->at.epoch++;
        }
        if (stop) {
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

/* What a run is: data, model and all settings that change its course. A checkpoint of another one is not resumed. Ranks
 * and threads change no more than the rounding of sums. */
static uint64_t identify(struct job *job)
{
    const struct train_options *o = job->options;
    const struct train_set *set = job->set;
    const double numbers[] = {o->adam.rate, o->adam.head_factor, o->adam.weight_decay, o->adam.clip,
        o->adam.warmup, (double)job->optimizer.config.steps, (double)o->batch, (double)o->step.micro_batch,
        (double)o->step.negatives, (double)o->step.shared_negatives, o->step.lambda, o->step.dropout,
        (double)o->step.seed, (double)set->example_count};
    uint64_t hash = XXH3_64bits_withSeed(numbers, sizeof numbers, set->workspace->model_hash);
    hash = XXH3_64bits_withSeed(set->items, set->item_count * sizeof *set->items, hash);
    for (size_t i = 0; i < set->workspace->news.ids.count; i++) {
        const struct encode_item item = workspace_item(set->workspace, i);
        hash = XXH3_64bits_withSeed(item.ids, item.count * sizeof *item.ids, hash);
    }
    for (size_t u = 0; u < set->users.count; u++)
        if (set->summary[u])
            hash = XXH3_64bits_withSeed(
                set->summary[u], set->summary_count[u] * sizeof **set->summary, hash ^ u);
    snprintf(job->at.run, sizeof job->at.run, "%016llx", (unsigned long long)hash);
    return hash;
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

/* What this rank needs; no meeting with the others. */
static int allocate(struct job *job, const struct train_step_options *step, struct err *err)
{
    const struct train_options *o = job->options;
    const size_t count = job->set->example_count, per_epoch = (count + o->batch - 1) / o->batch;
    struct optimizer_config adam = o->adam;
    adam.steps = o->max_steps && o->max_steps < per_epoch * o->epochs ? o->max_steps : per_epoch * o->epochs;
    int result = optimizer_init(&job->optimizer, job->model, &adam, err);
    if (result < 0)
        return result;
    job->order = malloc((count + 1) * sizeof *job->order);
    if (!job->order)
        return err_set(err, ERR_NOMEM, "out of memory");
    job->order[0] = UINT32_MAX; /* not drawn yet */
    return train_step_new(&job->step, job->model, job->set, &job->optimizer, step, job->ranks, err);
}

/* Rank 0 reads the checkpoint, and the others have it from there: OUT need not be on a disk that they see. */
static int resume(struct job *job, struct err *err)
{
    struct ranks *const ranks = job->ranks;
    const size_t size = job->model->param_count * sizeof(float);
    int result = 0;
    if (ranks->rank == 0)
        result = checkpoint_load(job->options->out, &job->at, job->model, &job->optimizer, err);
    if (result == -ERR_NOT_FOUND)
        result = 0; /* nothing to resume: a run from the start */
    result = ranks_agree(ranks, result, err);
    if (result == 0)
        result = ranks_share(ranks, &job->at, sizeof job->at, err);
    if (result == 0)
        result = ranks_share(ranks, job->model->params, size, err);
    if (result == 0)
        result = ranks_share(ranks, job->optimizer.first, size, err);
    if (result == 0)
        result = ranks_share(ranks, job->optimizer.second, size, err);
    job->optimizer.step = job->at.step;
    return result;
}

/* Who works; a worker that never has a micro-batch was a mistake in the numbers asked for. */
static void tell_workers(const struct job *job, size_t workers)
{
    const struct train_options *o = job->options;
    const size_t parts = (o->batch + o->step.micro_batch - 1) / o->step.micro_batch;
    if (job->ranks->size > 1)
        progress_say(o->quiet, "%zu ranks, %zu workers", job->ranks->size, workers);
    if (parts < workers)
        progress_say(o->quiet, "a batch has %zu micro-batches: %zu workers are idle", parts, workers - parts);
    if (job->at.workers && job->at.workers != workers)
        progress_say(o->quiet, "%zu workers, not the %zu of the checkpoint: sums will round differently",
            workers, job->at.workers);
}

static int prepare(struct job *job, struct err *err)
{
    const struct train_options *o = job->options;
    struct train_step_options step = o->step;
    int result = ranks_number(job->ranks, step.threads, &step.first_worker, &step.workers, err);
    if (result == 0)
        result = ranks_agree(job->ranks, allocate(job, &step, err), err);
    if (result < 0)
        return result;
    const uint64_t course[] = {identify(job), o->checkpoint_every, o->resume}; /* where the ranks meet */
    result = ranks_same(
        job->ranks, XXH3_64bits(course, sizeof course), "run: its model, data or settings are others", err);
    if (result == 0 && o->resume)
        result = resume(job, err);
    if (result < 0)
        return result;
    tell_workers(job, step.workers);
    job->at.workers = step.workers;
    return ranks_agree(job->ranks, job->ranks->rank == 0 ? open_log(job, err) : 0, err);
}

int train_job(struct workspace *workspace, const struct train_set *set, const struct train_options *options,
    struct ranks *ranks, struct err *err)
{
    struct job job = {.model = workspace->model, .set = set, .options = options, .ranks = ranks};
    int result = prepare(&job, err);
    if (result == 0) {
        job.started = progress_now();
        progress_begin(&job.progress, "steps", job.optimizer.config.steps, options->quiet);
        job.progress.done = job.at.step;
        result = run(&job, err);
        if (result == 0)
            progress_end(&job.progress);
    }
    train_step_free(job.step);
    if (job.log)
        fclose(job.log);
    free(job.order);
    optimizer_done(&job.optimizer);
    return result;
}

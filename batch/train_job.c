#include "batch/train_job.h"

#include "batch/checkpoint.h"
#include "batch/digest.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/train_log.h"

#include <stdlib.h>
#include <xxhash.h>

struct job {
    struct workspace *workspace;
    const struct train_set *set;
    const struct train_options *options;
    struct ranks *ranks;
    uint8_t valid[DIGEST_SIZE]; /* of the impressions to validate on, if there are any */
    struct optimizer optimizer;
    struct train_step *step;
    struct checkpoint at;
    bool unsaved; /* the checkpoint on the disk is of another moment than `at` */
    uint32_t *order;
    struct progress progress;
    double started;
    size_t tokens;        /* since this process started */
    struct train_log log; /* rank 0's */
};

static int write_checkpoint(struct job *job, struct err *err)
{
    const char *out = job->options->out;
    int result = model_save(job->workspace->model, out, err);
    if (result == 0)
        result = checkpoint_save(out, &job->at, job->workspace->model, &job->optimizer, err);
    return result < 0 ? result : train_log_draw(&job->log, err);
}

/* Replicas that have come apart would train on without a sign of it: none of them becomes a checkpoint. */
static int save(struct job *job, struct err *err)
{
    const struct model *model = job->workspace->model;
    int result = 0;
    if (job->ranks->size > 1)
        result = ranks_same(job->ranks,
            XXH3_64bits(model->params, model->param_count * sizeof *model->params), "parameters", err);
    if (result == 0)
        result = ranks_agree(job->ranks, job->ranks->rank == 0 ? write_checkpoint(job, err) : 0, err);
    job->unsaved = result < 0;
    return result;
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
    job->unsaved = true;
    const double speed = (double)job->tokens / (progress_now() - job->started);
    const struct train_log_step line = {.step = job->at.step,
        .epoch = job->at.epoch,
        .loss = loss.nce + job->options->step.lambda * loss.sum,
        .nce = loss.nce,
        .sum = loss.sum,
        .norm = norm,
        .rate = job->options->adam.rate * optimizer_schedule(&job->optimizer.config, job->at.step),
        .tokens = loss.tokens,
        .encoded = loss.encoded,
        .tokens_per_second = speed};
    if (job->ranks->rank == 0)
        result = train_log_step(&job->log, &line, err);
    progress_note(&job->progress, "loss %.4f, L_NCE %.4f, L_sum %.2f, %.0f tokens/s", line.loss, line.nce,
        line.sum, speed);
    progress_add(&job->progress, 1);
    return result;
}

static int validate_here(struct job *job, struct err *err)
{
    const struct train_options *o = job->options;
    struct validation_state *state = &job->at.validation;
    struct eval_result found;
    int result = validation_run(
        state, &found, job->workspace, &o->validation, o->out, job->at.step, o->step.threads, err);
    if (result < 0)
        return result;
    progress_tell(&job->progress, "step %zu: validation AUC %.4f, MRR %.4f%s", job->at.step, found.mean.auc,
        found.mean.mrr, state->best_step == job->at.step ? ", the best so far" : "");
    result = train_log_validation(&job->log, state, &found, err);
    return result < 0 ? result : train_log_draw(&job->log, err);
}

/* The validation that is due after the step in hand, if there is one that was not done before. Rank 0 does it. */
static int validate(struct job *job, struct err *err)
{
    struct ranks *const ranks = job->ranks;
    struct validation_state *state = &job->at.validation;
    if (!validation_due(&job->options->validation, state, job->at.step, job->optimizer.config.steps))
        return 0;
    const double before = progress_now();
    int result = ranks_agree(ranks, ranks->rank == 0 ? validate_here(job, err) : 0, err);
    if (result == 0)
        result = ranks_share(ranks, state, sizeof *state, err);
    job->started += progress_now() - before; /* tokens a second are those of training */
    job->unsaved = true;
    return result;
}

static int stopped(struct job *job, struct err *err)
{
    const int result = job->unsaved ? save(job, err) : 0;
    return result < 0
               ? result
               : err_set(err, ERR_UNAVAILABLE, "stopped by a signal after step %zu of %zu; --resume goes on",
                     job->at.step, job->optimizer.config.steps);
}

/* The next step, in the order of its epoch. */
static int advance(struct job *job, struct err *err)
{
    int result = 0;
    if (job->at.next == 0 || job->order[0] == UINT32_MAX)
        result = train_set_shuffle(job->order, job->set, job->options->step.seed, job->at.epoch, err);
    if (result == 0)
        result = step(job, err);
    result = ranks_agree(job->ranks, result, err);
    if (result == 0 && job->at.next >= job->set->example_count) {
        job->at.next = 0;
        job->at.epoch++;
    }
    return result;
}

static int run(struct job *job, struct err *err)
{
    const size_t steps = job->optimizer.config.steps;
    for (;;) {
        bool stop = false;
        int result = validate(job, err);
        const bool last = job->at.step == steps;
        if (job->ranks->broken)
            return result;
        const bool complete = last && result == 0;
        const int asked = complete ? 0 : ranks_any(job->ranks, stop_asked(), &stop, result < 0 ? NULL : err);
        if (asked == 0 && stop)
            return stopped(job, err); /* whatever the validation has made of the signal */
        if (result == 0)
            result = asked;
        if (result == 0 && job->unsaved && (last || job->at.step % job->options->checkpoint_every == 0))
            result = save(job, err);
        if (result < 0 || last)
            return result;
        result = advance(job, err);
        if (result < 0)
            return result;
    }
}

/* What a run is: data, model and all settings that change its course. A checkpoint of another one is not resumed. Ranks
 * and threads change no more than the rounding of sums. */
static uint64_t identify(struct job *job)
{
    const struct train_options *o = job->options;
    const struct train_set *set = job->set;
    const struct validation_options *v = &o->validation;
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
    if (v->path) /* it changes no weights, but which of them are the best */
        hash =
            XXH3_64bits_withSeed(job->valid, sizeof job->valid, hash ^ v->every ^ (uint64_t)v->limit << 32);
    snprintf(job->at.run, sizeof job->at.run, "%016llx", (unsigned long long)hash);
    return hash;
}

size_t train_job_steps(const struct train_options *o, size_t examples)
{
    const size_t steps = (examples + o->batch - 1) / o->batch * o->epochs;
    return o->max_steps && o->max_steps < steps ? o->max_steps : steps;
}

/* What this rank needs; no meeting with the others. */
static int allocate(struct job *job, const struct train_step_options *step, struct err *err)
{
    const struct train_options *o = job->options;
    struct model *model = job->workspace->model;
    const size_t count = job->set->example_count;
    struct optimizer_config adam = o->adam;
    adam.steps = train_job_steps(o, count);
    int result = optimizer_init(&job->optimizer, model, &adam, err);
    if (result == 0 && o->validation.path)
        result = digest_file(job->valid, o->validation.path, err);
    if (result == 0 && o->validation.path)
        result = validation_check(job->workspace, &o->validation, o->quiet, err);
    if (result < 0)
        return result;
    job->order = malloc((count + 1) * sizeof *job->order);
    if (!job->order)
        return err_set(err, ERR_NOMEM, "out of memory");
    job->order[0] = UINT32_MAX; /* not drawn yet */
    return train_step_new(&job->step, model, job->set, &job->optimizer, step, job->ranks, err);
}

/* Rank 0 reads the checkpoint, and the others have it from there: OUT need not be on a disk that they see. */
static int resume(struct job *job, struct err *err)
{
    struct ranks *const ranks = job->ranks;
    const size_t size = job->workspace->model->param_count * sizeof(float);
    int result = 0;
    if (ranks->rank == 0)
        result = checkpoint_load(job->options->out, &job->at, job->workspace->model, &job->optimizer, err);
    if (result == -ERR_NOT_FOUND)
        result = 0; /* nothing to resume: a run from the start */
    result = ranks_agree(ranks, result, err);
    if (result == 0)
        result = ranks_share(ranks, &job->at, sizeof job->at, err);
    if (result == 0)
        result = ranks_share(ranks, job->workspace->model->params, size, err);
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

/* A run from the start keeps nothing of what another one left. */
static int open_log(struct job *job, struct err *err)
{
    const struct checkpoint *at = &job->at;
    const int result = at->step ? 0 : validation_clear(job->options->out, err);
    return result < 0 ? result
                      : train_log_open(&job->log, job->options->out, at->step, at->validation.step, err);
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
    struct job job = {.workspace = workspace, .set = set, .options = options, .ranks = ranks};
    int result = prepare(&job, err);
    if (result == 0) {
        job.started = progress_now();
        progress_begin(&job.progress, options->label ? options->label : "steps", job.optimizer.config.steps,
            options->quiet);
        job.progress.done = job.progress.before = job.at.step;
        job.progress.following = options->following * job.optimizer.config.steps;
        result = run(&job, err);
        if (result == 0)
            progress_end(&job.progress);
    }
    train_step_free(job.step);
    train_log_close(&job.log);
    free(job.order);
    optimizer_done(&job.optimizer);
    return result;
}

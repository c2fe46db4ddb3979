#include "batch/eval_job.h"

#include "batch/eval_chunk.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "core/file.h"
#include "core/score.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH_MOST = 64,       /* entries of a phase that a worker takes at once */
    CONTENT_TOKENS = 1024, /* and what they may cost */
    USER_TOKENS = 32768,
    SCORE_CANDIDATES = 4096,
    GATHER = 32 /* candidates whose blocks are brought together for one call of score_candidates() */
};

struct job;
struct worker;

/* One kind of work on entries 0 .. total - 1. `work` returns what it adds to the progress. */
struct phase {
    size_t (*cost)(const struct job *job, size_t index);
    ptrdiff_t (*work)(struct worker *worker, size_t first, size_t count, struct err *err);
    size_t budget;
};

struct worker {
    struct job *job;
    struct encoder *encoders[EVAL_SIDES];
    struct encode_user users[BATCH_MOST];
    struct encode_item *items;
    int32_t *summaries;
    float *b, *gate; /* of a batch of contents */
    float *gathered; /* GATHER blocks */
    double *scratch;
};

struct job {
    const struct workspace *workspace;
    size_t side_count; /* the workspace's dtype, and the reference where two are compared */
    enum linear_dtype dtypes[EVAL_SIDES];
    struct engine *engines[EVAL_SIDES];
    float *blocks[EVAL_SIDES]; /* content_count x 2n x d: B over G, as score_candidates() wants them */
    struct metrics_set metrics[EVAL_SIDES];
    struct eval_agreement agreement;
    size_t m, n, d;
    uint32_t *contents; /* indices into the news of those that occur as candidates */
    size_t content_count;
    uint32_t *slot; /* of each news item: its place in contents */
    struct eval_chunk chunk;
    size_t impressions; /* in the file */

    struct worker *workers;
    size_t worker_count;
    const struct phase *phase;
    size_t next, total; /* entries of the phase */
    pthread_mutex_t lock;
    struct progress progress;
    int result; /* the first failure; with err guarded by lock */
    struct err *err;
};

/* ---- what the workers do ---- */

static size_t content_cost(const struct job *job, size_t index)
{
    return workspace_item(job->workspace, job->contents[index]).count;
}

static int encode_blocks(struct worker *w, size_t side, size_t first, size_t count, struct err *err)
{
    const struct job *job = w->job;
    const size_t half = job->n * job->d;
    const int result = encode_contents(w->b, w->encoders[side], w->items, count, err);
    if (result < 0)
        return result;
    score_gate(w->gate, w->b, job->workspace->model->score_proj, count * job->n, job->d, w->scratch);
    for (size_t i = 0; i < count; i++) {
        float *block = job->blocks[side] + (first + i) * 2 * half;
        memcpy(block, w->b + i * half, half * sizeof *block);
        memcpy(block + half, w->gate + i * half, half * sizeof *block);
    }
    return 0;
}

static ptrdiff_t content_work(struct worker *w, size_t first, size_t count, struct err *err)
{
    const struct job *job = w->job;
    int result = 0;
    for (size_t i = 0; i < count; i++)
        w->items[i] = workspace_item(job->workspace, job->contents[first + i]);
    for (size_t side = 0; result == 0 && side < job->side_count; side++)
        result = encode_blocks(w, side, first, count, err);
    return result < 0 ? result : (ptrdiff_t)count;
}

static size_t user_cost(const struct job *job, size_t index)
{
    const size_t items = eval_chunk_items(&job->chunk, index);
    size_t tokens = 0;
    for (size_t k = 0; k < items; k++)
        tokens += workspace_item(job->workspace, eval_chunk_item(&job->chunk, index, k)).count;
    return tokens;
}

static ptrdiff_t user_work(struct worker *w, size_t first, size_t count, struct err *err)
{
    const struct job *job = w->job;
    const struct model_config *config = &job->workspace->model->config;
    struct encode_item *at = w->items;
    size_t rows = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t items = eval_chunk_items(&job->chunk, first + i);
        w->users[i] = (struct encode_user){
            .items = at, .item_count = items, .summary = w->summaries + i * config->max_summary_tokens};
        for (size_t k = 0; k < items; k++)
            *at++ = workspace_item(job->workspace, eval_chunk_item(&job->chunk, first + i, k));
        rows += job->chunk.rows_of[first + i];
    }
    int result = 0;
    for (size_t side = 0; result == 0 && side < job->side_count; side++)
        result = encode_users(
            job->chunk.sides[side].users + first * job->m * job->d, w->encoders[side], w->users, count, err);
    return result < 0 ? result : (ptrdiff_t)rows;
}

static size_t score_cost(const struct job *job, size_t index)
{
    return job->chunk.rows[index].count;
}

static int score_row(struct worker *w, size_t side, const struct eval_row *row, struct err *err)
{
    const struct job *job = w->job;
    const struct eval_chunk *chunk = &job->chunk;
    const size_t block = 2 * job->n * job->d;
    const uint32_t *candidates = chunk->candidates + row->first;
    float *scores = chunk->sides[side].scores + row->first;
    for (size_t done = 0; done < row->count; done += GATHER) {
        const size_t count = row->count - done < GATHER ? row->count - done : GATHER;
        for (size_t i = 0; i < count; i++)
            memcpy(w->gathered + i * block, job->blocks[side] + job->slot[candidates[done + i]] * block,
                block * sizeof *w->gathered);
        score_candidates(scores + done, chunk->sides[side].users + row->history * job->m * job->d,
            w->gathered, job->m, job->n, job->d, count, w->scratch);
    }
    for (size_t i = 0; i < row->count; i++)
        if (!isfinite(scores[i]))
            return err_set(err, ERR_INVALID, "impression %s: the model gives %s the score %g",
                chunk->text + row->id, id_map_get(&job->workspace->news.ids, candidates[i]),
                (double)scores[i]);
    metrics_order(chunk->sides[side].order + row->first, scores, row->count);
    return 0;
}

static ptrdiff_t score_work(struct worker *w, size_t first, size_t count, struct err *err)
{
    int result = 0;
    for (size_t i = first; result == 0 && i < first + count; i++)
        for (size_t side = 0; result == 0 && side < w->job->side_count; side++)
            result = score_row(w, side, &w->job->chunk.rows[i], err);
    return result;
}

static const struct phase encode_phase = {content_cost, content_work, CONTENT_TOKENS},
                          user_phase = {user_cost, user_work, USER_TOKENS},
                          score_phase = {score_cost, score_work, SCORE_CANDIDATES};

/* ---- the workers ---- */

/* The next entries that fit the phase's budget, at least one; their number, 0 when there are none left. */
static size_t take(struct job *job, size_t *first)
{
    size_t cost = 0;
    pthread_mutex_lock(&job->lock);
    *first = job->next;
    while (job->result == 0 && job->next < job->total && job->next - *first < BATCH_MOST) {
        cost += job->phase->cost(job, job->next);
        if (cost > job->phase->budget && job->next > *first)
            break;
        job->next++;
    }
    const size_t count = job->next - *first;
    pthread_mutex_unlock(&job->lock);
    return count;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct job *job = worker->job;
    struct err err = ERR_INIT;
    ptrdiff_t result = 0;
    for (size_t first, count; result >= 0 && (count = take(job, &first)) > 0;) {
        result = job->phase->work(worker, first, count, &err);
        if (result >= 0 && stop_asked())
            result = err_set(&err, ERR_UNAVAILABLE, "stopped by a signal");
        pthread_mutex_lock(&job->lock);
        if (result > 0)
            progress_add(&job->progress, (size_t)result);
        if (result < 0 && job->result == 0) {
            job->result = (int)result;
            if (job->err)
                *job->err = err;
        }
        pthread_mutex_unlock(&job->lock);
    }
    return NULL;
}

static int run(struct job *job, const struct phase *phase, size_t total)
{
    pthread_t *threads = calloc(job->worker_count, sizeof *threads);
    size_t started = 1; /* worker 0 is this thread; fewer than wanted is slower, not wrong */
    job->phase = phase;
    job->next = 0;
    job->total = total;
    while (threads && started < job->worker_count &&
           pthread_create(&threads[started], NULL, work, &job->workers[started]) == 0)
        started++;
    work(&job->workers[0]);
    for (size_t i = 1; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    return job->result;
}

static int worker_init(struct worker *w, struct job *job, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    const size_t rows = BATCH_MOST * job->n, gate = score_gate_scratch(rows, job->d),
                 score = score_scratch(job->m, job->n, job->d);
    w->job = job;
    w->items = calloc(BATCH_MOST * config->max_items, sizeof *w->items);
    w->summaries = calloc(BATCH_MOST * config->max_summary_tokens, sizeof *w->summaries);
    w->b = calloc(rows * job->d, sizeof *w->b);
    w->gate = calloc(rows * job->d, sizeof *w->gate);
    w->gathered = calloc(GATHER * 2 * job->n * job->d, sizeof *w->gathered);
    w->scratch = calloc(gate > score ? gate : score, sizeof *w->scratch);
    if (!w->items || !w->summaries || !w->b || !w->gate || !w->gathered || !w->scratch)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = 0;
    for (size_t side = 0; result == 0 && side < job->side_count; side++)
        result = encoder_new(&w->encoders[side], job->engines[side], err);
    return result;
}

static void worker_done(struct worker *w)
{
    for (size_t side = 0; side < EVAL_SIDES; side++)
        encoder_free(w->encoders[side]);
    free(w->items);
    free(w->summaries);
    free(w->b);
    free(w->gate);
    free(w->gathered);
    free(w->scratch);
}

/* ---- the job ---- */

/* Read the file once: how many impressions it has, and which contents. */
static int survey(struct job *job, struct impressions *impressions, bool quiet, struct err *err)
{
    const size_t news = job->workspace->news.ids.count;
    const uint32_t absent = UINT32_MAX;
    size_t dropped = 0;
    job->slot = malloc((news + 1) * sizeof *job->slot);
    job->contents = malloc((news + 1) * sizeof *job->contents);
    if (!job->slot || !job->contents)
        return err_set(err, ERR_NOMEM, "out of memory");
    memset(job->slot, 0xff, news * sizeof *job->slot);
    int result;
    while ((result = impressions_next(impressions, err)) > 0) {
        const struct impression *row = &impressions->row;
        dropped += row->history_asked - row->history_count;
        for (size_t i = 0; i < row->candidate_count; i++) {
            if (job->slot[row->candidates[i]] != absent)
                continue;
            job->slot[row->candidates[i]] = (uint32_t)job->content_count;
            job->contents[job->content_count++] = row->candidates[i];
        }
    }
    job->impressions = impressions->count;
    if (result == 0 && !job->impressions)
        result = err_set(err, ERR_INVALID, "%s: no impressions", impressions->options.path);
    if (result < 0)
        return result;
    progress_say(quiet, "%zu impressions of %zu contents, %zu history ids without a text left out",
        job->impressions, job->content_count, dropped);
    return impressions_rewind(impressions, err);
}

static int prepare(struct job *job, long threads, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t count = (size_t)(threads > 0 ? threads : cores > 0 ? cores : 1);
    int result = eval_chunk_init(&job->chunk, config, job->side_count, err);
    for (size_t side = 0; result == 0 && side < job->side_count; side++) {
        job->blocks[side] = calloc(job->content_count, 2 * job->n * job->d * sizeof *job->blocks[side]);
        if (!job->blocks[side])
            return err_set(
                err, ERR_NOMEM, "out of memory for the matrices of %zu contents", job->content_count);
        result = engine_new(&job->engines[side], job->workspace->model, job->dtypes[side], NULL, err);
    }
    job->workers = result == 0 ? calloc(count, sizeof *job->workers) : NULL;
    if (result == 0 && !job->workers)
        return err_set(err, ERR_NOMEM, "out of memory");
    while (result == 0 && job->worker_count < count)
        result = worker_init(&job->workers[job->worker_count++], job, err);
    return result;
}

/* `impid [r1,r2,...]`: the rank of each candidate in the row's order. ranks has room for them. */
static void write_prediction(
    FILE *stream, const struct eval_chunk *chunk, const struct eval_row *row, uint32_t *ranks)
{
    for (size_t k = 0; k < row->count; k++)
        ranks[chunk->sides[0].order[row->first + k]] = (uint32_t)k + 1;
    fprintf(stream, "%s [", chunk->text + row->id);
    for (size_t i = 0; i < row->count; i++)
        fprintf(stream, "%s%" PRIu32, i ? "," : "", ranks[i]);
    fputs("]\n", stream);
}

/* How far the two sides' contents agree, in their order, for the same reason as account(). */
static void account_contents(struct job *job)
{
    const size_t half = job->n * job->d;
    for (size_t i = 0; job->side_count == 2 && i < job->content_count; i++)
        eval_errors_add(
            &job->agreement.contents, job->blocks[0] + 2 * i * half, job->blocks[1] + 2 * i * half, half);
}

/* The same of a chunk's users and rankings. A history that occurs in several chunks counts in each. */
static int account_agreement(struct job *job, struct err *err)
{
    const struct eval_chunk *chunk = &job->chunk;
    const struct eval_side *found = &chunk->sides[0], *reference = &chunk->sides[1];
    const size_t size = job->m * job->d;
    int result = 0;
    for (size_t i = 0; i < chunk->histories.count; i++)
        eval_errors_add(&job->agreement.users, found->users + i * size, reference->users + i * size, size);
    for (size_t i = 0; result == 0 && i < chunk->row_count; i++) {
        const size_t first = chunk->rows[i].first, count = chunk->rows[i].count;
        eval_errors_add(&job->agreement.scores, found->scores + first, reference->scores + first, count);
        result =
            eval_agreement_rank(&job->agreement, found->order + first, reference->order + first, count, err);
    }
    return result;
}

/* The chunk's rankings, in the order of the file, so that sums do not depend on the threads. */
static int account(struct job *job, FILE *predictions, struct err *err)
{
    const struct eval_chunk *chunk = &job->chunk;
    uint32_t *ranks = predictions ? malloc(chunk->candidate_count * sizeof *ranks) : NULL;
    int result = predictions && !ranks ? err_set(err, ERR_NOMEM, "out of memory") : 0;
    for (size_t i = 0; result == 0 && i < chunk->row_count; i++) {
        const struct eval_row *row = &chunk->rows[i];
        const uint8_t *labels = row->labelled ? chunk->labels + row->first : NULL;
        for (size_t s = 0; result == 0 && s < job->side_count; s++)
            result = metrics_set_add(&job->metrics[s], chunk->sides[s].scores + row->first, labels,
                chunk->sides[s].order + row->first, row->count, err);
        if (predictions)
            write_prediction(predictions, chunk, row, ranks);
    }
    free(ranks);
    return result == 0 && job->side_count == 2 ? account_agreement(job, err) : result;
}

static int rank_all(
    struct job *job, struct impressions *impressions, FILE *predictions, bool quiet, struct err *err)
{
    ptrdiff_t rows;
    progress_begin(&job->progress, "contents", job->content_count, quiet);
    int result = run(job, &encode_phase, job->content_count);
    if (result < 0)
        return result;
    progress_end(&job->progress);
    account_contents(job);
    progress_begin(&job->progress, "impressions", job->impressions, quiet);
    while ((rows = eval_chunk_read(&job->chunk, &job->workspace->model->config, impressions, err)) > 0) {
        result = run(job, &user_phase, job->chunk.histories.count);
        if (result == 0)
            result = run(job, &score_phase, job->chunk.row_count);
        if (result == 0)
            result = account(job, predictions, err);
        if (result < 0)
            return result;
    }
    if (rows < 0)
        return (int)rows;
    progress_end(&job->progress);
    if (impressions->count != job->impressions)
        return err_set(err, ERR_INVALID, "%s changed while it was read", impressions->options.path);
    return 0;
}

static void job_done(struct job *job)
{
    for (size_t i = 0; i < job->worker_count; i++)
        worker_done(&job->workers[i]);
    free(job->workers);
    for (size_t side = 0; side < EVAL_SIDES; side++) {
        engine_free(job->engines[side]);
        free(job->blocks[side]);
        metrics_set_done(&job->metrics[side]);
    }
    free(job->contents);
    free(job->slot);
    eval_chunk_done(&job->chunk);
    eval_agreement_done(&job->agreement);
    pthread_mutex_destroy(&job->lock);
}

static struct eval_result result_of(struct job *job, size_t side)
{
    struct metrics_set *set = &job->metrics[side];
    return (struct eval_result){.impressions = job->impressions,
        .skipped = set->skipped,
        .mean = metrics_set_mean(set),
        .auc_pooled = metrics_set_auc_pooled(set)};
}

static int job_run(struct job *job, const struct eval_options *options, struct err *err)
{
    const struct workspace *workspace = job->workspace;
    const struct model_config *config = &workspace->model->config;
    struct impressions impressions;
    struct file_replacement file = {0};
    int result = impressions_open(&impressions, &options->impressions, &workspace->news, err);
    if (result < 0)
        return result;
    job->m = model_m(config);
    job->n = model_n(config);
    job->d = config->d_model;
    job->err = err;
    result = survey(job, &impressions, options->quiet, err);
    if (result == 0)
        result = prepare(job, options->threads, err);
    if (result == 0 && options->predictions)
        result = file_replace_begin(&file, options->predictions, err);
    if (result == 0)
        result = rank_all(job, &impressions, file.stream, options->quiet, err);
    if (file.stream && result < 0)
        file_replace_abort(&file);
    else if (file.stream)
        result = file_replace_commit(&file, err);
    impressions_close(&impressions);
    return result;
}

int eval_job(struct eval_result *out, const struct workspace *workspace, const struct eval_options *options,
    struct err *err)
{
    struct job job = {.workspace = workspace, .side_count = 1, .dtypes = {workspace->dtype}};
    pthread_mutex_init(&job.lock, NULL);
    const int result = job_run(&job, options, err);
    if (result == 0)
        *out = result_of(&job, 0);
    job_done(&job);
    return result;
}

int eval_job_against(struct eval_comparison *out, const struct workspace *workspace,
    enum linear_dtype reference, const struct eval_options *options, struct err *err)
{
    struct job job = {.workspace = workspace, .side_count = 2, .dtypes = {workspace->dtype, reference}};
    pthread_mutex_init(&job.lock, NULL);
    const int result = job_run(&job, options, err);
    if (result == 0) {
        out->found = result_of(&job, 0);
        out->reference = result_of(&job, 1);
        out->agreement = job.agreement;
        job.agreement = (struct eval_agreement){0};
    }
    job_done(&job);
    return result;
}

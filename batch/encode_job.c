#include "batch/encode_job.h"

#include "batch/progress.h"
#include "batch/stop.h"
#include "core/array.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONTENT_TOKENS = 1024, /* of a batch of contents */
    USER_TOKENS = 65536,   /* of a batch of users: 8 long ones share the reading of the decoder's weights */
    USER_MOST = 64
};

struct job {
    const struct workspace *workspace;
    struct engine *engine;
    const struct encode_sink *sink;
    const struct encode_request *request;
    bool users;           /* this pass encodes users, else contents */
    const uint32_t *list; /* of the pass */
    size_t total;
    size_t next;   /* the first that nobody has taken */
    size_t window; /* the most items that a history can use */
    pthread_mutex_t take, give;
    struct progress progress;
    struct encode_done *done; /* guarded by give */
    int result;               /* the first failure; guarded by give */
    struct err *err;
};

struct batch {
    size_t first, count; /* places in the list */
    struct encode_user users[USER_MOST];
    struct encode_item *items; /* of the users, or the contents */
    size_t item_count;
    int32_t *tokens; /* of all items */
    size_t token_count, token_size;
    struct workspace_scratch scratch;
    int32_t *summaries;
    float *out;
};

/* Put an entry's items and their tokens behind those that the batch has; *count = how many items that are. */
static int add_entry(size_t *count, const struct job *job, struct batch *batch, size_t index, struct err *err)
{
    const uint32_t content = (uint32_t)index, *items = &content;
    const size_t most = text_item_max(&job->workspace->model->config);
    *count = 1;
    if (job->users)
        items = workspace_window(job->workspace, index, count);
    for (size_t i = 0; i < *count; i++) {
        size_t *const tokens = &batch->items[batch->item_count].count;
        int result = array_grow(
            &batch->tokens, &batch->token_size, batch->token_count + most, sizeof *batch->tokens, err);
        if (result == 0)
            result = workspace_tokens(
                job->workspace, items[i], batch->tokens + batch->token_count, tokens, &batch->scratch, err);
        if (result < 0)
            return result;
        batch->token_count += *tokens;
        batch->item_count++;
    }
    return 0;
}

/* The news' or the user's index at a place of the list. */
static size_t index_at(const struct job *job, size_t place)
{
    return job->list ? job->list[place] : place;
}

/* Take the next entries whose tokens fit a batch, at least one; none is the end. The one that did not fit is asked for again
 * by who comes next, and then its tokens are found. */
static int take(struct job *job, struct batch *batch, struct err *err)
{
    const size_t budget = job->users ? USER_TOKENS : CONTENT_TOKENS;
    int result = 0;
    batch->count = batch->item_count = batch->token_count = 0;
    pthread_mutex_lock(&job->take);
    batch->first = job->next;
    while (job->next < job->total && batch->count < USER_MOST) {
        size_t items;
        result = add_entry(&items, job, batch, index_at(job, job->next), err);
        if (result < 0 || (batch->token_count > budget && batch->count))
            break;
        batch->users[batch->count++].item_count = items;
        job->next++;
    }
    pthread_mutex_unlock(&job->take);
    const int32_t *at = batch->tokens; /* which has moved as it grew */
    for (size_t i = 0; i < batch->item_count; at += batch->items[i++].count)
        batch->items[i].ids = at;
    return result;
}

static int encode_batch(struct job *job, struct batch *batch, struct encoder *encoder, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    const struct encode_item *at = batch->items;
    if (!job->users)
        return encode_contents(batch->out, encoder, batch->items, batch->count, err);
    for (size_t i = 0; i < batch->count; at += batch->users[i++].item_count) {
        batch->users[i].items = at;
        batch->users[i].summary = batch->summaries + i * config->max_summary_tokens;
    }
    return encode_users(batch->out, encoder, batch->users, batch->count, err);
}

static int give(struct job *job, const struct batch *batch, const struct encoder *encoder, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    const size_t rows = job->users ? model_m(config) : model_n(config), size = rows * config->d_model;
    const struct encode_sink *sink = job->sink;
    int result = 0;
    for (size_t i = 0; result == 0 && i < batch->count; i++) {
        const float *matrix = batch->out + i * size;
        const size_t index = index_at(job, batch->first + i);
        struct encode_weights all = {.codes = rows}, *weights = job->request->weights ? &all : NULL;
        if (weights)
            all.at = encoder_weights(encoder, i, &all.rows);
        all.tokens = job->users ? NULL : batch->items[i].ids;
        if (job->users)
            result = sink->user(sink->ctx, index, workspace_user_inputs(job->workspace, index), matrix,
                &batch->users[i], weights, err);
        else
            result = sink->content(
                sink->ctx, index, workspace_content_inputs(job->workspace, index), matrix, weights, err);
    }
    return result;
}

static int batch_init(struct batch *batch, const struct job *job, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    const size_t rows = job->users ? model_m(config) : model_n(config);
    *batch = (struct batch){0};
    batch->items = calloc(USER_MOST * (job->users ? job->window + 1 : 1), sizeof *batch->items);
    batch->summaries = calloc(USER_MOST * config->max_summary_tokens, sizeof *batch->summaries);
    batch->out = calloc(USER_MOST * rows * config->d_model, sizeof *batch->out);
    if (batch->items && batch->summaries && batch->out)
        return 0;
    return err_set(err, ERR_NOMEM, "out of memory");
}

static void batch_done(struct batch *batch)
{
    workspace_scratch_done(&batch->scratch);
    free(batch->items);
    free(batch->tokens);
    free(batch->summaries);
    free(batch->out);
}

static bool in_time(const struct job *job)
{
    return job->request->until <= 0 || progress_now() < job->request->until;
}

static void *work(void *argument)
{
    struct job *job = argument;
    struct batch batch = {0};
    struct encoder *encoder = NULL;
    struct err err = ERR_INIT;
    int result = encoder_new(&encoder, job->engine, &err);
    if (result == 0)
        result = batch_init(&batch, job, &err);
    if (result == 0) {
        encoder_set_cache(encoder, job->request->cache);
        encoder_keep_weights(encoder, job->request->weights);
    }
    uint64_t tokens = 0;
    bool going = true;
    while (going && result == 0 && in_time(job) && (result = take(job, &batch, &err)) == 0 && batch.count) {
        result = encode_batch(job, &batch, encoder, &err);
        pthread_mutex_lock(&job->give);
        if (result == 0 && job->result == 0) {
            result = give(job, &batch, encoder, &err);
            progress_add(&job->progress, batch.count);
            *(job->users ? &job->done->users : &job->done->contents) += batch.count;
            job->done->tokens += encoder_tokens(encoder) - tokens;
            tokens = encoder_tokens(encoder);
        }
        going = job->result == 0;
        if (going && result == 0 && stop_asked())
            result = err_set(&err, ERR_UNAVAILABLE, "stopped by a signal");
        pthread_mutex_unlock(&job->give);
    }
    if (result < 0) {
        pthread_mutex_lock(&job->give);
        if (job->result == 0) {
            job->result = result;
            if (job->err)
                *job->err = err;
        }
        pthread_mutex_unlock(&job->give);
    }
    batch_done(&batch);
    encoder_free(encoder);
    return NULL;
}

static int run_threads(struct job *job, size_t threads)
{
    pthread_t *others = calloc(threads, sizeof *others);
    size_t started = 0;
    while (others && started + 1 < threads && pthread_create(&others[started], NULL, work, job) == 0)
        started++;
    work(job); /* this thread is one of them; fewer than wanted is slower, not wrong */
    for (size_t i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    free(others);
    return job->result;
}

static int run_pass(struct job *job, const char *what, bool users, size_t threads)
{
    const struct encode_request *request = job->request;
    job->users = users;
    job->list = users ? request->users : request->contents;
    job->total = users ? request->user_count : request->content_count;
    job->next = 0;
    if (!job->total)
        return 0;
    progress_begin(&job->progress, what, job->total, request->quiet);
    const int result = run_threads(job, threads);
    if (result == 0)
        progress_end(&job->progress);
    job->done->in_time = job->done->in_time && job->next == job->total;
    return result;
}

int encode_job(struct encode_done *done, const struct workspace *workspace, const struct encode_sink *sink,
    const struct encode_request *request, struct err *err)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t threads = (size_t)(request->threads > 0 ? request->threads : cores > 0 ? cores : 1);
    struct job job = {.workspace = workspace,
        .sink = sink,
        .request = request,
        .done = done,
        .err = err,
        .window = workspace->model->config.max_items};
    *done = (struct encode_done){.in_time = true};
    if (!request->content_count && !request->user_count)
        return 0;
    int result = engine_new(&job.engine, workspace->model, workspace->dtype, NULL, err);
    if (result < 0)
        return result;
    pthread_mutex_init(&job.take, NULL);
    pthread_mutex_init(&job.give, NULL);
    result = run_pass(&job, "contents", false, threads);
    if (result == 0)
        result = run_pass(&job, "users", true, threads);
    pthread_mutex_destroy(&job.take);
    pthread_mutex_destroy(&job.give);
    engine_free(job.engine);
    return result;
}

#include "batch/encode_job.h"

#include "batch/progress.h"
#include "batch/stop.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CONTENT_TOKENS = 1024, /* of a batch of contents */
    USER_TOKENS = 8192,    /* of a batch of users: bounds the decoder's keys and values */
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
    struct encode_item *items; /* of the users, or of the contents */
    int32_t *summaries;
    float *out;
};

/* The part of a user's history that is used; the default user's is empty. */
static const uint32_t *window(const struct job *job, size_t user, size_t *count)
{
    const struct histories *h = &job->workspace->histories;
    *count = 0;
    if (user >= h->users.count)
        return NULL;
    const size_t start = text_window_start(&job->workspace->model->config, h->history[user].count);
    *count = h->history[user].count - start;
    return h->history[user].items + start;
}

/* The news' or the user's index at a place of the list. */
static size_t index_at(const struct job *job, size_t place)
{
    return job->list ? job->list[place] : place;
}

static size_t tokens_of(const struct job *job, size_t index)
{
    if (!job->users)
        return workspace_item(job->workspace, index).count;
    size_t count, tokens = 0;
    const uint32_t *items = window(job, index, &count);
    for (size_t i = 0; i < count; i++)
        tokens += workspace_item(job->workspace, items[i]).count;
    return tokens;
}

/* Take the next entries whose tokens fit a batch, at least one. False when there are none left. */
static bool take(struct job *job, struct batch *batch)
{
    const size_t budget = job->users ? USER_TOKENS : CONTENT_TOKENS;
    pthread_mutex_lock(&job->take);
    size_t tokens = 0;
    batch->first = job->next;
    while (job->next < job->total && job->next - batch->first < USER_MOST) {
        tokens += tokens_of(job, index_at(job, job->next));
        if (tokens > budget && job->next > batch->first)
            break;
        job->next++;
    }
    batch->count = job->next - batch->first;
    pthread_mutex_unlock(&job->take);
    return batch->count > 0;
}

static int encode_content_batch(
    struct job *job, struct batch *batch, struct encoder *encoder, struct err *err)
{
    for (size_t i = 0; i < batch->count; i++)
        batch->items[i] = workspace_item(job->workspace, index_at(job, batch->first + i));
    return encode_contents(batch->out, encoder, batch->items, batch->count, err);
}

static int encode_user_batch(struct job *job, struct batch *batch, struct encoder *encoder, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    struct encode_item *at = batch->items;
    for (size_t i = 0; i < batch->count; i++) {
        size_t count;
        const uint32_t *history = window(job, index_at(job, batch->first + i), &count);
        batch->users[i] = (struct encode_user){
            .items = at, .item_count = count, .summary = batch->summaries + i * config->max_summary_tokens};
        for (size_t k = 0; k < count; k++)
            *at++ = workspace_item(job->workspace, history[k]);
    }
    return encode_users(batch->out, encoder, batch->users, batch->count, err);
}

static int give(struct job *job, const struct batch *batch, struct err *err)
{
    const struct model_config *config = &job->workspace->model->config;
    const size_t rows = job->users ? model_m(config) : model_n(config), size = rows * config->d_model;
    const struct encode_sink *sink = job->sink;
    int result = 0;
    for (size_t i = 0; result == 0 && i < batch->count; i++) {
        const float *matrix = batch->out + i * size;
        const size_t index = index_at(job, batch->first + i);
        if (job->users) {
            const struct encode_user *user = &batch->users[i];
            result =
                sink->user(sink->ctx, index, workspace_user_inputs(job->workspace, index), matrix, user, err);
        } else {
            result =
                sink->content(sink->ctx, index, workspace_content_inputs(job->workspace, index), matrix, err);
        }
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
    free(batch->items);
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
    if (result == 0)
        encoder_set_cache(encoder, job->request->cache);
    uint64_t tokens = 0;
    bool going = true;
    while (going && result == 0 && in_time(job) && take(job, &batch)) {
        result = job->users ? encode_user_batch(job, &batch, encoder, &err)
                            : encode_content_batch(job, &batch, encoder, &err);
        pthread_mutex_lock(&job->give);
        if (result == 0 && job->result == 0) {
            result = give(job, &batch, &err);
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

#include "batch/worker.h"

#include "batch/farm_job.h"
#include "batch/progress.h"
#include "batch/stop.h"
#include "batch/worker_int.h"
#include "core/text.h"
#include "store/store_work.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLL_MS = 100, POLL_MOST_MS = 800, DELIVERIES_MOST = 5 };

struct worker {
    const struct worker_options *options;
    struct store *store;
    struct worker_hands hands; /* of the thread that looks for jobs */
    struct workspace workspace;
    bool loaded; /* the workspace and the engine are there */
    struct engine *engine;
    struct farm_job job;
    uint64_t unfit;       /* the job that was told to be of another model; 0: none */
    pthread_mutex_t lock; /* of what follows */
    struct worker_done *done;
    double busy;    /* progress_now() at which the last unit was taken or done */
    bool over;      /* the job's queue is gone */
    size_t working; /* threads that are not at their end */
    int result;     /* the first failure */
    struct err *err;
};

struct thread {
    struct worker *worker;
    char name[112];                     /* by which it takes units */
    int pause_ms;                       /* before it asks again; longer each time that there was none */
    char place[STORE_CURSOR_MAX];       /* of the unit in hand; "": none; guarded by the worker's lock */
    char written[STORE_GENERATION_MAX]; /* at its end: where it has written last */
    pthread_t thread;
};

/* ---- when to end ---- */

static bool idle_for_too_long(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const bool idle = w->options->max_idle > 0 && progress_now() > w->busy + w->options->max_idle;
    pthread_mutex_unlock(&w->lock);
    return idle;
}

static bool ends(struct worker *w)
{
    return stop_asked() || idle_for_too_long(w);
}

/* ---- one unit ---- */

struct taken {
    char place[STORE_CURSOR_MAX];
    uint64_t deliveries;
    struct unit unit;
    int read; /* what became of reading it */
    bool any;
    struct err *err;
};

/* place: "" for nothing in hand */
static void hold(struct thread *thread, const char *place)
{
    pthread_mutex_lock(&thread->worker->lock);
    strcpy(thread->place, place);
    pthread_mutex_unlock(&thread->worker->lock);
}

static int take_unit(void *ctx, const struct store_unit *unit)
{
    struct taken *const taken = ctx;
    taken->any = true;
    taken->deliveries = unit->deliveries;
    strcpy(taken->place, unit->place);
    taken->read = unit_read(&taken->unit, unit->data, unit->len, taken->err);
    return taken->read == -ERR_CORRUPT ? 0 : taken->read;
}

/* Nothing comes of it that anybody waits for. */
static int give_up(struct worker_hands *hands, const struct taken *taken, struct err *err)
{
    int result;
    progress_say(false, "%s", err->message);
    do
        result = store_work_done(hands->link, taken->place, "", 0, err);
    while (worker_again(hands, result, err));
    return result == -ERR_NOT_FOUND ? 0 : result;
}

static int report(struct worker *w, struct worker_hands *hands, const struct taken *taken, size_t tokens,
    double seconds, struct err *err)
{
    const struct unit_head *head = &taken->unit.head;
    const struct unit_result done = {
        head->job, head->number, tokens, seconds, hands->refused, hands->refused_count};
    char *text = unit_result_write(&done);
    int result = text ? 0 : err_set(err, ERR_NOMEM, "out of memory");
    if (text)
        do
            result = store_work_done(hands->link, taken->place, text, strlen(text), err);
        while (worker_again(hands, result, err));
    free(text);
    if (result < 0 && result != -ERR_NOT_FOUND) /* not found: somebody was faster */
        return result;
    pthread_mutex_lock(&w->lock);
    w->busy = progress_now();
    w->done->units++;
    *(head->kind == BLOB_USER ? &w->done->users : &w->done->contents) += taken->unit.count;
    w->done->tokens += tokens;
    pthread_mutex_unlock(&w->lock);
    return 0;
}

static int do_unit(struct worker *w, struct worker_hands *hands, const struct taken *taken, struct err *err)
{
    const double start = progress_now();
    char why[96];
    size_t tokens = 0;
    const struct model_config *config = &w->workspace.model->config;
    int result = unit_fits(&taken->unit, config, text_item_max(config), err);
    snprintf(why, sizeof why, "%" PRIu64 " workers took it and none gave it back", taken->deliveries - 1);
    if (result < 0)
        result = worker_refuse(hands, &taken->unit, err->message, err);
    else if (taken->deliveries > DELIVERIES_MOST)
        result = worker_refuse(hands, &taken->unit, why, err);
    else
        result = worker_unit(hands, &taken->unit, &tokens, err);
    if (result == -ERR_NOT_FOUND)
        return give_up(hands, taken, err);
    if (result == 0)
        result = report(w, hands, taken, tokens, progress_now() - start, err);
    worker_forget_refused(hands);
    return result;
}

/* 1: the job is over. A unit of another model is of a queue that has taken the place of ours. */
static int take_one(struct thread *thread, struct worker_hands *hands, struct err *err)
{
    struct worker *w = thread->worker;
    struct taken taken = {.err = err};
    int result = store_work_take(hands->link, thread->name, w->job.silent_ms, take_unit, &taken, err);
    if (worker_again(hands, result, err))
        return 0;
    if (result == -ERR_NOT_FOUND)
        return 1;
    if (result < 0)
        return result;
    if (!taken.any) {
        poll(NULL, 0, thread->pause_ms);
        thread->pause_ms = 2 * thread->pause_ms < POLL_MOST_MS ? 2 * thread->pause_ms : POLL_MOST_MS;
        result = worker_tidy(hands, err);
        return worker_again(hands, result, err) ? 0 : result;
    }
    thread->pause_ms = POLL_MS;
    if (taken.read < 0)
        return give_up(hands, &taken, err);
    const bool ours = taken.unit.head.settings == w->workspace.model_hash;
    hold(thread, taken.place);
    result = ours ? do_unit(w, hands, &taken, err) : 1;
    hold(thread, "");
    unit_done(&taken.unit);
    return result;
}

/* ---- threads ---- */

static bool goes_on(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    const bool on = !w->over && w->result == 0;
    pthread_mutex_unlock(&w->lock);
    return on && !ends(w);
}

static void *work(void *argument)
{
    struct thread *thread = argument;
    struct worker *w = thread->worker;
    struct worker_hands hands = {.workspace = &w->workspace};
    struct err err = ERR_INIT;
    int result = store_connect(&hands.link, w->store, &err);
    if (result == 0)
        result = encoder_new(&hands.encoder, w->engine, &err);
    while (result == 0 && goes_on(w))
        result = take_one(thread, &hands, &err);
    if (result == -ERR_UNAVAILABLE && stop_asked()) /* its unit goes to another */
        result = 0;
    pthread_mutex_lock(&w->lock);
    w->working--;
    w->over |= result == 1;
    if (result < 0 && w->result == 0) {
        w->result = result;
        if (w->err)
            *w->err = err;
    }
    pthread_mutex_unlock(&w->lock);
    strcpy(thread->written, hands.written);
    worker_forget_refused(&hands);
    encoder_free(hands.encoder);
    store_disconnect(hands.link);
    return NULL;
}

/* Until the threads have ended: say for each what it has in hand, so that only who is gone is silent. */
static void keep_units(struct worker *w, struct thread *threads, size_t count)
{
    double next = 0;
    for (size_t working = 1; working; poll(NULL, 0, POLL_MS)) {
        const bool due = progress_now() >= next;
        for (size_t i = 0; due && i < count; i++) {
            char place[STORE_CURSOR_MAX];
            pthread_mutex_lock(&w->lock);
            strcpy(place, threads[i].place);
            pthread_mutex_unlock(&w->lock);
            if (*place)
                store_work_keep(w->hands.link, threads[i].name, place, NULL);
        }
        if (due) {
            worker_tidy(&w->hands, NULL);
            next = progress_now() + w->job.silent_ms / 4000.0;
        }
        pthread_mutex_lock(&w->lock);
        working = w->working;
        pthread_mutex_unlock(&w->lock);
    }
}

static int run_threads(struct worker *w)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t count = (size_t)(w->options->threads > 0 ? w->options->threads : cores > 0 ? cores : 1);
    struct thread *threads = calloc(count, sizeof *threads);
    char host[64] = "";
    size_t started = 0;
    if (!threads)
        return err_set(w->err, ERR_NOMEM, "out of memory");
    gethostname(host, sizeof host - 1);
    w->over = false;
    w->working = count;
    for (; started < count; started++) {
        struct thread *thread = &threads[started];
        thread->worker = w;
        thread->pause_ms = POLL_MS;
        snprintf(thread->name, sizeof thread->name, "%s-%ld-%zu", host, (long)getpid(), started);
        if (pthread_create(&thread->thread, NULL, work, thread) != 0)
            break; /* fewer than wanted is slower, not wrong */
    }
    pthread_mutex_lock(&w->lock);
    w->working -= count - started;
    pthread_mutex_unlock(&w->lock);
    keep_units(w, threads, started);
    for (size_t i = 0; i < started; i++) {
        pthread_join(threads[i].thread, NULL);
        if (*threads[i].written) { /* of one job, and of one generation */
            strcpy(w->hands.written, threads[i].written);
            w->hands.written_at = progress_now();
        }
    }
    free(threads);
    return started ? w->result : err_set(w->err, ERR_NOMEM, "no thread can be started");
}

/* ---- jobs ---- */

static void unload(struct worker *w)
{
    if (w->loaded) {
        engine_free(w->engine);
        workspace_close(&w->workspace);
    }
    w->engine = NULL;
    w->loaded = false;
}

static int load(struct worker *w, struct err *err)
{
    unload(w);
    int result = workspace_open_model(&w->workspace, w->options->model, w->job.dtype, err);
    if (result < 0)
        return result;
    w->loaded = true;
    return engine_new(&w->engine, w->workspace.model, w->job.dtype, NULL, err);
}

/* Is the folder's model the job's? 0, or ERR_INVALID, which names both. */
static int fit(struct worker *w, struct err *err)
{
    if (w->loaded && w->engine && w->workspace.model_hash == w->job.settings)
        return 0;
    const int result = load(w, err);
    if (result < 0 || w->workspace.model_hash == w->job.settings)
        return result;
    return err_set(err, ERR_INVALID,
        "the work in the store is for the model %.16s (settings %016" PRIx64 "), %s holds %.16s (%016" PRIx64
        ")",
        w->job.model_sha256, w->job.settings, w->options->model, w->workspace.model_sha256,
        (uint64_t)w->workspace.model_hash);
}

/* Look for a job. 0: there is one that fits; 1: not yet. */
static int look(struct worker *w, struct err *err)
{
    struct farm_job job;
    char *text = NULL;
    int result = store_work_job(w->hands.link, &text, err);
    if (worker_again(&w->hands, result, err) || result == -ERR_NOT_FOUND)
        return 1;
    if (result == 0)
        result = farm_job_read(&job, text, err);
    free(text);
    if (result == 0 && w->unfit && job.number == w->unfit)
        return 1;
    if (result < 0)
        return result;
    w->job = job;
    result = fit(w, err);
    if (result != -ERR_INVALID || !w->options->wait)
        return result;
    progress_say(false, "waiting for work that fits: %s", err->message);
    w->unfit = job.number;
    return 1;
}

static int run_jobs(struct worker *w, struct err *err)
{
    int result = 0;
    while (result == 0 && !ends(w)) {
        result = look(w, err);
        if (result == 1) {
            result = 0;
            worker_tidy(&w->hands, NULL);
            poll(NULL, 0, POLL_MS);
            continue;
        }
        const struct worker_done before = *w->done;
        const double start = progress_now();
        if (result == 0) {
            progress_say(w->options->quiet, "taking work for generation %s", w->job.generation);
            result = run_threads(w);
        }
        if (w->done->units > before.units)
            progress_say(w->options->quiet, "%zu contents, %zu users, %zu tokens in %.1f s",
                w->done->contents - before.contents, w->done->users - before.users,
                w->done->tokens - before.tokens, progress_now() - start);
    }
    return result;
}

int worker_run(
    struct worker_done *done, struct store *store, const struct worker_options *options, struct err *err)
{
    struct worker w = {.options = options, .store = store, .done = done, .busy = progress_now(), .err = err};
    *done = (struct worker_done){0};
    pthread_mutex_init(&w.lock, NULL);
    int result = store_connect(&w.hands.link, store, err);
    if (result == 0)
        result = run_jobs(&w, err);
    if (result == -ERR_UNAVAILABLE && stop_asked())
        result = 0;
    unload(&w);
    store_disconnect(w.hands.link);
    pthread_mutex_destroy(&w.lock);
    return result;
}

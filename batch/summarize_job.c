#include "batch/summarize_job.h"

#include "batch/progress.h"
#include "batch/stop.h"
#include "core/rng.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAILED_IN_ROW_MAX = 50, PAUSE_MAX_S = 3600, BACK_OFF_MAX_S = 60, PAUSE_TOLD_S = 1, POLL_MS = 250 };

enum slot_state { SLOT_IDLE, SLOT_ASKING, SLOT_WAITING };

struct slot {
    enum slot_state state;
    size_t user;     /* index into the set */
    size_t attempts; /* requests about this user so far */
    double due;      /* SLOT_WAITING: when to ask again */
};

struct job {
    const struct summarize_set *set;
    struct summary_log *log;
    struct chat *chat;
    struct slot *slots;
    size_t slot_count, busy; /* busy: not idle */
    size_t retries;
    size_t next; /* the first user of the set that no slot has had */
    size_t asking;
    double window; /* the most that may ask at a time: 1 ... slot_count */
    size_t failed_in_row;
    double paused_until; /* nobody asks before */
    struct rng rng;
    struct progress progress;
    struct summarize_figures *figures;
};

/* A line on stderr, also over a bar. */
static void tell(const struct job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(const struct job *job, const char *format, ...)
{
    va_list args;
    if (job->progress.terminal)
        fputs("\r\033[K", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- asking ---- */

static int ask(struct job *job, struct slot *slot, struct err *err)
{
    struct prompt prompt;
    int result = summarize_set_prompt(&prompt, job->set, slot->user, err);
    if (result < 0)
        return result;
    result = chat_ask(job->chat, (size_t)(slot - job->slots), &prompt, err);
    prompt_done(&prompt);
    if (result < 0)
        return result;
    job->figures->asked += slot->attempts == 0;
    job->figures->requests++;
    slot->attempts++;
    slot->state = SLOT_ASKING;
    job->asking++;
    return 0;
}

/* The slot that may ask now, or NULL: of those whose time has come the one with the earliest user. */
static struct slot *first_due(const struct job *job)
{
    const double now = progress_now();
    struct slot *first = NULL;
    if (now < job->paused_until || job->asking >= (size_t)job->window)
        return NULL;
    for (size_t i = 0; i < job->slot_count; i++) {
        struct slot *slot = &job->slots[i];
        if (slot->state == SLOT_WAITING && slot->due <= now && (!first || slot->user < first->user))
            first = slot;
    }
    return first;
}

/* Give idle slots the next users, and let all ask that may. */
static int ask_all(struct job *job, struct err *err)
{
    int result = 0;
    for (size_t i = 0; i < job->slot_count && job->next < job->set->count; i++) {
        if (job->slots[i].state != SLOT_IDLE)
            continue;
        job->slots[i] = (struct slot){.state = SLOT_WAITING, .user = job->next++};
        job->busy++;
    }
    for (struct slot *slot; result == 0 && (slot = first_due(job)) != NULL;)
        result = ask(job, slot, err);
    return result;
}

/* Milliseconds until a slot wants to ask, at most POLL_MS. */
static int patience(const struct job *job)
{
    const double now = progress_now();
    double until = now + 1e-3 * POLL_MS;
    if (job->asking >= (size_t)job->window)
        return POLL_MS;
    for (size_t i = 0; i < job->slot_count; i++) {
        const struct slot *slot = &job->slots[i];
        const double due = slot->due > job->paused_until ? slot->due : job->paused_until;
        if (slot->state == SLOT_WAITING && due < until)
            until = due;
    }
    return until > now ? 1 + (int)(1e3 * (until - now)) : 0;
}

/* ---- answers ---- */

static void release(struct job *job, struct slot *slot)
{
    *slot = (struct slot){0};
    job->busy--;
    progress_add(&job->progress, 1);
}

static int written(struct job *job, struct slot *slot, const struct chat_answer *answer, struct err *err)
{
    const int result =
        summary_log_append(job->log, summarize_set_user(job->set, slot->user), answer->text, err);
    if (result < 0)
        return result;
    job->figures->written++;
    job->figures->cut += answer->cut;
    job->failed_in_row = 0;
    job->window += 1 / job->window;
    if (job->window > (double)job->slot_count)
        job->window = (double)job->slot_count;
    release(job, slot);
    return 0;
}

static int give_up(struct job *job, struct slot *slot, const struct chat_answer *answer, struct err *err)
{
    tell(job, "%s: no summary after %zu request%s: %s", summarize_set_user(job->set, slot->user),
        slot->attempts, slot->attempts == 1 ? "" : "s", answer->why);
    job->figures->failed++;
    release(job, slot);
    if (++job->failed_in_row < FAILED_IN_ROW_MAX)
        return 0;
    return err_set(err, ERR_UNAVAILABLE,
        "stopped after %d users in a row without a summary; the last reason: %s", FAILED_IN_ROW_MAX,
        answer->why);
}

static double back_off(struct job *job, size_t attempts)
{
    const double longest = attempts < 7 ? (double)(1u << (attempts - 1)) : BACK_OFF_MAX_S;
    return longest * (1 - 0.5 * rng_uniform(&job->rng));
}

/* The endpoint is asked too much: nobody asks before `until`, and fewer at a time then. Told where a person would wonder, and
 * once for the answers that come together. */
static void pause_all(struct job *job, double until, const struct chat_answer *answer)
{
    const double now = progress_now();
    job->window = job->window > 2 ? job->window / 2 : 1;
    if (!job->progress.quiet && until > now + PAUSE_TOLD_S && until > job->paused_until + 1)
        tell(job, "waiting for %.0f s: %s", until - now, answer->why);
    if (until > job->paused_until)
        job->paused_until = until;
}

static int try_again(struct job *job, struct slot *slot, const struct chat_answer *answer, struct err *err)
{
    if (answer->wait > PAUSE_MAX_S)
        return err_set(err, ERR_UNAVAILABLE,
            "the endpoint wants a pause of %.0f s (%s); the same command goes on then", answer->wait,
            answer->why);
    const double now = progress_now(), wait = answer->wait > 0 ? answer->wait : back_off(job, slot->attempts);
    if (answer->pause)
        pause_all(job, now + wait, answer);
    if (slot->attempts > job->retries)
        return give_up(job, slot, answer, err);
    /* Retries are not told, but for the very first answer: a mistyped address shows at once. */
    if (job->figures->requests - job->asking == 1 && !job->progress.quiet)
        tell(job, "the first request failed, and is repeated: %s", answer->why);
    slot->state = SLOT_WAITING;
    slot->due = now + wait;
    return 0;
}

static int take(struct job *job, struct slot *slot, const struct chat_answer *answer, struct err *err)
{
    job->asking--;
    job->figures->prompt_tokens += answer->prompt_tokens;
    job->figures->completion_tokens += answer->completion_tokens;
    switch (answer->verdict) {
    case CHAT_ANSWERED:
        return written(job, slot, answer, err);
    case CHAT_AGAIN:
        return try_again(job, slot, answer, err);
    case CHAT_REFUSED:
        return give_up(job, slot, answer, err);
    case CHAT_HOPELESS:
        break;
    }
    return err_set(err, ERR_INVALID, "stopped, for it would be the same with every user: %s", answer->why);
}

/* ---- the job ---- */

static int run(struct job *job, struct err *err)
{
    while (job->next < job->set->count || job->busy) {
        struct chat_answer answer;
        size_t index;
        if (stop_asked())
            return err_set(err, ERR_UNAVAILABLE, "stopped by a signal; the same command goes on");
        int result = ask_all(job, err);
        if (result == 0)
            result = chat_wait(job->chat, &index, &answer, patience(job), err);
        if (result > 0) {
            result = take(job, &job->slots[index], &answer, err);
            free(answer.text);
        }
        if (result < 0)
            return result;
    }
    return 0;
}

/* A run that ends early does not throw away what has been answered already. */
static void keep_arrived(struct job *job)
{
    struct chat_answer answer;
    size_t index;
    int result = 0;
    while (result == 0 && chat_wait(job->chat, &index, &answer, 0, NULL) > 0) {
        if (answer.verdict == CHAT_ANSWERED)
            result = take(job, &job->slots[index], &answer, NULL);
        free(answer.text);
    }
}

int summarize_job(struct summarize_figures *figures, const struct summarize_set *set, struct summary_log *log,
    const struct chat_options *options, size_t retries, bool quiet, struct err *err)
{
    *figures = (struct summarize_figures){0};
    struct job job = {.set = set,
        .log = log,
        .slot_count = options->slots,
        .window = (double)options->slots,
        .retries = retries,
        .rng = rng_seed((uint64_t)(1e9 * progress_now()), (uint64_t)getpid()),
        .figures = figures};
    job.slots = calloc(job.slot_count, sizeof *job.slots);
    if (!job.slots)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = chat_new(&job.chat, options, err);
    if (result == 0) {
        progress_begin(&job.progress, "users", set->count, quiet);
        result = run(&job, err);
        if (result < 0)
            keep_arrived(&job);
        progress_end(&job.progress);
        chat_free(job.chat);
    }
    free(job.slots);
    return result;
}

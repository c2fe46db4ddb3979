/* A list in order, filled from its end: nearly all who wait may wait equally long, so that a new one is the last. A heap
 * needs room that may be missing, and nobody waits when all is well. */
#include "server/deadlines.h"

#include "server/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct deadlines {
    pthread_t thread;
    pthread_mutex_t lock; /* over all below, and held while one passes */
    pthread_cond_t wake;
    struct deadline ends; /* the list is a ring through it */
    uint64_t wakes_ns;    /* when the thread looks again by itself */
    bool stopping, started;
};

static void take_out(struct deadline *deadline)
{
    deadline->before->next = deadline->next;
    deadline->next->before = deadline->before;
    deadline->set = false;
}

static void *run(void *ctx)
{
    struct deadlines *deadlines = ctx;
    pthread_setname_np(pthread_self(), "deadlines");
    pthread_mutex_lock(&deadlines->lock);
    while (!deadlines->stopping) {
        struct deadline *first = deadlines->ends.next;
        if (first == &deadlines->ends) {
            deadlines->wakes_ns = UINT64_MAX;
            pthread_cond_wait(&deadlines->wake, &deadlines->lock);
        } else if (first->at_ns <= clock_ns()) {
            take_out(first);
            first->passed(first);
        } else {
            const struct timespec at = clock_timespec(first->at_ns);
            deadlines->wakes_ns = first->at_ns;
            pthread_cond_timedwait(&deadlines->wake, &deadlines->lock, &at);
        }
    }
    pthread_mutex_unlock(&deadlines->lock);
    return NULL;
}

int deadlines_start(struct deadlines **out, struct err *err)
{
    struct deadlines *deadlines = calloc(1, sizeof *deadlines);
    if (!deadlines)
        return err_set(err, ERR_NOMEM, "no memory for the deadlines");
    deadlines->ends.next = deadlines->ends.before = &deadlines->ends;
    pthread_mutex_init(&deadlines->lock, NULL);
    clock_cond_init(&deadlines->wake);
    errno = pthread_create(&deadlines->thread, NULL, run, deadlines);
    if (errno) {
        const int code = err_errno(err, "start a thread");
        deadlines_free(deadlines);
        return code;
    }
    deadlines->started = true;
    *out = deadlines;
    return 0;
}

void deadlines_stop(struct deadlines *deadlines)
{
    if (!deadlines || !deadlines->started)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->stopping = true;
    pthread_cond_signal(&deadlines->wake);
    pthread_mutex_unlock(&deadlines->lock);
    pthread_join(deadlines->thread, NULL);
    deadlines->started = false;
}

void deadlines_free(struct deadlines *deadlines)
{
    if (!deadlines)
        return;
    pthread_cond_destroy(&deadlines->wake);
    pthread_mutex_destroy(&deadlines->lock);
    free(deadlines);
}

/* The thread is woken for one that is earlier than its next look alone: while one after the other is set and cleared in
 * time, it sleeps. */
void deadline_set(struct deadlines *deadlines, struct deadline *deadline, uint64_t at_ns)
{
    pthread_mutex_lock(&deadlines->lock);
    struct deadline *before = deadlines->ends.before;
    while (before != &deadlines->ends && before->at_ns > at_ns)
        before = before->before;
    deadline->at_ns = at_ns;
    deadline->set = true;
    deadline->before = before;
    deadline->next = before->next;
    before->next->before = deadline;
    before->next = deadline;
    const bool earlier = at_ns < deadlines->wakes_ns;
    if (earlier)
        deadlines->wakes_ns = at_ns;
    pthread_mutex_unlock(&deadlines->lock);
    if (earlier)
        pthread_cond_signal(&deadlines->wake);
}

void deadline_clear(struct deadlines *deadlines, struct deadline *deadline)
{
    pthread_mutex_lock(&deadlines->lock);
    if (deadline->set)
        take_out(deadline);
    pthread_mutex_unlock(&deadlines->lock);
}

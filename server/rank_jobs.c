/* Jobs are used again, with their memory. One that begins on a loop may end on a worker: it goes back to the loop, which
 * would have to make new ones all the time otherwise, while workers gather them. */
#include "server/rank.h"
#include "server/rank_job.h"

#include <stdlib.h>

enum { KEEP_BYTES = 256 * 1024 }; /* a larger copy of users' matrices is not kept */

static void free_job(struct rank_job *job)
{
    if (!job)
        return;
    arena_done(&job->arena);
    pthread_mutex_destroy(&job->lock);
    buffer_done(&job->user_blocks);
    free(job);
}

static void take_returned(struct worker *worker)
{
    struct rank_job *job = atomic_load_explicit(&worker->returned, memory_order_relaxed)
                               ? atomic_exchange_explicit(&worker->returned, NULL, memory_order_acquire)
                               : NULL;
    for (struct rank_job *next; job; job = next) {
        next = job->next;
        free_job(spares_give(&worker->jobs, job));
    }
}

struct rank_job *rank_job_take(struct worker *worker)
{
    take_returned(worker);
    struct rank_job *job = spares_take(&worker->jobs);
    if (job)
        return job;
    job = calloc(1, sizeof *job);
    if (job) {
        pthread_mutex_init(&job->lock, NULL);
        job->owner = worker;
    }
    return job;
}

void rank_job_give(struct rank_job *job, struct worker *worker)
{
    struct worker *owner = job->owner;
    arena_reset(&job->arena);
    if (job->user_blocks.size > KEEP_BYTES)
        buffer_done(&job->user_blocks);
    if (owner == worker) {
        free_job(spares_give(&worker->jobs, job));
        return;
    }
    job->next = atomic_load_explicit(&owner->returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        &owner->returned, &job->next, job, memory_order_release, memory_order_relaxed))
        ;
}

void rank_jobs_free(struct worker *worker)
{
    take_returned(worker);
    for (struct rank_job *job; (job = spares_take(&worker->jobs));)
        free_job(job);
}

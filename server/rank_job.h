/* What the files of ranking share: a job, and its lanes. */
#ifndef EMBSUM_SERVER_RANK_JOB_H
#define EMBSUM_SERVER_RANK_JOB_H

#include "server/matrices.h"
#include "server/rank.h"
#include "server/worker.h"

/* Candidates that a lane looks up and scores at a time. A job of many windows goes to the end of the queue after each,
 * so that a short request never waits longer than a window takes. */
#define RANK_WINDOW 1024

enum stage { STAGE_PARSE, STAGE_FETCH, STAGE_SCORE, STAGE_WRITE, STAGES };

struct rank_lane {
    struct gather gather; /* the first member */
    struct rank_job *job;
    struct pool_task task;
    size_t first; /* candidate of the window in hand */
    uint64_t since_ns;
};

struct rank_job {
    struct worker *owner;  /* who has made it */
    struct rank_job *next; /* of those that are returned to the owner */
    struct service *service;
    struct http_call *call;
    uint64_t deadline_ns;
    struct live_generation *generation;
    struct catalogue *catalogue; /* held where all of it is ranked: the whole one, or a category's */
    struct arena arena;
    struct rank_request request;
    struct rank_result result;

    struct gather gather, explained; /* of the users; of what is explained */
    struct details *details;         /* NULL: none are asked for */
    struct pool_task task;
    uint64_t since_ns;
    struct buffer user_blocks, explained_blocks; /* copies of what was hot */

    size_t
        best_of; /* so many are asked for, of one user, and the scorer can rule out others; 0: score them all */
    atomic_size_t rescored; /* candidates that could not be ruled out */

    struct rank_lane *lanes;
    atomic_size_t next_first, lanes_left;
    pthread_mutex_t lock; /* over the result while lanes are at work */
    struct err err;       /* code < 0: the job has failed */
    atomic_uint_fast64_t stage_ns[STAGES];
};

/* rank_jobs.c. NULL when memory is short; what is given back has released all but its memory. */
struct rank_job *rank_job_take(struct worker *worker);
void rank_job_give(struct rank_job *job, struct worker *worker);

/* Room for a gather of at most count ids; the job's arena. False: no memory. */
bool rank_gather_init(struct rank_job *job, struct gather *gather, struct matrices *from, size_t count);

void rank_stage(
    struct rank_job *job, enum stage stage, uint64_t since_ns); /* time since then went into the stage */
void rank_fail(struct rank_job *job, const struct err *err);    /* the first failure stays */

void rank_no_memory(struct rank_job *job, const char *for_what);

static inline struct rank_job *rank_job_of(struct pool_task *task)
{
    return POOL_OWNER(task, struct rank_job, task);
}

/* The ends of a job: write what has been ranked, and send off what there is, the answer or the failure. The job is gone
 * then. */
void rank_write(struct rank_job *job, struct worker *worker);
void rank_finish(struct rank_job *job, struct worker *worker);

/* rank_note.c: count the job, which took ns in each stage, and tell the access log of it. */
void rank_note(struct rank_job *job, struct worker *worker, const uint64_t ns[STAGES]);

/* rank_explain.c: find the hits' matrices, then go on with the details. */
void rank_explain(struct rank_job *job, struct worker *worker);

/* rank_details.c: ask the store for titles and explanations, then write, with them or without. */
void rank_details(struct rank_job *job, struct worker *worker);

/* rank_lanes.c: score all candidates, then call rank_scored on one of the workers. */
void rank_score(struct rank_job *job, struct worker *worker);
void rank_scored(struct rank_job *job, struct worker *worker);

#endif

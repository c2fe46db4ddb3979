/* Explanations: what has come out on top is looked up once more, because the matrices of a ranking are gone by then. */
#include "server/clock.h"
#include "server/rank_answer.h"
#include "server/rank_job.h"

#include <stdlib.h>
#include <string.h>

static void explained_arrived(struct gather *gather)
{
    struct rank_job *job = POOL_OWNER(gather, struct rank_job, explained);
    pool_put(job->service->worker_pool, &job->task);
}

static void found(struct pool_task *task, struct worker *worker)
{
    struct rank_job *job = rank_job_of(task);
    job->result.explained = job->explained.blocks;
    rank_stage(job, STAGE_FETCH, job->since_ns);
    rank_details(job, worker);
}

/* The gather's ids are the hits' of all users in turn. False: the job has failed. */
static bool list_hits(struct rank_job *job)
{
    const struct rank_result *result = &job->result;
    struct matrices *contents = job->generation->contents;
    struct err err = ERR_INIT;
    size_t count = 0, used = 0;
    for (size_t u = 0; u < result->user_count; u++)
        count += result->tops[u].count;
    if (count > RANK_EXPLAIN_MAX) {
        err_set(&err, ERR_INVALID,
            "explain: %zu items would have to be explained; at most %d are allowed, lower top_k", count,
            RANK_EXPLAIN_MAX);
        rank_fail(job, &err);
        return false;
    }
    struct store_id *ids = arena_array(&job->arena, count, sizeof *ids);
    uint64_t *hashes = arena_array(&job->arena, count, sizeof *hashes);
    if (!ids || !hashes || !buffer_room(&job->explained_blocks, count * matrices_bytes(contents)) ||
        !rank_gather_init(job, &job->explained, contents, count)) {
        rank_no_memory(job, "the explanations");
        return false;
    }
    for (size_t u = 0; u < result->user_count; u++)
        for (size_t i = 0; i < result->tops[u].count; i++) {
            ids[used] = result->candidates[result->tops[u].hits[i].index];
            hashes[used++] = result->hashes[result->tops[u].hits[i].index];
        }
    job->explained.ids = ids;
    job->explained.hashes = hashes;
    job->explained.count = count;
    job->explained.mode = HOT_FILL;
    job->explained.done = explained_arrived;
    return true;
}

void rank_explain(struct rank_job *job, struct worker *worker)
{
    if (!list_hits(job)) {
        rank_finish(job, worker);
        return;
    }
    struct gather *gather = &job->explained;
    struct hot *hot = matrices_hot(job->generation->contents);
    const size_t bytes = matrices_bytes(job->generation->contents);
    job->since_ns = clock_ns();
    hot_enter(hot, worker_slot(worker));
    gather_look(gather, worker_slot(worker));
    for (size_t i = 0; i < gather->count; i++)
        if (gather->blocks[i])
            gather->blocks[i] =
                memcpy((char *)job->explained_blocks.at + i * bytes, gather->blocks[i], bytes);
    hot_leave(hot, worker_slot(worker));
    job->task.run = found;
    if (gather->missed_count) {
        gather_fetch(gather);
        if (!gather_arrived(gather))
            return;
    }
    found(&job->task, worker);
}

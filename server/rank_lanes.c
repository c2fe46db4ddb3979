#include "core/scorer.h"
#include "server/clock.h"
#include "server/rank_job.h"
#include "server/router.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one window ---- */

struct found {
    const void *blocks[RANK_WINDOW];
    uint32_t index[RANK_WINDOW];
    size_t count;
};

static void keep_best(
    struct rank_job *job, const struct rank_lane *lane, const struct found *found, const float *scores)
{
    for (size_t u = 0; u < job->result.user_count; u++) {
        struct top *top = &job->result.tops[u];
        if (!job->result.users[u].matrix)
            continue;
        top_add_chunk(top, scores, found->index, (uint32_t)lane->first, found->count);
        scores += found->count;
    }
}

/* Room for the scores of a window, and for finding the best of it; the scores, or NULL. */
static float *make_room(struct worker *worker, const struct rank_job *job)
{
    const size_t floats = job->result.matrix_count * RANK_WINDOW;
    if (job->best_of &&
        !buffer_room(&worker->best, scorer_best_bytes(job->generation->scorer, RANK_WINDOW, job->best_of)))
        return NULL;
    return buffer_room(&worker->scores, floats * sizeof(float));
}

/* The score that one of the best must reach: that of the worst that is kept so far, from whatever window. */
static float floor_of(struct rank_job *job)
{
    pthread_mutex_lock(&job->lock);
    const struct top *top = &job->result.tops[0];
    const float floor = top->heap ? top->hits[0].score : -INFINITY;
    pthread_mutex_unlock(&job->lock);
    return floor;
}

/* Only the best are asked for: leave in *found and in the scores those that may be among them. */
static void find_best(struct rank_job *job, struct found *found, float *scores, void *scratch)
{
    unsigned char kept[RANK_WINDOW];
    size_t count = 0;
    const size_t rescored = scorer_best(job->generation->scorer, scores, kept, job->result.matrices[0],
        found->blocks, found->count, job->best_of, floor_of(job), scratch);
    for (size_t c = 0; c < found->count; c++) {
        scores[count] = scores[c];
        found->index[count] = found->index[c];
        count += kept[c];
    }
    found->count = count;
    atomic_fetch_add_explicit(&job->rescored, rescored, memory_order_relaxed);
}

static void score_found(struct rank_lane *lane, struct found *found, struct worker *worker)
{
    struct rank_job *job = lane->job;
    const size_t users = job->result.matrix_count;
    const uint64_t start = clock_ns();
    if (!found->count)
        return;
    float *scores = make_room(worker, job);
    if (!scores) {
        rank_no_memory(job, "the scores");
        return;
    }
    metrics_add(&worker->metrics.scored, users * found->count);
    if (job->best_of && found->count > job->best_of)
        find_best(job, found, scores, worker->best.at);
    else
        scorer_run(job->generation->scorer, scores, job->result.matrices, users, found->blocks, found->count);
    pthread_mutex_lock(&job->lock);
    keep_best(job, lane, found, scores);
    pthread_mutex_unlock(&job->lock);
    rank_stage(job, STAGE_SCORE, start);
}

static void note_missing(struct rank_lane *lane, struct worker *worker)
{
    static const enum metrics_missing reasons[] = {
        [MATRIX_NOT_FOUND] = METRICS_NOT_FOUND,
        [MATRIX_CORRUPT] = METRICS_CORRUPT,
        [MATRIX_UNAVAILABLE] = METRICS_UNAVAILABLE,
    };
    struct rank_result *result = &lane->job->result;
    const bool all = !lane->job->request.whole_catalogue;
    const struct gather *gather = &lane->gather;
    pthread_mutex_lock(&lane->job->lock);
    for (size_t i = 0; i < gather->count; i++) {
        if (gather->status[i] == MATRIX_HERE)
            continue;
        const enum metrics_missing reason = reasons[gather->status[i]];
        metrics_add(&worker->metrics.missing[reason], 1);
        result->store_failed |= reason == METRICS_UNAVAILABLE;
        result->missing_count++;
        if (all || result->missing_listed < RANK_MISSING_LISTED)
            result->missing[result->missing_listed++] =
                (struct rank_missing){(uint32_t)(lane->first + i), reason};
    }
    pthread_mutex_unlock(&lane->job->lock);
}

/* ---- a lane's way from window to window ---- */

static void run_lane(struct pool_task *task, struct worker *worker);

static void end_lane(struct rank_lane *lane, struct worker *worker)
{
    struct rank_job *job = lane->job;
    if (atomic_fetch_sub_explicit(&job->lanes_left, 1, memory_order_acq_rel) == 1)
        rank_scored(job, worker);
}

/* What comes from the store is scored by the reader that brings it. */
static void take_arrived(struct gather *gather, struct worker *reader, const uint32_t *index,
    const void *const *blocks, size_t count)
{
    struct rank_lane *lane = (struct rank_lane *)(void *)gather;
    struct found found = {.count = count};
    memcpy(found.blocks, blocks, count * sizeof *blocks);
    memcpy(found.index, index, count * sizeof *index);
    score_found(lane, &found, reader);
}

static void finish_window(struct rank_lane *lane, struct worker *worker)
{
    note_missing(lane, worker);
    gather_free(&lane->gather);
}

static void resume_lane(struct pool_task *task, struct worker *worker)
{
    struct rank_lane *lane = POOL_OWNER(task, struct rank_lane, task);
    rank_stage(lane->job, STAGE_FETCH, lane->since_ns);
    finish_window(lane, worker);
    lane->task.run = run_lane;
    run_lane(task, worker);
}

static void lane_arrived(struct gather *gather)
{
    struct rank_lane *lane = (struct rank_lane *)(void *)gather;
    lane->task.run = resume_lane;
    pool_put(lane->job->service->worker_pool, &lane->task);
}

/* True: the window is done. False: the lane goes on elsewhere. */
static bool run_window(struct rank_lane *lane, struct worker *worker)
{
    struct rank_job *job = lane->job;
    struct gather *gather = &lane->gather;
    struct hot *hot = matrices_hot(gather->from);
    struct found found;
    const size_t left = job->result.candidate_count - lane->first;
    const uint64_t start = clock_ns();
    gather->ids = job->result.candidates + lane->first;
    gather->hashes = job->result.hashes + lane->first;
    gather->count = left < RANK_WINDOW ? left : RANK_WINDOW;
    hot_enter(hot, worker_slot(worker));
    gather_look(gather, worker_slot(worker));
    found.count = 0;
    for (size_t i = 0; i < gather->count; i++) {
        found.blocks[found.count] = gather->blocks[i];
        found.index[found.count] = (uint32_t)i;
        found.count += gather->blocks[i] != NULL;
    }
    rank_stage(job, STAGE_FETCH, start);
    if (gather->missed_count) {
        router_defer(worker, job->call);
        gather_fetch(gather);
    }
    score_found(lane, &found, worker);
    hot_leave(hot, worker_slot(worker));
    lane->since_ns = clock_ns();
    if (gather->missed_count && !gather_arrived(gather))
        return false;
    finish_window(lane, worker);
    return true;
}

static void run_lane(struct pool_task *task, struct worker *worker)
{
    struct rank_lane *lane = POOL_OWNER(task, struct rank_lane, task);
    struct rank_job *job = lane->job;
    for (;;) {
        lane->first = atomic_fetch_add_explicit(&job->next_first, RANK_WINDOW, memory_order_relaxed);
        if (lane->first >= job->result.candidate_count)
            break;
        if (atomic_load_explicit(&job->service->stopping, memory_order_relaxed)) {
            struct err err = ERR_INIT;
            err_set(&err, ERR_UNAVAILABLE, "the daemon is stopping");
            rank_fail(job, &err);
            break;
        }
        if (lane->first && clock_ns() > job->deadline_ns) { /* a single window is never given up */
            struct err err = ERR_INIT;
            err_set(&err, ERR_UNAVAILABLE, "ranking takes longer than the request may take");
            rank_fail(job, &err);
            break;
        }
        if (!run_window(lane, worker))
            return;
        /* Others first; there is no need to ask whether more is left, the next turn finds out. */
        if (job->result.candidate_count > RANK_WINDOW && pool_waiting(job->service->worker_pool)) {
            pool_put(job->service->worker_pool, task);
            return;
        }
    }
    end_lane(lane, worker);
}

void rank_score(struct rank_job *job, struct worker *worker)
{
    const size_t windows = (job->result.candidate_count + RANK_WINDOW - 1) / RANK_WINDOW;
    const size_t workers = job->service->worker_count, count = windows < workers ? windows : workers;
    struct err err = ERR_INIT;
    size_t ready = 0;
    job->lanes = arena_array(&job->arena, count, sizeof *job->lanes);
    while (job->lanes && ready < count) {
        struct rank_lane *lane = &job->lanes[ready];
        const size_t most =
            job->result.candidate_count < RANK_WINDOW ? job->result.candidate_count : RANK_WINDOW;
        if (!rank_gather_init(job, &lane->gather, job->generation->contents, most))
            break;
        /* A walk through the catalogue must not sweep out what the requests of the day have warmed. */
        lane->gather.mode = job->request.whole_catalogue ? HOT_FILL : HOT_KEEP;
        lane->gather.take = take_arrived;
        lane->gather.done = lane_arrived;
        lane->job = job;
        lane->task.run = run_lane;
        ready++;
    }
    if (ready < count) {
        err_set(&err, ERR_NOMEM, "no memory to rank %zu candidates", job->result.candidate_count);
        rank_fail(job, &err);
    }
    if (ready < count || count == 0) {
        rank_scored(job, worker);
        return;
    }
    atomic_store_explicit(&job->next_first, 0, memory_order_relaxed);
    atomic_store_explicit(&job->lanes_left, count, memory_order_relaxed);
    for (size_t i = 1; i < count; i++)
        pool_put(job->service->worker_pool, &job->lanes[i].task);
    run_lane(&job->lanes[0].task, worker);
}

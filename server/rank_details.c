/* Titles and what codes look at, for what has come out on top: read from the store when all is ranked. Without them the
 * ranking goes out all the same, and says that it is degraded. */
#include "server/clock.h"
#include "server/details.h"
#include "server/rank_job.h"
#include "server/router.h"

#include <stdlib.h>

static void details_arrived(void *owner)
{
    struct rank_job *job = owner;
    pool_put(job->service->worker_pool, &job->task);
}

static void write_detailed(struct pool_task *task, struct worker *worker)
{
    struct rank_job *job = rank_job_of(task);
    job->result.store_failed |= !details_complete(job->details);
    rank_stage(job, STAGE_FETCH, job->since_ns);
    rank_write(job, worker);
}

/* Each candidate that some user has among the hits, once, in their order: several users may rank a thousand alike. */
static bool list_detailed(struct rank_job *job)
{
    struct rank_result *result = &job->result;
    unsigned char *hit = arena_array(&job->arena, result->candidate_count, 1);
    size_t most = 0, count = 0;
    for (size_t u = 0; u < result->user_count; u++)
        most += result->tops[u].count;
    if (most > result->candidate_count)
        most = result->candidate_count;
    uint32_t *detailed = arena_array(&job->arena, most, sizeof *detailed);
    if (!hit || !detailed)
        return false;
    for (size_t u = 0; u < result->user_count; u++)
        for (size_t i = 0; i < result->tops[u].count; i++)
            hit[result->tops[u].hits[i].index] = 1;
    for (size_t c = 0; count < most && c < result->candidate_count; c++)
        if (hit[c])
            detailed[count++] = (uint32_t)c;
    result->detailed = detailed;
    result->detailed_count = count;
    return true;
}

static int want(struct rank_job *job, struct err *err)
{
    const struct rank_result *result = &job->result;
    struct store_id *contents = arena_array(&job->arena, result->detailed_count, sizeof *contents);
    struct store_id *users = arena_array(&job->arena, result->user_count, sizeof *users);
    if (!contents || !users)
        return err_set(err, ERR_NOMEM, "no memory for titles and explanations");
    for (size_t i = 0; i < result->detailed_count; i++)
        contents[i] = result->candidates[result->detailed[i]];
    for (size_t u = 0; u < result->user_count; u++) /* of whom a stand-in was ranked, that one's */
        users[u] = result->users[u].status == USER_DEFAULT ? (struct store_id){"", 0} : result->users[u].id;
    const struct details_wanted wanted = {.contents = contents,
        .content_count = result->detailed_count,
        .titles = job->request.titles,
        .whys = job->request.explain,
        .users = users,
        .user_count = result->user_count};
    return details_new(&job->details, job->service, job->generation->name, &wanted, err);
}

void rank_details(struct rank_job *job, struct worker *worker)
{
    struct err err = ERR_INIT;
    const int code = list_detailed(job) ? want(job, &err) : err_set(&err, ERR_NOMEM, "no memory for titles");
    if (code < 0) {
        rank_fail(job, &err);
        rank_finish(job, worker);
        return;
    }
    job->result.details = job->details;
    job->since_ns = clock_ns();
    job->task.run = write_detailed;
    router_defer(worker, job->call);
    if (!details_start(job->details, job->deadline_ns, details_arrived, job))
        write_detailed(&job->task, worker);
}

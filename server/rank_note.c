/* What a finished ranking is counted as. */
#include "server/rank_job.h"

_Static_assert(METRICS_STAGES == STAGES, "the page has a histogram for each stage");
_Static_assert(METRICS_USER_STATUSES == USER_UNAVAILABLE + 1, "the page has a counter for each status");

static void count_answer(const struct rank_job *job, struct metrics *metrics)
{
    bool unavailable = job->result.store_failed, corrupt = false;
    for (size_t i = 0; i < job->result.user_count; i++) {
        const struct rank_user *user = &job->result.users[i];
        metrics_add(&metrics->users[user->status], 1);
        unavailable |= user->status == USER_UNAVAILABLE;
        corrupt |= user->corrupt;
    }
    if (unavailable)
        metrics_add(&metrics->degraded[METRICS_STORE_UNAVAILABLE], 1);
    if (corrupt)
        metrics_add(&metrics->degraded[METRICS_USER_CORRUPT], 1);
}

void rank_note(const struct rank_job *job, struct worker *worker, const uint64_t ns[STAGES])
{
    for (size_t i = 0; i < STAGES; i++)
        if (ns[i])
            metrics_observe(&worker->metrics.stages[i], ns[i], 1);
    if (job->err.code == 0)
        count_answer(job, &worker->metrics);
}

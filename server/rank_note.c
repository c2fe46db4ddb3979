/* What a finished ranking is counted as, and what the access log says of it. */
#include "server/rank_job.h"

#include <string.h>

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

static void note_user(struct access_facts *facts, const struct rank_job *job)
{
    const struct store_id *user = &job->request.users[0];
    facts->user[0] = '\0';
    if (!job->service->config->log.access_users || !job->request.user_count ||
        user->len >= sizeof facts->user)
        return;
    memcpy(facts->user, user->id, user->len);
    facts->user[user->len] = '\0';
}

static void note_facts(struct access_facts *facts, struct rank_job *job, const uint64_t ns[STAGES])
{
    const struct rank_result *result = &job->result;
    const bool answered = job->err.code == 0;
    memcpy(facts->generation, job->generation->name, sizeof facts->generation);
    facts->users = (uint32_t)job->request.user_count;
    facts->present = 0;
    facts->degraded = answered && result->store_failed;
    for (size_t i = 0; answered && i < result->user_count; i++) {
        facts->present += result->users[i].status == USER_PRESENT;
        facts->degraded |= result->users[i].corrupt || result->users[i].status == USER_UNAVAILABLE;
    }
    facts->candidates = (uint32_t)(answered ? result->candidate_count : job->request.candidate_count);
    facts->missing = (uint32_t)result->missing_count;
    for (size_t i = 0; i < STAGES; i++)
        facts->stage_us[i] = ns[i] / 1000;
    note_user(facts, job);
    job->call->facts = facts;
}

void rank_note(struct rank_job *job, struct worker *worker, const uint64_t ns[STAGES])
{
    for (size_t i = 0; i < STAGES; i++)
        if (ns[i])
            metrics_observe(&worker->metrics.stages[i], ns[i], 1);
    if (job->err.code == 0)
        count_answer(job, &worker->metrics);
    if (job->service->access && job->generation)
        note_facts(&worker->facts, job, ns);
}

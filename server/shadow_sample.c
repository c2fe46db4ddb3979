/* Whether a request is ranked on both follows from its first user and the generation: all daemons choose the same users, so
 * that the other generation need have the matrices of a share of them in memory, and every generation others. */
#include "server/rank_job.h"
#include "server/shadow_int.h"

#include <string.h>
#include <xxhash.h>

/* ---- the queue: without a lock, which the ranker might hold while the processor is taken from it ---- */

/* A free one, with both generations. */
static struct shadow_sample *take_free(struct shadow *shadow, struct live_generation *live)
{
    struct shadow_sample *sample = NULL;
    for (size_t i = 0; !sample && i < SHADOW_QUEUE; i++) {
        int state = SHADOW_FREE;
        if (atomic_compare_exchange_strong(&shadow->samples[i].state, &state, SHADOW_TAKEN))
            sample = &shadow->samples[i];
    }
    if (!sample)
        return NULL;
    pthread_mutex_lock(&shadow->lock);
    struct live_generation *other = shadow->current;
    if (other)
        live_generation_hold(other);
    pthread_mutex_unlock(&shadow->lock);
    if (!other) {
        atomic_store(&sample->state, SHADOW_FREE);
        return NULL;
    }
    live_generation_hold(live);
    sample->generations[SHADOW_LIVE] = live;
    sample->generations[SHADOW_OTHER] = other;
    return sample;
}

void shadow_give_sample(struct shadow_sample *sample)
{
    for (size_t i = 0; i < SHADOW_SIDES; i++)
        live_generation_release(sample->generations[i]);
    catalogue_release(sample->catalogue);
    sample->catalogue = NULL;
    arena_reset(&sample->arena);
    atomic_store(&sample->state, SHADOW_FREE);
}

struct shadow_sample *shadow_next_sample(struct shadow *shadow)
{
    struct shadow_sample *next = NULL;
    for (size_t i = 0; i < SHADOW_QUEUE; i++) {
        struct shadow_sample *sample = &shadow->samples[i];
        if (atomic_load(&sample->state) == SHADOW_READY && (!next || sample->turn < next->turn))
            next = sample;
    }
    return next;
}

void shadow_rank(struct shadow_sample *sample)
{
    if (!sample)
        return;
    struct shadow *shadow = sample->shadow;
    sample->turn = atomic_fetch_add(&shadow->turns, 1);
    atomic_store(&sample->state, SHADOW_READY); /* it may be another's from now on */
    sem_post(&shadow->ready);
}

/* ---- a copy ---- */

/* Ids of a request, whose bytes go with its body. NULL: no memory. */
static struct store_id *copy_ids(struct arena *arena, const struct store_id *ids, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += ids[i].len;
    struct store_id *copies = arena_array(arena, count + 1, sizeof *copies);
    char *at = arena_alloc(arena, bytes + 1);
    if (!copies || !at)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        copies[i] = (struct store_id){at, ids[i].len};
        if (ids[i].len)
            memcpy(at, ids[i].id, ids[i].len);
        at += ids[i].len;
    }
    return copies;
}

static uint64_t *copy_hashes(struct arena *arena, const uint64_t *hashes, size_t count)
{
    uint64_t *copies = arena_array(arena, count + 1, sizeof *copies);
    if (copies && count)
        memcpy(copies, hashes, count * sizeof *copies);
    return copies;
}

static bool copy_catalogue(struct shadow_sample *sample, const struct rank_job *job)
{
    const struct rank_request *request = &job->request;
    sample->catalogue = job->catalogue;
    catalogue_hold(sample->catalogue);
    sample->ids = sample->catalogue->ids;
    sample->hashes = sample->catalogue->hashes;
    sample->count = sample->catalogue->count;
    const struct store_id *category = copy_ids(&sample->arena, &request->category, 1);
    sample->exclude = copy_ids(&sample->arena, request->exclude, request->exclude_count);
    sample->exclude_count = request->exclude_count;
    if (category)
        sample->category = category[0];
    return category && sample->exclude;
}

static bool copy_request(struct shadow_sample *sample, const struct rank_job *job)
{
    const struct rank_request *request = &job->request;
    sample->user_count = request->user_count;
    sample->users = copy_ids(&sample->arena, request->users, request->user_count);
    sample->user_hashes = copy_hashes(&sample->arena, request->user_hashes, request->user_count);
    sample->exclude_count = 0;
    if (!sample->users || !sample->user_hashes)
        return false;
    if (request->whole_catalogue)
        return copy_catalogue(sample, job);
    sample->count = request->candidate_count;
    sample->ids = copy_ids(&sample->arena, request->candidates, request->candidate_count);
    sample->hashes = copy_hashes(&sample->arena, request->hashes, request->candidate_count);
    return sample->ids && sample->hashes;
}

/* ---- which ---- */

static bool is_chosen(struct shadow *shadow, const struct rank_job *job)
{
    const struct store_id *user = &job->request.users[0];
    const uint64_t hash =
        XXH3_64bits_withSeed(user->id, user->len, atomic_load_explicit(&shadow->seed, memory_order_relaxed));
    return (double)(hash >> 11) * 0x1p-53 < shadow->service->config->shadow.share;
}

/* NULL: it is left out, *why tells for what reason. */
static struct shadow_sample *take(struct shadow *shadow, const struct rank_job *job, enum shadow_skip *why)
{
    *why = SHADOW_FEW;
    if (job->result.candidate_count <= SHADOW_BEST)
        return NULL;
    *why = SHADOW_BUSY;
    if (pool_waiting(shadow->service->worker_pool))
        return NULL;
    *why = SHADOW_QUEUE_FULL;
    struct shadow_sample *sample = take_free(shadow, job->generation);
    if (!sample || copy_request(sample, job))
        return sample;
    *why = SHADOW_NO_MEMORY;
    shadow_give_sample(sample);
    return NULL;
}

struct shadow_sample *shadow_sample(struct shadow *shadow, const struct rank_job *job)
{
    enum shadow_skip why;
    if (!shadow || job->err.code < 0 || !atomic_load_explicit(&shadow->present, memory_order_acquire) ||
        !is_chosen(shadow, job))
        return NULL;
    struct shadow_sample *sample = take(shadow, job, &why);
    if (!sample)
        shadow_skip(shadow, why);
    return sample;
}

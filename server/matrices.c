/* Why a table of its own and not a mark in hot memory: an id under way has waiters and no block, an absent one has
 * neither, and hot memory's readers take no lock, which waiters need. */
#include "server/matrices.h"

#include "server/clock.h"
#include "server/matrices_int.h"

#include <stdlib.h>
#include <string.h>

/* How many ids that were not there are remembered. */
enum { KNOWN_MOST = 8192 };

int matrices_new(struct matrices **out, const struct matrices_options *options, struct err *err)
{
    struct matrices *matrices = calloc(1, sizeof *matrices);
    if (!matrices)
        return err_set(err, ERR_NOMEM, "no memory for the hot memory");
    matrices->options = *options;
    matrices_list_init(&matrices->wanted);
    matrices_list_init(&matrices->known);
    matrices->block_bytes = options->kind == STORE_USER ? scorer_user_bytes(options->scorer)
                                                        : scorer_content_bytes(options->scorer);
    pthread_mutex_init(&matrices->lock, NULL);
    const struct hot_options hot = {
        .block_bytes = matrices->block_bytes,
        .limit_bytes = options->limit_bytes,
        .expected = options->expected,
        .readers = options->hot_readers,
    };
    int code = hot_new(&matrices->hot, &hot, err);
    if (code == 0)
        code = matrices_pull_init(matrices, err);
    if (code < 0) {
        matrices_free(matrices);
        return code;
    }
    *out = matrices;
    return 0;
}

bool matrices_idle(struct matrices *matrices)
{
    pthread_mutex_lock(&matrices->lock);
    const bool idle = matrices->pulling == 0;
    pthread_mutex_unlock(&matrices->lock);
    return idle;
}

void matrices_free(struct matrices *matrices)
{
    if (!matrices)
        return;
    struct matrices_pending *pending;
    while ((pending = matrices_list_take(&matrices->known)))
        free(pending);
    free(matrices->pullers);
    hot_free(matrices->hot);
    pthread_mutex_destroy(&matrices->lock);
    free(matrices);
}

struct hot *matrices_hot(struct matrices *matrices)
{
    return matrices->hot;
}

size_t matrices_bytes(const struct matrices *matrices)
{
    return matrices->block_bytes;
}

/* ---- lists ---- */

void matrices_list_init(struct matrices_list *list)
{
    *list = (struct matrices_list){.last = &list->first};
}

void matrices_list_add(struct matrices_list *list, struct matrices_pending *pending)
{
    pending->next_listed = NULL;
    *list->last = pending;
    list->last = &pending->next_listed;
    list->count++;
}

struct matrices_pending *matrices_list_take(struct matrices_list *list)
{
    struct matrices_pending *pending = list->first;
    if (!pending)
        return NULL;
    list->first = pending->next_listed;
    if (!list->first)
        list->last = &list->first;
    list->count--;
    return pending;
}

/* ---- the table: under the lock ---- */

static struct matrices_pending **find(struct matrices *matrices, const struct store_id *id, uint64_t hash)
{
    struct matrices_pending **at = &matrices->buckets[hash % MATRICES_BUCKETS];
    for (; *at; at = &(*at)->next) {
        const struct matrices_pending *pending = *at;
        const bool forgotten = pending->stale && pending->status != MATRIX_HERE;
        if (!forgotten && pending->hash == hash && pending->id_len == id->len &&
            memcmp(pending->id, id->id, id->len) == 0)
            break;
    }
    return at;
}

void matrices_unlink(struct matrices *matrices, struct matrices_pending *pending)
{
    struct matrices_pending **at = &matrices->buckets[pending->hash % MATRICES_BUCKETS];
    while (*at != pending)
        at = &(*at)->next;
    *at = pending->next;
}

/* Forget what was not there and may be by now. */
static void expire(struct matrices *matrices, uint64_t now_ms)
{
    const struct matrices_pending *oldest;
    while ((oldest = matrices->known.first) &&
           (oldest->until_ms <= now_ms || matrices->known.count > KNOWN_MOST)) {
        struct matrices_pending *pending = matrices_list_take(&matrices->known);
        matrices_unlink(matrices, pending);
        free(pending);
    }
}

static struct matrices_pending *add(
    struct matrices *matrices, const struct store_id *id, uint64_t hash, enum hot_mode mode)
{
    struct matrices_pending *pending = malloc(sizeof *pending + id->len);
    if (!pending)
        return NULL;
    struct matrices_pending **bucket = &matrices->buckets[hash % MATRICES_BUCKETS];
    *pending = (struct matrices_pending){
        .next = *bucket, .hash = hash, .mode = (uint8_t)mode, .id_len = (uint16_t)id->len};
    memcpy(pending->id, id->id, id->len);
    *bucket = pending;
    return pending;
}

/* ---- asking ---- */

void gather_look(struct gather *gather, size_t number)
{
    gather->missed_count = 0;
    hot_find(gather->from->hot, number, gather->ids, gather->hashes, gather->count, gather->blocks);
    for (size_t i = 0; i < gather->count; i++) {
        gather->status[i] = gather->blocks[i] ? MATRIX_HERE : MATRIX_UNAVAILABLE;
        if (!gather->blocks[i])
            gather->missed[gather->missed_count++] = (uint32_t)i;
    }
}

/* Let one wait for its id, or tell at once what is known. True: it waits. */
static bool ask(struct matrices *matrices, struct gather_wait *wait)
{
    struct gather *gather = wait->gather;
    const struct store_id *id = &gather->ids[wait->index];
    const uint64_t hash = gather->hashes[wait->index];
    struct matrices_pending *pending = *find(matrices, id, hash);
    if (pending && pending->status != MATRIX_HERE) {
        gather->status[wait->index] = pending->status;
        return false;
    }
    if (!pending) {
        pending = add(matrices, id, hash, gather->mode);
        if (!pending)
            return false;
        matrices_list_add(&matrices->wanted, pending);
    }
    wait->next = pending->waits;
    wait->at = &pending->waits;
    if (wait->next)
        wait->next->at = &wait->next;
    pending->waits = wait;
    return true;
}

/* The time of a gather is over. Of what it waits for, a reader may be telling it some at this moment; that one sees to
 * the rest then. What is being read goes on to hot memory. */
static void give_up_waiting(struct deadline *deadline)
{
    struct gather *gather = POOL_OWNER(deadline, struct gather, deadline);
    struct matrices *matrices = gather->from;
    size_t count = 0;
    pthread_mutex_lock(&matrices->lock);
    for (size_t i = 0; i < gather->missed_count; i++) {
        struct gather_wait *wait = &gather->waits[i];
        if (!wait->at)
            continue;
        *wait->at = wait->next;
        if (wait->next)
            wait->next->at = wait->at;
        wait->at = NULL;
        count++;
    }
    pthread_mutex_unlock(&matrices->lock);
    if (count && atomic_fetch_sub_explicit(&gather->waiting, count, memory_order_acq_rel) == count)
        gather->done(gather);
}

bool gather_told(struct gather *gather, size_t count)
{
    if (atomic_fetch_sub_explicit(&gather->waiting, count, memory_order_acq_rel) != count)
        return false;
    if (gather->deadline_ns) /* not before it is certain that it does not pass may the gather end */
        deadline_clear(gather->from->options.deadlines, &gather->deadline);
    return true;
}

void gather_fetch(struct gather *gather)
{
    struct matrices *matrices = gather->from;
    const size_t count = gather->missed_count;
    size_t told = 0;
    atomic_store_explicit(&gather->waiting, 1, memory_order_relaxed);
    if ((gather->deadline_ns && clock_ns() >= gather->deadline_ns) ||
        !breaker_allows(matrices->options.breaker))
        return;
    gather->waits = calloc(count, sizeof *gather->waits);
    gather->landing = gather->take ? NULL : aligned_alloc(64, count * matrices->block_bytes);
    if (!gather->waits || (!gather->take && !gather->landing))
        return;
    atomic_store_explicit(&gather->waiting, count + 1, memory_order_relaxed);
    pthread_mutex_lock(&matrices->lock);
    expire(matrices, clock_ms());
    for (size_t i = 0; i < count; i++) {
        struct gather_wait *wait = &gather->waits[i];
        wait->gather = gather;
        wait->index = gather->missed[i];
        wait->missed = (uint32_t)i;
        told += !ask(matrices, wait);
    }
    struct matrices_puller *pullers = matrices_pull_wake(matrices);
    pthread_mutex_unlock(&matrices->lock);
    atomic_fetch_sub_explicit(&gather->waiting, told, memory_order_relaxed);
    if (gather->deadline_ns) {
        gather->deadline.passed = give_up_waiting;
        deadline_set(matrices->options.deadlines, &gather->deadline, gather->deadline_ns);
    }
    matrices_pull_start(pullers);
}

bool gather_arrived(struct gather *gather)
{
    return gather_told(gather, 1);
}

void gather_free(struct gather *gather)
{
    free(gather->waits);
    free(gather->landing);
    gather->waits = NULL;
    gather->landing = NULL;
}

/* ---- changes ---- */

/* What is being read may be old already, and what was not there may be there now. */
static void note_change(struct matrices *matrices, const struct store_id *id)
{
    const uint64_t hash = hot_hash(id->id, id->len);
    pthread_mutex_lock(&matrices->lock);
    struct matrices_pending *pending = *find(matrices, id, hash);
    if (pending)
        pending->stale = true; /* one that was not there is found by expire() alone from now on */
    pthread_mutex_unlock(&matrices->lock);
}

struct rereading {
    struct matrices *matrices;
    const struct store_id *ids;
    size_t count, taken;
    matrices_change_fn *fn;
    void *ctx;
    bool unavailable;
};

static size_t next_changed(void *ctx, struct store_id *ids, size_t most)
{
    struct rereading *rereading = ctx;
    size_t count = 0;
    for (; count < most && rereading->taken < rereading->count; count++) {
        ids[count] = rereading->ids[rereading->taken++];
        note_change(rereading->matrices, &ids[count]);
    }
    return count;
}

static void take_changes(
    void *ctx, enum matrix_status status, const size_t *index, const void *const *blocks, size_t count)
{
    struct rereading *rereading = ctx;
    struct matrices *matrices = rereading->matrices;
    for (size_t i = 0; i < count; i++) {
        const struct store_id *id = &rereading->ids[index[i]];
        const uint64_t hash = hot_hash(id->id, id->len);
        const bool hot = hot_has(matrices->hot, id, hash);
        if (status == MATRIX_HERE)
            hot_put(matrices->hot, id, hash, blocks[i], hot ? HOT_REPLACE : HOT_FILL);
        else if (hot)
            hot_remove(matrices->hot, id, hash);
        if (rereading->fn)
            rereading->fn(rereading->ctx, id, status);
    }
    rereading->unavailable |= status == MATRIX_UNAVAILABLE;
}

int matrices_reread(struct matrices *matrices, struct worker *reader, const struct store_id *ids,
    size_t count, matrices_change_fn *fn, void *ctx)
{
    struct rereading rereading = {.matrices = matrices, .ids = ids, .count = count, .fn = fn, .ctx = ctx};
    struct store_id id;
    if (!matrices_read(matrices, reader, next_changed, take_changes, &rereading))
        while (next_changed(&rereading, &id, 1)) {
            const size_t index = rereading.taken - 1;
            take_changes(&rereading, MATRIX_UNAVAILABLE, &index, NULL, 1);
        }
    return rereading.unavailable ? -ERR_UNAVAILABLE : 0;
}

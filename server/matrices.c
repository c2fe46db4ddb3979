/* Why a table of its own and not a mark in hot memory: an id under way has waiters and no block, an absent one has
 * neither, and hot memory's readers take no lock, which waiters need. */
#include "server/matrices.h"

#include "server/clock.h"
#include "server/matrices_int.h"

#include <stdlib.h>
#include <string.h>

/* How long, and how many, ids that were not there are remembered. */
enum { KNOWN_MS = 1000, KNOWN_MOST = 8192 };

int matrices_new(struct matrices **out, const struct matrices_options *options, struct err *err)
{
    struct matrices *matrices = calloc(1, sizeof *matrices);
    if (!matrices)
        return err_set(err, ERR_NOMEM, "no memory for the hot memory");
    matrices->options = *options;
    matrices->known_last = &matrices->known_first;
    matrices->block_bytes = options->kind == STORE_USER ? scorer_user_bytes(options->scorer)
                                                        : scorer_content_bytes(options->scorer);
    pthread_mutex_init(&matrices->lock, NULL);
    const struct hot_options hot = {
        .block_bytes = matrices->block_bytes,
        .limit_bytes = options->limit_bytes,
        .expected = options->expected,
        .readers = options->hot_readers,
    };
    const int code = hot_new(&matrices->hot, &hot, err);
    if (code < 0) {
        matrices_free(matrices);
        return code;
    }
    *out = matrices;
    return 0;
}

bool matrices_idle(struct matrices *matrices)
{
    return atomic_load_explicit(&matrices->batches, memory_order_acquire) == 0;
}

void matrices_free(struct matrices *matrices)
{
    if (!matrices)
        return;
    for (struct matrices_pending *at = matrices->known_first, *next; at; at = next) {
        next = at->next_known;
        free(at);
    }
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

static void unlink_pending(struct matrices *matrices, struct matrices_pending *pending)
{
    struct matrices_pending **at = &matrices->buckets[pending->hash % MATRICES_BUCKETS];
    while (*at != pending)
        at = &(*at)->next;
    *at = pending->next;
}

/* Forget what was not there and may be by now. */
static void expire(struct matrices *matrices, uint64_t now_ms)
{
    struct matrices_pending *oldest;
    while ((oldest = matrices->known_first) && (oldest->until_ms <= now_ms || matrices->known > KNOWN_MOST)) {
        matrices->known_first = oldest->next_known;
        if (!matrices->known_first)
            matrices->known_last = &matrices->known_first;
        matrices->known--;
        unlink_pending(matrices, oldest);
        free(oldest);
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

static void run_batch(struct pool_task *task, struct worker *reader);

/* The batch that has room for one more new id; *batches is a list by their tasks. */
static struct matrices_batch *batch_with_room(struct matrices *matrices, struct pool_task **batches)
{
    struct matrices_batch *batch = (struct matrices_batch *)(void *)*batches;
    if (batch && batch->count < MATRICES_BATCH)
        return batch;
    batch = malloc(sizeof *batch);
    if (!batch)
        return NULL;
    batch->task = (struct pool_task){.next = *batches, .run = run_batch};
    batch->from = matrices;
    batch->count = 0;
    *batches = &batch->task;
    return batch;
}

/* Let one wait for its id, or tell at once what is known. True: it waits. */
static bool ask(struct matrices *matrices, struct gather_wait *wait, struct pool_task **batches)
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
        struct matrices_batch *batch = batch_with_room(matrices, batches);
        pending = batch ? add(matrices, id, hash, gather->mode) : NULL;
        if (!pending)
            return false;
        batch->ids[batch->count++] = pending;
    }
    wait->next = pending->waits;
    pending->waits = wait;
    return true;
}

void gather_fetch(struct gather *gather)
{
    struct matrices *matrices = gather->from;
    const size_t count = gather->missed_count;
    struct pool_task *batches = NULL;
    size_t told = 0;
    gather->waits = calloc(count, sizeof *gather->waits);
    gather->landing = gather->take ? NULL : aligned_alloc(64, count * matrices->block_bytes);
    atomic_store_explicit(&gather->waiting, count + 1, memory_order_relaxed);
    if (!gather->waits || (!gather->take && !gather->landing)) {
        atomic_store_explicit(&gather->waiting, 1, memory_order_relaxed);
        return;
    }
    pthread_mutex_lock(&matrices->lock);
    expire(matrices, clock_ms());
    for (size_t i = 0; i < count; i++) {
        struct gather_wait *wait = &gather->waits[i];
        wait->gather = gather;
        wait->index = gather->missed[i];
        wait->missed = (uint32_t)i;
        told += !ask(matrices, wait, &batches);
    }
    pthread_mutex_unlock(&matrices->lock);
    atomic_fetch_sub_explicit(&gather->waiting, told, memory_order_relaxed);
    while (batches) {
        struct pool_task *task = batches;
        batches = task->next;
        atomic_fetch_add_explicit(&matrices->batches, 1, memory_order_relaxed);
        pool_put(matrices->options.readers, task);
    }
}

bool gather_arrived(struct gather *gather)
{
    return atomic_fetch_sub_explicit(&gather->waiting, 1, memory_order_acq_rel) == 1;
}

void gather_free(struct gather *gather)
{
    free(gather->waits);
    free(gather->landing);
    gather->waits = NULL;
    gather->landing = NULL;
}

/* ---- answers ---- */

/* The id has been read. A fresh matrix goes into hot memory before the id leaves the table, and both under the lock:
 * whoever hears of a change afterwards finds it either there or here. */
static struct gather_wait *settle(
    struct matrices *matrices, struct matrices_pending *pending, enum matrix_status status, const void *block)
{
    const struct store_id id = {pending->id, pending->id_len};
    pthread_mutex_lock(&matrices->lock);
    struct gather_wait *waits = pending->waits;
    pending->waits = NULL;
    if (status == MATRIX_HERE && !pending->stale)
        hot_put(matrices->hot, &id, pending->hash, block, (enum hot_mode)pending->mode);
    if (status == MATRIX_NOT_FOUND || status == MATRIX_CORRUPT) {
        pending->status = (uint8_t)status;
        pending->until_ms = clock_ms() + KNOWN_MS;
        *matrices->known_last = pending;
        matrices->known_last = &pending->next_known;
        matrices->known++;
    } else {
        unlink_pending(matrices, pending);
        free(pending);
    }
    pthread_mutex_unlock(&matrices->lock);
    return waits;
}

/* What came for one gather. */
struct delivery {
    struct gather *gather;
    enum matrix_status status;
    size_t count;
    uint32_t index[MATRICES_RUN], missed[MATRICES_RUN];
    const void *blocks[MATRICES_RUN];
};

static void deliver(const struct delivery *delivery, struct worker *reader)
{
    struct gather *gather = delivery->gather;
    const size_t bytes = gather->from->block_bytes, count = delivery->count;
    for (size_t i = 0; i < count; i++)
        gather->status[delivery->index[i]] = (uint8_t)delivery->status;
    if (delivery->status == MATRIX_HERE && gather->take)
        gather->take(gather, reader, delivery->index, delivery->blocks, count);
    else if (delivery->status == MATRIX_HERE)
        for (size_t i = 0; i < count; i++)
            gather->blocks[delivery->index[i]] =
                memcpy((char *)gather->landing + delivery->missed[i] * bytes, delivery->blocks[i], bytes);
    if (atomic_fetch_sub_explicit(&gather->waiting, count, memory_order_acq_rel) == count)
        gather->done(gather);
}

static void take_answers(
    void *ctx, enum matrix_status status, const size_t *index, const void *const *blocks, size_t count)
{
    const struct matrices_batch *batch = ctx;
    struct gather_wait *waits[MATRICES_RUN];
    for (size_t i = 0; i < count; i++)
        waits[i] = settle(batch->from, batch->ids[index[i]], status, blocks ? blocks[i] : NULL);
    /* All for the gather that waits first, then all for the next: mostly one waits for all of them. */
    for (size_t first = 0; first < count;) {
        struct delivery delivery = {.status = status};
        for (size_t i = first; i < count; i++) {
            struct gather_wait *wait = waits[i];
            if (!wait || (delivery.gather && wait->gather != delivery.gather))
                continue;
            delivery.gather = wait->gather;
            delivery.index[delivery.count] = wait->index;
            delivery.missed[delivery.count] = wait->missed;
            delivery.blocks[delivery.count++] = blocks ? blocks[i] : NULL;
            waits[i] = wait->next; /* the gather may be gone when its last one has come */
        }
        if (delivery.count)
            deliver(&delivery, batch->reader);
        while (first < count && !waits[first])
            first++;
    }
}

static void run_batch(struct pool_task *task, struct worker *reader)
{
    struct matrices_batch *batch = (struct matrices_batch *)(void *)task;
    struct matrices *matrices = batch->from;
    struct store_id ids[MATRICES_BATCH];
    for (size_t i = 0; i < batch->count; i++)
        ids[i] = (struct store_id){batch->ids[i]->id, batch->ids[i]->id_len};
    batch->reader = reader;
    matrices_read(matrices, reader, ids, batch->count, take_answers, batch);
    free(batch);
    atomic_fetch_sub_explicit(&matrices->batches, 1, memory_order_release);
}

/* ---- changes ---- */

/* What is being read may be old already, and what was not there may be there now. */
static void note_change(struct matrices *matrices, const struct store_id *id)
{
    const uint64_t hash = hot_hash(id->id, id->len);
    pthread_mutex_lock(&matrices->lock);
    struct matrices_pending *pending = *find(matrices, id, hash);
    if (pending && pending->status == MATRIX_HERE) {
        pending->stale = true;
    } else if (pending) {
        pending->stale = true; /* expire() finds it when its time has come, nobody else does */
    }
    pthread_mutex_unlock(&matrices->lock);
}

struct rereading {
    struct matrices *matrices;
    const struct store_id *ids;
    matrices_change_fn *fn;
    void *ctx;
    bool unavailable;
};

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
    struct rereading rereading = {.matrices = matrices, .fn = fn, .ctx = ctx};
    for (size_t first = 0; first < count; first += MATRICES_BATCH) {
        const size_t left = count - first, some = left < MATRICES_BATCH ? left : MATRICES_BATCH;
        for (size_t i = 0; i < some; i++)
            note_change(matrices, &ids[first + i]);
        rereading.ids = ids + first;
        matrices_read(matrices, reader, ids + first, some, take_changes, &rereading);
    }
    return rereading.unavailable ? -ERR_UNAVAILABLE : 0;
}

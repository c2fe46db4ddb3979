/* What is wanted is one list, from which each reader takes a little whenever it has room for more: shares of a request that
 * are fixed beforehand leave a reader idle at the end. While it works on one share the next is on its way from the store,
 * so that neither waits for the other. */
#include "server/clock.h"
#include "server/matrices_int.h"
#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

/* Ids that a reader takes at a time, and after how many it lets other tasks have their turn. */
enum { SHARE = 32, TURN = 1024 };

/* How long what was not there is remembered. */
enum { KNOWN_MS = 1000 };

struct pulling {
    struct matrices *matrices;
    struct worker *reader;
    size_t taken, told;
    struct matrices_pending *ids[MATRICES_AHEAD]; /* those in between, a ring */
};

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
    for (struct gather_wait *wait = waits; wait; wait = wait->next)
        wait->at = NULL;
    if (status == MATRIX_HERE && !pending->stale)
        hot_put(matrices->hot, &id, pending->hash, block, (enum hot_mode)pending->mode);
    if (status == MATRIX_NOT_FOUND || status == MATRIX_CORRUPT) {
        pending->status = (uint8_t)status;
        pending->until_ms = clock_ms() + KNOWN_MS;
        matrices_list_add(&matrices->known, pending);
    } else {
        matrices_unlink(matrices, pending);
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
    if (gather_told(gather, count))
        gather->done(gather);
}

/* All for the gather that waits first, then all for the next: mostly one waits for all of them. */
static void deliver_all(struct worker *reader, enum matrix_status status, struct gather_wait **waits,
    const void *const *blocks, size_t count)
{
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
            deliver(&delivery, reader);
        while (first < count && !waits[first])
            first++;
    }
}

static void take_answers(
    void *ctx, enum matrix_status status, const size_t *index, const void *const *blocks, size_t count)
{
    struct pulling *pulling = ctx;
    struct gather_wait *waits[MATRICES_RUN];
    for (size_t i = 0; i < count; i++)
        waits[i] = settle(
            pulling->matrices, pulling->ids[index[i] % MATRICES_AHEAD], status, blocks ? blocks[i] : NULL);
    pulling->told += count;
    deliver_all(pulling->reader, status, waits, blocks, count);
}

/* ---- turns ---- */

/* One share is worked on, another on its way. What nobody waits for any more is not read. */
static size_t next_wanted(void *ctx, struct store_id *ids, size_t most)
{
    struct pulling *pulling = ctx;
    struct matrices *matrices = pulling->matrices;
    struct matrices_pending *pending;
    size_t count = 0;
    if (pulling->taken - pulling->told >= SHARE + MATRICES_RUN || pulling->taken >= TURN)
        return 0;
    pthread_mutex_lock(&matrices->lock);
    while (count < most && count < SHARE && (pending = matrices_list_take(&matrices->wanted))) {
        if (!pending->waits) {
            matrices_unlink(matrices, pending);
            free(pending);
            continue;
        }
        pulling->ids[pulling->taken++ % MATRICES_AHEAD] = pending;
        ids[count++] = (struct store_id){pending->id, pending->id_len};
    }
    pthread_mutex_unlock(&matrices->lock);
    return count;
}

/* Nobody can read: those who wait are told. */
static void give_up(struct matrices *matrices, struct worker *reader)
{
    struct pulling pulling = {.matrices = matrices, .reader = reader};
    struct store_id ids[SHARE];
    size_t index = 0;
    for (size_t count; (count = next_wanted(&pulling, ids, SHARE));)
        for (; count; count--, index++)
            take_answers(&pulling, MATRIX_UNAVAILABLE, &index, NULL, 1);
}

static void pull(struct pool_task *task, struct worker *reader)
{
    struct matrices_puller *self = POOL_OWNER(task, struct matrices_puller, task);
    struct matrices *matrices = self->from;
    struct pulling pulling = {.matrices = matrices, .reader = reader};
    const bool well = matrices_read(matrices, reader, next_wanted, take_answers, &pulling);
    pthread_mutex_lock(&matrices->lock);
    matrices->failed = well ? 0 : matrices->failed + 1;
    /* What one reader cannot read is left to the others, until none of them can. */
    const size_t readers = pool_threads(matrices->options.readers);
    while (matrices->failed >= readers && matrices->pulling == 1 && matrices->wanted.count) {
        pthread_mutex_unlock(&matrices->lock);
        give_up(matrices, reader);
        pthread_mutex_lock(&matrices->lock);
    }
    const bool more = matrices->wanted.count && (well || matrices->pulling == 1);
    if (!more) {
        self->next_idle = matrices->idle;
        matrices->idle = self;
        matrices->pulling--;
    }
    pthread_mutex_unlock(&matrices->lock); /* if there is no more the matrices may be gone now */
    if (more)
        pool_put(matrices->options.readers, task);
}

int matrices_pull_init(struct matrices *matrices, struct err *err)
{
    const size_t count = pool_threads(matrices->options.readers);
    matrices->pullers = calloc(count, sizeof *matrices->pullers);
    if (!matrices->pullers)
        return err_set(err, ERR_NOMEM, "no memory for the readers");
    for (size_t i = 0; i < count; i++) {
        matrices->pullers[i] =
            (struct matrices_puller){.task.run = pull, .from = matrices, .next_idle = matrices->idle};
        matrices->idle = &matrices->pullers[i];
    }
    return 0;
}

struct matrices_puller *matrices_pull_wake(struct matrices *matrices)
{
    struct matrices_puller *first = NULL;
    for (size_t runs = (matrices->wanted.count + MATRICES_RUN - 1) / MATRICES_RUN; runs && matrices->idle;
         runs--) {
        struct matrices_puller *puller = matrices->idle;
        matrices->idle = puller->next_idle;
        puller->next_idle = first;
        first = puller;
        matrices->pulling++;
    }
    return first;
}

void matrices_pull_start(struct matrices_puller *pullers)
{
    while (pullers) {
        struct matrices_puller *next =
            pullers->next_idle; /* it may be idle again as soon as it has started */
        pool_put(pullers->from->options.readers, &pullers->task);
        pullers = next;
    }
}

#include "server/preload.h"

#include "server/clock.h"
#include "server/worker.h"

#include <semaphore.h>
#include <stdlib.h>

/* So many at a time are asked of the readers: all of them have work, and requests' misses wait behind little. */
enum { WINDOW = 2048, PROGRESS_MS = 2000 };

struct preloading {
    struct gather gather; /* the first member */
    sem_t arrived;
    const void *blocks[WINDOW];
    uint8_t status[WINDOW];
    uint32_t missed[WINDOW];
};

/* That it is in hot memory is all that is wanted. */
static void leave(struct gather *gather, struct worker *reader, const uint32_t *index,
    const void *const *blocks, size_t count)
{
    (void)gather, (void)reader, (void)index, (void)blocks, (void)count;
}

static void arrived(struct gather *gather)
{
    sem_post(&((struct preloading *)(void *)gather)->arrived);
}

/* Have the store asked for a window of ids, none of which is hot, and wait for them. */
static void load_window(
    struct preloading *preloading, const struct catalogue *ids, size_t first, size_t count)
{
    struct gather *gather = &preloading->gather;
    gather->ids = ids->ids + first;
    gather->hashes = ids->hashes + first;
    gather->count = gather->missed_count = count;
    for (size_t i = 0; i < count; i++) {
        preloading->missed[i] = (uint32_t)i;
        preloading->status[i] = MATRIX_UNAVAILABLE;
    }
    gather_fetch(gather);
    if (!gather_arrived(gather))
        while (sem_wait(&preloading->arrived) < 0)
            ;
    gather_free(gather);
}

static void log_progress(const struct service *service, const struct live_generation *generation,
    const char *what, size_t done, size_t all, bool full)
{
    struct log_line line;
    log_begin(&line, service->log, LOG_INFO, full ? "preloaded until the memory was full" : "preloading");
    log_text(&line, "generation", generation->name);
    log_text(&line, "kind", what);
    log_int(&line, "done", (int64_t)done);
    log_int(&line, "of", (int64_t)all);
    log_end(&line);
}

static int load_all(struct live_generation *generation, struct service *service, struct matrices *into,
    const struct catalogue *ids, const char *what, struct err *err)
{
    struct preloading *preloading = calloc(1, sizeof *preloading);
    if (!preloading)
        return err_set(err, ERR_NOMEM, "no memory to preload");
    sem_init(&preloading->arrived, 0, 0);
    preloading->gather = (struct gather){.from = into,
        .blocks = preloading->blocks,
        .status = preloading->status,
        .missed = preloading->missed,
        .mode = HOT_FILL,
        .take = leave,
        .done = arrived};
    uint64_t told_ms = clock_ms();
    bool full = false;
    int code = 0;
    size_t done = 0;
    while (code == 0 && !full && done < ids->count) {
        const size_t left = ids->count - done, count = left < WINDOW ? left : WINDOW;
        load_window(preloading, ids, done, count);
        for (size_t i = 0; i < count; i++) {
            if (preloading->status[i] == MATRIX_UNAVAILABLE)
                code = -ERR_UNAVAILABLE;
            if (preloading->status[i] == MATRIX_HERE)
                full = !hot_has(matrices_hot(into), &ids->ids[done + i], ids->hashes[done + i]);
        }
        done += count;
        if (atomic_load_explicit(&service->stopping, memory_order_relaxed))
            code = -ERR_UNAVAILABLE;
        if (code == 0 && (full || clock_ms() - told_ms >= PROGRESS_MS)) {
            log_progress(service, generation, what, done, ids->count, full);
            told_ms = clock_ms();
        }
    }
    sem_destroy(&preloading->arrived);
    free(preloading);
    return code < 0 ? err_set(err, ERR_UNAVAILABLE, "preloading was not finished: the store does not answer")
                    : 0;
}

int preload(struct live_generation *generation, struct service *service, struct err *err)
{
    int code = load_all(generation, service, generation->contents, generation->catalogue, "contents", err);
    struct hot_stats stats;
    hot_stats(matrices_hot(generation->users), &stats);
    const size_t user = matrices_bytes(generation->users) + 256;
    if (code < 0 || generation->manifest.users > stats.limit_bytes / user)
        return code;
    struct catalogue *users = NULL;
    code = catalogue_read(&users, service->watcher->link, generation->name, STORE_USER, err);
    if (code == 0)
        code = load_all(generation, service, generation->users, users, "users", err);
    catalogue_release(users);
    return code;
}

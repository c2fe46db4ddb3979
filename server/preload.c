#include "server/preload.h"

#include "core/id.h"
#include "server/clock.h"
#include "server/live_verify.h"
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

/* Ids of one kind, and what they are read for. */
struct wanted {
    struct matrices *into;
    const struct store_id *ids;
    const uint64_t *hashes;
    size_t count;
    bool users;
    bool lately_asked; /* of the generation before: they need not be in this one */
    uint64_t until_ms; /* of clock_ms; 0: as long as it takes */
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

/* Have the store asked for a window of ids, but for those that are hot already, and wait for them. */
static void load_window(
    struct preloading *preloading, const struct wanted *wanted, size_t first, size_t count)
{
    struct gather *gather = &preloading->gather;
    struct hot *hot = matrices_hot(gather->from);
    gather->ids = wanted->ids + first;
    gather->hashes = wanted->hashes + first;
    gather->count = count;
    gather->missed_count = 0;
    for (size_t i = 0; i < count; i++) {
        const bool here = hot_has(hot, &gather->ids[i], gather->hashes[i]);
        preloading->status[i] = here ? MATRIX_HERE : MATRIX_UNAVAILABLE;
        if (!here)
            preloading->missed[gather->missed_count++] = (uint32_t)i;
    }
    if (!gather->missed_count)
        return;
    gather_fetch(gather);
    if (!gather_arrived(gather))
        while (sem_wait(&preloading->arrived) < 0)
            ;
    gather_free(gather);
}

enum ending { GOING_ON, ALL_READ, MEMORY_FULL, TIME_OVER };

static void log_progress(const struct service *service, const struct live_generation *generation,
    const struct wanted *wanted, size_t done, enum ending ending)
{
    static const char *const endings[] = {"", "all are read", "the memory is full", "memory.warm_ms is over"};
    struct log_line line;
    log_begin(&line, service->log, LOG_INFO,
        wanted->lately_asked ? ending ? "warmed" : "warming"
        : ending             ? "preloaded"
                             : "preloading");
    log_text(&line, "generation", generation->name);
    log_text(&line, "kind", wanted->users ? "users" : "contents");
    log_int(&line, "done", (int64_t)done);
    log_int(&line, "of", (int64_t)wanted->count);
    if (ending)
        log_text(&line, "end", endings[ending]);
    log_end(&line);
}

/* What became of a window: is there room for more, and how many were bad? */
static int judge_window(
    const struct preloading *preloading, const struct wanted *wanted, size_t first, size_t count, size_t *bad)
{
    int code = GOING_ON;
    for (size_t i = 0; i < count; i++) {
        const uint8_t status = preloading->status[i];
        const size_t at = first + i;
        if (status == MATRIX_UNAVAILABLE)
            return -ERR_UNAVAILABLE;
        *bad += status != MATRIX_HERE;
        if (status == MATRIX_HERE &&
            !hot_has(matrices_hot(wanted->into), &wanted->ids[at], wanted->hashes[at]))
            code = MEMORY_FULL;
    }
    return code;
}

/* Read them until the end; an enum ending, or what went wrong. */
static int load_windows(struct preloading *preloading, struct live_generation *generation,
    struct service *service, const struct wanted *wanted, struct err *err)
{
    uint64_t told_ms = clock_ms();
    size_t done = 0, bad = 0;
    int code = GOING_ON;
    while (code == GOING_ON && done < wanted->count) {
        const size_t left = wanted->count - done, count = left < WINDOW ? left : WINDOW;
        load_window(preloading, wanted, done, count);
        code = judge_window(preloading, wanted, done, count, &bad);
        done += count;
        const uint64_t now_ms = clock_ms();
        if (code < 0 || atomic_load_explicit(&service->stopping, memory_order_relaxed))
            return err_set(err, ERR_UNAVAILABLE, "preloading was not finished: the store does not answer");
        if (!wanted->lately_asked && bad > live_verify_tolerated(wanted->count))
            return err_set(err, ERR_CORRUPT, "%zu of the first %zu %s are damaged or missing", bad, done,
                wanted->users ? "users" : "contents");
        if (code == GOING_ON && wanted->until_ms && now_ms >= wanted->until_ms && done < wanted->count)
            code = TIME_OVER;
        if (code == GOING_ON && now_ms - told_ms >= PROGRESS_MS) {
            log_progress(service, generation, wanted, done, code);
            told_ms = now_ms;
        }
    }
    code = code == GOING_ON ? ALL_READ : code;
    if (code != ALL_READ || wanted->lately_asked)
        log_progress(service, generation, wanted, done, code);
    return 0;
}

static int load_all(
    struct live_generation *generation, struct service *service, const struct wanted *wanted, struct err *err)
{
    struct preloading *preloading = calloc(1, sizeof *preloading);
    if (!preloading)
        return err_set(err, ERR_NOMEM, "no memory to preload");
    sem_init(&preloading->arrived, 0, 0);
    preloading->gather = (struct gather){.from = wanted->into,
        .blocks = preloading->blocks,
        .status = preloading->status,
        .missed = preloading->missed,
        .mode = HOT_FILL,
        .take = leave,
        .done = arrived};
    const int code = load_windows(preloading, generation, service, wanted, err);
    sem_destroy(&preloading->arrived);
    free(preloading);
    return code;
}

/* ---- all of a generation ---- */

static bool fits(struct matrices *matrices, size_t count)
{
    struct hot_stats stats;
    hot_stats(matrices_hot(matrices), &stats);
    return count <=
           stats.limit_bytes / (matrices_bytes(matrices) + 256); /* with its id and its place in the index */
}

int preload(struct live_generation *generation, struct worker *watcher, struct err *err)
{
    struct service *service = watcher->service;
    const struct catalogue *contents = generation->catalogue;
    struct wanted wanted = {
        .into = generation->contents,
        .ids = contents->ids,
        .hashes = contents->hashes,
        .count = contents->count,
    };
    int code = load_all(generation, service, &wanted, err);
    if (code < 0 || !fits(generation->users, generation->manifest.users))
        return code;
    struct catalogue *users = NULL;
    code = catalogue_read(&users, watcher->link, generation->name, STORE_USER, err);
    if (code == 0) {
        wanted = (struct wanted){
            .into = generation->users,
            .ids = users->ids,
            .hashes = users->hashes,
            .count = users->count,
            .users = true,
        };
        code = load_all(generation, service, &wanted, err);
    }
    catalogue_release(users);
    return code;
}

/* ---- what was asked for lately ---- */

static int add_id(void *ctx, const struct store_id *id)
{
    const ptrdiff_t index = id_map_add(ctx, id->id, id->len, NULL);
    return index < 0 ? (int)index : 0;
}

/* Read into `into` what is in the memory `from` until the time is over. */
static int warm_kind(struct live_generation *generation, struct service *service, struct hot *from,
    struct wanted *wanted, struct err *err)
{
    struct id_map lately = {0};
    int code = hot_list(from, add_id, &lately);
    struct store_id *ids = malloc((lately.count + 1) * sizeof *ids);
    uint64_t *hashes = malloc((lately.count + 1) * sizeof *hashes);
    if (code < 0 || !ids || !hashes)
        code = err_set(err, ERR_NOMEM, "no memory to warm a generation");
    for (size_t i = 0; code == 0 && i < lately.count; i++) {
        ids[i] = (struct store_id){id_map_get(&lately, i), lately.length[i]};
        hashes[i] = hot_hash(ids[i].id, ids[i].len);
    }
    wanted->ids = ids;
    wanted->hashes = hashes;
    wanted->count = lately.count;
    if (code == 0 && lately.count)
        code = load_all(generation, service, wanted, err);
    id_map_done(&lately);
    free(ids);
    free(hashes);
    return code;
}

int warm(struct live_generation *generation, const struct live_generation *before, struct service *service,
    struct err *err)
{
    const uint64_t warm_ms = (uint64_t)service->config->memory.warm_ms, start_ms = clock_ms();
    const bool preloads = service->config->memory.preload;
    struct wanted contents = {
        .into = generation->contents, .lately_asked = true, .until_ms = start_ms + warm_ms / 4 * 3};
    struct wanted users = {
        .into = generation->users, .users = true, .lately_asked = true, .until_ms = start_ms + warm_ms};
    int code = 0;
    if (!before || warm_ms == 0)
        return 0;
    if (!preloads || !fits(generation->contents, generation->manifest.contents))
        code = warm_kind(generation, service, matrices_hot(before->contents), &contents, err);
    if (code == 0 && (!preloads || !fits(generation->users, generation->manifest.users)))
        code = warm_kind(generation, service, matrices_hot(before->users), &users, err);
    return code;
}

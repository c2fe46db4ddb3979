/* The daemon's parts and its threads. Three kinds of threads do the work, each with things that it alone touches:
 *
 *     loops    read requests and send answers (server/http.h); answer at once what needs no store and little time
 *     workers  rank; they never wait for the store
 *     readers  each with a link to the store, from which they bring what is not in memory, and score it for those who
 *              wait for it while it is in their cache */
#ifndef EMBSUM_SERVER_WORKER_H
#define EMBSUM_SERVER_WORKER_H

#include "config/config.h"
#include "server/access.h"
#include "server/arena.h"
#include "server/auth.h"
#include "server/breaker.h"
#include "server/buffer.h"
#include "server/deadlines.h"
#include "server/live.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/spares.h"

struct http;
struct process;
struct rank_job;
struct shadow;

/* Shared; read-only while requests are answered, but for what has locks of its own. */
struct service {
    const struct config *config;
    const struct log *log;
    struct auth *auth, *admin_auth; /* NULL: everybody may ask */
    struct store *store;
    struct breaker breaker; /* before the store */
    struct deadlines *deadlines;
    struct live *live;
    struct shadow *shadow; /* NULL: off */
    struct worker *
        threads; /* all of them: loops, then workers, the shadow's, then readers, two watchers and the operators' loop */
    size_t thread_count, loop_count, worker_count, reader_count;
    struct worker *loops, *workers, *shadow_ranker, *readers, *watcher, *shadow_watcher,
        *admin; /* into threads */
    struct pool *worker_pool, *reader_pool;
    const struct http *http; /* this and the next are NULL in a test without sockets */
    const struct process *process;
    struct access *access; /* NULL: no access log is wanted */
    atomic_bool stopping;  /* long requests give up */
};

/* Belongs to one thread. */
struct worker {
    struct service *service;
    size_t number;           /* among its kind */
    bool deferred;           /* of loops: the call in hand has been handed on */
    struct store_link *link; /* of readers, the watchers and admin */
    struct arena arena;      /* reset after each request that a handler answers */
    /* Of readers: blobs become blocks in these. */
    struct buffer matrices, gates, blocks;
    /* Of whoever begins to rank: finished jobs to be used again, and those that another has finished. */
    struct spares jobs;
    _Atomic(struct rank_job *) returned;
    /* Of whoever scores: room for a window's scores, and for scorer_best(). */
    struct buffer scores, best;
    struct metrics metrics;
    struct access_facts facts; /* of the ranking that it finishes */
    struct log_limit blob_lines, store_lines, access_errors;
};

/* Loops and workers rank, and look into hot memory, as does the shadow's; where each is among them. */
static inline size_t worker_slot(const struct worker *worker)
{
    return (size_t)(worker - worker->service->threads);
}

static inline size_t worker_slots(const struct service *service)
{
    return service->loop_count + service->worker_count + 1;
}

static inline bool worker_is_loop(const struct worker *worker)
{
    return worker_slot(worker) < worker->service->loop_count;
}

/* Open the store and start the threads but for the loops; config and log outlive the service. On failure
 * service_done is safe, too. */
int service_init(
    struct service *service, const struct config *config, const struct log *log, struct err *err);
void service_done(struct service *service);

/* Open the store that the configuration names, for reading. */
int worker_open_store(struct store **out, const struct config *config, struct err *err);

/* A blob that was refused is counted and logged by its reason; kind is "user" or "content". */
void worker_note_blob(struct worker *worker, const char *kind, const struct store_id *id,
    const char *generation, enum blob_reason reason);

/* How a call on the worker's link has ended: a failure is counted and logged, the breaker hears of either. */
void worker_note_store(struct worker *worker, int code, const struct err *err);

#endif

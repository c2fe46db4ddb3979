/* What requests are answered with: things shared by all workers, and those that each has for itself. */
#ifndef EMBSUM_SERVER_WORKER_H
#define EMBSUM_SERVER_WORKER_H

#include "config/config.h"
#include "server/arena.h"
#include "server/contents.h"
#include "server/live.h"
#include "server/log.h"
#include "server/metrics.h"

struct http;

/* Shared; read-only while requests are answered, but for live, which has locks of its own. */
struct service {
    const struct config *config;
    const struct log *log;
    struct store *store;
    struct live *live;
    struct worker *workers;
    size_t worker_count;
    const struct http *http; /* NULL in a test without sockets */
};

enum stage { STAGE_PARSE, STAGE_FETCH, STAGE_SCORE, STAGE_WRITE, STAGES };

/* Belongs to one thread, which answers one request at a time. */
struct worker {
    struct service *service;
    struct store_link *link;
    struct arena arena; /* reset after each request */
    struct contents contents;
    double *score_scratch; /* score_scratch() doubles of the generation in hand */
    size_t score_scratch_size;
    struct metrics metrics;
    uint64_t stage_ns[STAGES]; /* of the request in hand */
    struct log_limit blob_lines, store_lines;
};

/* Open the store and make worker_count workers; config and log outlive the service. On failure
 * service_done is safe, too. */
int service_init(struct service *service, const struct config *config, const struct log *log,
    size_t worker_count, struct err *err);
void service_done(struct service *service);

/* A blob that was refused is counted and logged by its reason; kind is "user" or "content". */
void worker_note_blob(struct worker *worker, const char *kind, const struct store_id *id,
    const char *generation, enum blob_reason reason);
void worker_note_store(struct worker *worker, const struct err *err);

#endif

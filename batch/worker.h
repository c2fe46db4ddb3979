/* A helper of refreshes on other machines (batch/encode_farm.h): takes units of work from the store's queue, encodes them
 * and writes the matrices where the refresh wants them. It needs the same model and the store, no catalogue.
 *
 * It may be killed at any moment: what a unit makes is the same whoever makes it, and however often.
 */
#ifndef EMBSUM_BATCH_WORKER_H
#define EMBSUM_BATCH_WORKER_H

#include "core/err.h"
#include "store/store.h"

#include <stdbool.h>

struct worker_options {
    const char *model; /* the model's folder; looked at anew for each job */
    long threads;      /* 0: one a core */
    double max_idle;   /* seconds without a unit after which it ends; 0: never */
    bool wait;         /* for a job that fits, where one is of another model */
    bool quiet;
};

struct worker_done {
    size_t units, contents, users, tokens;
};

/* Until SIGTERM (batch/stop.h; the units in hand are finished), or the idle time is over. A store that does not answer is
 * waited for. ERR_INVALID: a job is of another model. */
int worker_run(
    struct worker_done *done, struct store *store, const struct worker_options *options, struct err *err);

#endif

/* The live generation, in memory: what a request is answered with.
 *
 *     struct live_generation *generation = live_acquire(live);       NULL: none yet
 *     ... one generation from the first look-up to the last: an answer never mixes two ...
 *     live_release(generation);
 *
 * A thread watches the store's live pointer. A new generation is read and checked beside the old one (its
 * manifest, W_s and default user); only then one pointer is swapped. One that fails is refused, named in the
 * log and counted, and the old one goes on. The old one is freed by the watcher when its last request is
 * done: giving back a gigabyte takes longer than a request may. */
#ifndef EMBSUM_SERVER_LIVE_H
#define EMBSUM_SERVER_LIVE_H

#include "server/catalogue.h"
#include "server/hot.h"
#include "server/log.h"
#include "store/manifest.h"
#include "store/store.h"

#include <stdatomic.h>
#include <time.h>

/* Read-only once it is live, but for hot and catalogue, which have locks of their own. */
struct live_generation {
    char name[STORE_GENERATION_MAX];
    struct manifest manifest; /* m, n, d: the shapes of everything in the generation */
    float *score_proj;        /* W_s, d x d */
    float *default_user;      /* A of the empty history, m x d; NULL: unknown users are not ranked */
    struct hot *hot;
    struct catalogue *catalogue;
    time_t loaded;
    double load_seconds;
    atomic_size_t users; /* requests that hold it, and the watcher */
    struct live_generation *next;
};

struct live;

struct live_options {
    struct store *store;
    const struct log *log;
    size_t memory_bytes; /* bound of a generation's hot memory */
    long poll_ms;
    size_t workers; /* that look up in hot memory */
};

int live_new(struct live **out, const struct live_options *options, struct err *err);
int live_start(struct live *live, struct err *err); /* the watcher; without it live_poll does its work */
void live_free(struct live *live);                  /* ends the watcher; nothing may be acquired */

struct live_generation *live_acquire(struct live *live);
void live_release(struct live_generation *generation); /* NULL is allowed */

/* One look at the store. 0 if the generation in memory is the live one afterwards. For the watcher, and for
 * tests that want to know when. */
int live_poll(struct live *live, struct err *err);

struct live_stats {
    uint64_t loads, refusals, store_errors;
};
void live_stats(struct live *live, struct live_stats *out);

#endif

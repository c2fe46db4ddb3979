/* What the files of matrices share:
 *
 *     matrices.c        who asks for what, and what is known already
 *     matrices_pull.c   the readers' way through what is wanted, and who hears of it
 *     matrices_read.c   out of the store, checked and packed */
#ifndef EMBSUM_SERVER_MATRICES_INT_H
#define EMBSUM_SERVER_MATRICES_INT_H

#include "server/matrices.h"
#include "server/pool.h"

#include <pthread.h>

struct gather_wait {
    struct gather_wait *next, **at; /* at: what points here; NULL: it does not wait, or has been told */
    struct gather *gather;
    uint32_t index, missed; /* gather->missed[missed] == index */
};

/* An id that is wanted or being read, or was lately not there. */
struct matrices_pending {
    struct matrices_pending *next;        /* in its bucket */
    struct matrices_pending *next_listed; /* of those that are wanted, or of those that were not there */
    struct gather_wait *waits;
    uint64_t hash, until_ms;
    uint8_t status; /* MATRIX_HERE until it has been read */
    uint8_t mode;
    bool stale; /* it changed meanwhile: good for those who wait already, for nobody and nothing else */
    uint16_t id_len;
    char id[];
};

/* In the order in which they came. */
struct matrices_list {
    struct matrices_pending *first, **last;
    size_t count;
};

void matrices_list_init(struct matrices_list *list);
void matrices_list_add(struct matrices_list *list, struct matrices_pending *pending);
struct matrices_pending *matrices_list_take(struct matrices_list *list); /* the first; NULL: there is none */

/* A reader's turn at what is wanted. */
struct matrices_puller {
    struct pool_task task;
    struct matrices *from;
    struct matrices_puller *next_idle;
};

#define MATRICES_BUCKETS 4096

struct matrices {
    struct matrices_options options;
    struct hot *hot;
    size_t block_bytes;
    struct matrices_puller *pullers; /* one for each reader */
    pthread_mutex_t lock;            /* over all below */
    struct matrices_pending *buckets[MATRICES_BUCKETS];
    struct matrices_list wanted, known; /* known: was not there, the oldest first */
    struct matrices_puller *idle;
    size_t pulling, failed; /* pullers that are not idle; turns in a row that failed */
};

/* So many of what the gather waits for have come, or it does not wait for them any more. True: they were the last, and
 * it is the caller's now. */
bool gather_told(struct gather *gather, size_t count);

/* Out of its bucket; under the lock. */
void matrices_unlink(struct matrices *matrices, struct matrices_pending *pending);

/* ---- matrices_pull.c ---- */

int matrices_pull_init(struct matrices *matrices, struct err *err);

/* As many of the idle pullers as what is wanted has work for, taken under the lock, and started without it. */
struct matrices_puller *matrices_pull_wake(struct matrices *matrices);
void matrices_pull_start(struct matrices_puller *pullers);

/* ---- matrices_read.c ---- */

/* Contents that are made ready together: as many as scorer_gate() reads W_s for at a time, and what they become fits
 * into the cache beside it. */
#define MATRICES_RUN 16

/* Ids that have been asked of the store and not been told of, at most. */
#define MATRICES_AHEAD 128

/* What became of some ids, at most MATRICES_RUN; blocks (packed, valid during the call) where they are here. index counts
 * the ids that next gave; each is told once. */
typedef void matrices_told_fn(
    void *ctx, enum matrix_status status, const size_t *index, const void *const *blocks, size_t count);

/* Read, check and pack what next gives, see store_stream(). What goes wrong is counted and logged by the reader; false: the
 * store failed, and next may have more. */
bool matrices_read(
    struct matrices *matrices, struct worker *reader, store_next_fn *next, matrices_told_fn *fn, void *ctx);

#endif

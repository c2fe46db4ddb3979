/* What matrices.c (who asks for what) and matrices_read.c (how it comes out of the store) share. */
#ifndef EMBSUM_SERVER_MATRICES_INT_H
#define EMBSUM_SERVER_MATRICES_INT_H

#include "server/matrices.h"
#include "server/pool.h"

#include <pthread.h>

/* Ids read by one call of a reader: some MGETs, so that the next is on its way while this one is worked on, and several
 * calls for a request with a thousand, so that all readers have their share. */
#define MATRICES_BATCH 64

struct gather_wait {
    struct gather_wait *next;
    struct gather *gather;
    uint32_t index, missed; /* gather->missed[missed] == index */
};

/* An id that is being read, or was lately not there. */
struct matrices_pending {
    struct matrices_pending *next;       /* in its bucket */
    struct matrices_pending *next_known; /* of those that are not being read any more, the oldest first */
    struct gather_wait *waits;
    uint64_t hash, until_ms;
    uint8_t status; /* MATRIX_HERE while it is being read */
    uint8_t mode;
    bool stale; /* it changed meanwhile: good for those who wait already, for nobody and nothing else */
    uint16_t id_len;
    char id[];
};

#define MATRICES_BUCKETS 4096

struct matrices {
    struct matrices_options options;
    struct hot *hot;
    size_t block_bytes;
    atomic_size_t batches; /* under way */
    pthread_mutex_t lock;  /* over all below */
    struct matrices_pending *buckets[MATRICES_BUCKETS];
    struct matrices_pending *known_first, **known_last;
    size_t known;
};

struct matrices_batch {
    struct pool_task task;
    struct matrices *from;
    struct worker *reader; /* who has it in hand */
    size_t count;
    struct matrices_pending *ids[MATRICES_BATCH];
};

/* Contents that are made ready together: as many as scorer_gate() reads W_s for at a time, and what they become fits
 * into the cache beside it. */
#define MATRICES_RUN 16

/* What became of some ids, at most MATRICES_RUN; blocks (packed, valid during the call) where they are here. Each index
 * is told once. */
typedef void matrices_told_fn(
    void *ctx, enum matrix_status status, const size_t *index, const void *const *blocks, size_t count);

/* Read, check and pack at most MATRICES_BATCH ids. What goes wrong is counted and logged by the reader. */
void matrices_read(struct matrices *matrices, struct worker *reader, const struct store_id *ids, size_t count,
    matrices_told_fn *fn, void *ctx);

#endif

/* The matrices of one kind (users or contents) of one generation, ready for scoring: those in hot memory, and those
 * that are under way from the store.
 *
 *     struct gather gather = {.from = matrices, .ids = ids, .hashes = hashes, .count = count, ...};
 *     hot_enter(matrices_hot(matrices), worker->number);
 *     gather_look(&gather, worker);                 what is hot can be read until hot_leave
 *     if (gather.missed_count)
 *         gather_fetch(&gather);                    the rest is on its way
 *     ... use what was found ...
 *     hot_leave(...);
 *     if (gather.missed_count && !gather_arrived(&gather))
 *         return;                                   gather.done() is called when the last one has come
 *     ... use the rest ...
 *     gather_free(&gather);
 *
 * Nobody waits with a thread, nor longer than until the deadline: what has not come by then is unavailable for who asked,
 * and goes into hot memory when it comes. While the breaker is open nothing is asked for. An id that several ask for at once is read once. An id that was not there, or damaged, is
 * not asked for again for a moment. Any number of threads may use one struct matrices. */
#ifndef EMBSUM_SERVER_MATRICES_H
#define EMBSUM_SERVER_MATRICES_H

#include "core/err.h"
#include "core/scorer.h"
#include "server/breaker.h"
#include "server/deadlines.h"
#include "server/hot.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gather;
struct matrices;
struct pool;
struct worker;

struct matrices_options {
    enum store_kind kind;                      /* STORE_USER or STORE_CONTENT */
    const char *generation;                    /* this and the next two outlive the matrices */
    const struct scorer *scorer;               /* whose layout they have */
    const void *proj;                          /* of contents: W_s, packed by the scorer */
    size_t rows, cols;                         /* as in the store: m x d, n x d */
    size_t limit_bytes, expected, hot_readers; /* see hot.h */
    struct pool *readers;                      /* threads with a link to the store */
    struct breaker *breaker;                   /* the store's */
    struct deadlines *deadlines;
};

int matrices_new(struct matrices **out, const struct matrices_options *options, struct err *err);
bool matrices_idle(struct matrices *matrices); /* nothing is under way */
void matrices_free(struct matrices *matrices); /* idle, and nobody inside hot memory; NULL is allowed */
struct hot *matrices_hot(struct matrices *matrices);
size_t matrices_bytes(const struct matrices *matrices); /* of a block */

/* ---- asking ---- */

enum matrix_status { MATRIX_HERE, MATRIX_NOT_FOUND, MATRIX_CORRUPT, MATRIX_UNAVAILABLE };

/* Some of what was missed has come, blocks[i] of ids[index[i]]: a reader calls this, several perhaps at once. The blocks are
 * good during the call, which is where they are in the cache; gather->blocks stay NULL. */
typedef void gather_take_fn(struct gather *gather, struct worker *reader, const uint32_t *index,
    const void *const *blocks, size_t count);

struct gather {
    /* The caller's: what is asked for, and room for count answers. Ids stay until the end. */
    struct matrices *from;
    const struct store_id *ids;
    const uint64_t *hashes; /* of hot_hash */
    size_t count;
    const void **blocks;  /* NULL: not here */
    uint8_t *status;      /* enum matrix_status */
    uint32_t *missed;     /* those that were not hot: indices into ids */
    enum hot_mode mode;   /* how what comes from the store goes into hot memory: HOT_FILL or HOT_KEEP */
    gather_take_fn *take; /* NULL: what comes is copied, and stays until gather_free */
    void (*done)(struct gather *gather);
    uint64_t deadline_ns; /* 0: none */

    size_t missed_count;
    /* matrices.c's own */
    atomic_size_t waiting;
    struct deadline deadline;
    struct gather_wait *waits;
    void *landing;
};

/* Fill blocks and status with what is hot, missed with the others, whose status is unavailable until more is known.
 * Inside hot memory; number is the thread's there. */
void gather_look(struct gather *gather, size_t number);

/* Ask the store for what was missed. Without memory, after the deadline, and while the store is away those stay
 * unavailable. */
void gather_fetch(struct gather *gather);

/* Once after gather_fetch: have all come? If not, done() will be called when they have, perhaps before this returns. */
bool gather_arrived(struct gather *gather);

/* Give back what gather_fetch took; blocks that came from the store are gone then. */
void gather_free(struct gather *gather);

/* ---- what changed in the store ---- */

/* Read these ids again and let hot memory have what they are now; an id that was not hot gets free room at most. fn (may
 * be NULL) hears what each is now. ERR_UNAVAILABLE: some could not be read and are not hot any more. For a thread with a
 * link to the store. */
typedef void matrices_change_fn(void *ctx, const struct store_id *id, enum matrix_status status);
int matrices_reread(struct matrices *matrices, struct worker *reader, const struct store_id *ids,
    size_t count, matrices_change_fn *fn, void *ctx);

#endif

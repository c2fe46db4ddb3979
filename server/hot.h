/* Hot memory: the contents of one generation, ready for scoring, within a bound.
 *
 * A content's block is 2n x d float32: B over G = gelu(B W_s), see core/score.h. Blocks lie in slabs; when
 * the bound is reached CLOCK chooses whom to forget: each entry asked for since the hand last passed gets a
 * second round.
 *
 *     struct hot_ref refs[count];
 *     hot_acquire(hot, ids, count, refs);
 *     ... read refs[i].block, NULL where the content is not here ...
 *     hot_release(refs, count);
 *
 * A block that is acquired stays where and what it is until it is released: readers look up under a lock and
 * read without one. Any number of threads may use one struct hot. */
#ifndef EMBSUM_SERVER_HOT_H
#define EMBSUM_SERVER_HOT_H

#include "core/err.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hot;

/* limit_bytes bounds slabs, ids and the index together; with less than one entry's worth nothing is kept. */
int hot_new(struct hot **out, size_t n, size_t d, size_t limit_bytes, struct err *err);
void hot_free(struct hot *hot); /* nothing may be acquired; NULL is allowed */

struct hot_ref {
    const float *block; /* 2n x d, aligned to 64 bytes; NULL: not here */
    void *entry;        /* hot.c's own */
};

/* Returns how many of the ids are here. Every ref has to be released. */
size_t hot_acquire(struct hot *hot, const struct store_id *ids, size_t count, struct hot_ref *refs);
void hot_release(const struct hot_ref *refs, size_t count);

/* Keep a copy of a block. An id that is here already stays as it is. Without may_evict only free room is
 * used. Keeping is a favour, not a duty: false if there was no room. */
bool hot_put(struct hot *hot, const struct store_id *id, const float *block, bool may_evict);

struct hot_stats {
    size_t entries, bytes, limit_bytes;
    uint64_t hits, misses, evictions;
};
void hot_stats(struct hot *hot, struct hot_stats *out);

#endif

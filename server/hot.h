/* Hot memory: the matrices of one generation and one kind, in the layout that is scored, by id, within a bound.
 *
 * Blocks lie in slabs; when the bound is reached CLOCK chooses whom to forget: each entry asked for since the hand
 * last passed gets a second round.
 *
 *     hot_enter(hot, reader);
 *     hot_find(hot, ids, hashes, count, blocks);
 *     ... read blocks[i], NULL where it is not here ...
 *     hot_leave(hot, reader);
 *
 * Readers take no lock and write nothing that others read, but for the mark that the hand looks at. A block that was
 * found stays where and what it is until hot_leave: what is forgotten or replaced is used again only when every
 * reader that may have seen it has left. Writers, any number of them, exclude each other and never wait for a
 * reader: a put that finds no room now is refused. */
#ifndef EMBSUM_SERVER_HOT_H
#define EMBSUM_SERVER_HOT_H

#include "core/err.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hot;

struct hot_options {
    size_t block_bytes; /* of each block; aligned to 64 */
    size_t
        limit_bytes; /* of slabs, ids and index together; with less than one block's worth nothing is kept */
    size_t expected; /* no more entries than this are made room for at first; 0: unknown */
    size_t readers;  /* threads that call hot_enter, each with a number of its own below this */
};

int hot_new(struct hot **out, const struct hot_options *options, struct err *err);
void hot_free(struct hot *hot); /* nobody may be inside; NULL is allowed */

/* An id's hash, seeded anew in each process, so that nobody can choose ids that collide. */
uint64_t hot_hash(const char *id, size_t len);

/* ---- readers ---- */

/* The first of the next two calls may be repeated only after the second. */
void hot_enter(struct hot *hot, size_t reader);
void hot_leave(struct hot *hot, size_t reader);

/* Between the two. hashes are those of hot_hash. An id that is here may be missed while writers move slots about. Returns how many of the ids are here. Look-ups are counted. */
size_t hot_find(struct hot *hot, size_t reader, const struct store_id *ids, const uint64_t *hashes,
    size_t count, const void **blocks);

/* Between the two. Up to max ids in memory that begin with the prefix, in no order, into ids, whose bytes are good until
 * hot_leave. No more than `places` of the index are looked at, from that of the prefix itself on: an id given in full is
 * found however many there are. *all tells whether all places were looked at. An id may be left out or told twice while writers move slots about. Nothing
 * is counted, and the hand sees nothing of it. Returns how many there are. */
size_t hot_match(struct hot *hot, const struct store_id *prefix, size_t places, struct store_id *ids,
    size_t max, bool *all);

/* ---- writers: a thread that is inside holds back what it forgets itself, so it leaves before it puts ---- */

enum hot_mode {
    HOT_FILL,    /* an id that is here stays as it is; only free room is used */
    HOT_KEEP,    /* the same, but others may be forgotten for it */
    HOT_REPLACE, /* the block takes the place of the one that is here; others may be forgotten for it */
};

/* Keep a copy of a block. Keeping is a favour, not a duty: false if there was no room. For HOT_REPLACE false leaves
 * nothing of the id behind: an old block is never served after a new one was offered. */
bool hot_put(
    struct hot *hot, const struct store_id *id, uint64_t hash, const void *block, enum hot_mode mode);

/* Get the memory for count matrices from the kernel now, as far as the bound allows: clearing a page for the first time
 * takes longer than reading what comes to lie in it. */
void hot_reserve(struct hot *hot, size_t count);

/* Forget an id; true if it was here. */
bool hot_remove(struct hot *hot, const struct store_id *id, uint64_t hash);
bool hot_has(struct hot *hot, const struct store_id *id, uint64_t hash); /* for a writer's decisions */

/* Tell of the ids that are here: those asked for since the hand last passed, then the others, each from the hand
 * backwards, so that those come first that would be forgotten last. An id may be left out or told twice if writers are at
 * work. fn may not call hot memory; what it returns but 0 ends the call, which returns it. */
typedef int hot_id_fn(void *ctx, const struct store_id *id);
int hot_list(struct hot *hot, hot_id_fn *fn, void *ctx);

struct hot_stats {
    size_t entries, bytes, limit_bytes;
    uint64_t hits, misses, evictions;
    bool huge_pages; /* the kernel was asked for them and did not refuse */
};
void hot_stats(struct hot *hot, struct hot_stats *out);

#endif

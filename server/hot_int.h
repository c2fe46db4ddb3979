/* Shared by server/hot*.c alone.
 *
 *     hot.c         the public face: readers, and writers under their lock
 *     hot_index.c   from a hash to an entry: open addressing
 *     hot_room.c    slabs and entries: making room, forgetting, and when what was forgotten may be used again
 *     hot_map.c     memory from the kernel, in huge pages where it has them
 *
 * What readers and writers share without a lock are four kinds of atomics: the readers' epochs, the pointer to the
 * table, its slots, and the count of moves. All of them are read and written sequentially consistent, C's default:
 * there is one order of these accesses that all threads agree on, and every argument below is made in it. A reader
 * pays for that with one exchange in hot_enter; its loads are plain ones on x86 and load-acquire on ARM. */
#ifndef EMBSUM_SERVER_HOT_INT_H
#define EMBSUM_SERVER_HOT_INT_H

#include "server/hot.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

enum { HOT_LINE = 64, HOT_ID_INLINE = 40 };

/* An entry is its number + 1 wherever it is named, so that 0 is none. */
enum hot_state { HOT_FREE, HOT_HERE, HOT_LIMBO };

/* One cache line. Its block is its own for life. While it is in the index or in limbo, hash, id and block stand
 * still: readers look at them without further ado. */
struct hot_entry {
    alignas(HOT_LINE) uint64_t hash;
    unsigned char *block;
    uint32_t next; /* in the list that it is in: free ones, or limbo; writers only, as is state */
    uint16_t id_len;
    uint8_t state;
    atomic_bool asked; /* since the hand last passed */
    union {
        char here[HOT_ID_INLINE]; /* ids up to this long */
        char *away;               /* malloc'ed */
    } id;
};
_Static_assert(sizeof(struct hot_entry) == HOT_LINE, "an entry is a cache line");

/* A slot is the upper half of an entry's hash and the entry; 0 is an empty one. */
struct hot_table {
    size_t mask, bytes;
    struct hot_table *next; /* in limbo */
    atomic_uint_fast64_t *slots;
};

struct hot_reader {
    alignas(HOT_LINE) atomic_uint_fast64_t epoch; /* when it entered; 0: outside */
    atomic_uint_fast64_t hits, misses;            /* written by this reader alone */
};

/* What was forgotten together, and is used again together. */
struct hot_limbo {
    uint32_t entries; /* the first */
    size_t count;
    struct hot_table *tables;
};

struct hot {
    /* Read-only once it is made. */
    size_t block_bytes, stride; /* of a block, and from one to the next */
    size_t limit_bytes, capacity, expected;
    size_t slab_bytes, slab_blocks;
    size_t entry_step;         /* bytes by which the entries grow */
    struct hot_entry *entries; /* capacity of them are mapped; pages that nobody touched cost nothing */
    struct hot_reader *readers;
    size_t reader_count;
    struct hot_table nothing; /* the table until there is something to find */
    atomic_uint_fast64_t no_slot;

    alignas(HOT_LINE) struct hot_table *_Atomic table;
    alignas(HOT_LINE) atomic_uint_fast64_t moves; /* odd while slots move */
    alignas(HOT_LINE) atomic_uint_fast64_t epoch;

    alignas(HOT_LINE) pthread_mutex_t lock; /* over what follows */
    size_t created;                         /* entries that have a block: the first ones */
    size_t entry_bytes;                     /* that may be in use by them */
    size_t index_bytes, id_bytes;           /* with those in limbo */
    size_t count;                           /* in the index */
    uint32_t free_list;
    size_t free_count;
    struct hot_limbo fresh, waiting; /* see hot_reclaim */
    uint64_t waiting_epoch;
    size_t reserve; /* entries to have free or in limbo, see hot_take */
    size_t hand;
    uint64_t evictions;
    bool huge_pages;
};

static inline struct hot_entry *hot_at(const struct hot *hot, uint32_t entry)
{
    return &hot->entries[entry - 1];
}

/* ---- hot_map.c ---- */

/* Zeroed memory, aligned to huge pages if it is as large as one; *huge tells whether the kernel was asked for them
 * and did not refuse (NULL: do not care). NULL if there is none. */
void *hot_map(size_t bytes, bool *huge);
void hot_touch(void *memory, size_t bytes); /* so that the kernel provides all of it now */
void hot_unmap(void *memory, size_t bytes);
#define HOT_HUGE ((size_t)2 << 20)
#define HOT_PAGE ((size_t)4096)

/* ---- hot_index.c ---- */

static inline uint64_t hot_slot(uint64_t hash, uint32_t entry)
{
    return (hash & ~(uint64_t)UINT32_MAX) | entry;
}

static inline const char *hot_entry_id(const struct hot_entry *entry)
{
    return entry->id_len > HOT_ID_INLINE ? entry->id.away : entry->id.here;
}

static inline bool hot_entry_is(const struct hot_entry *entry, const struct store_id *id, uint64_t hash)
{
    return entry->hash == hash && entry->id_len == id->len &&
           memcmp(hot_entry_id(entry), id->id, id->len) == 0;
}

/* A reader's look-up: the entry of an id, or 0. What is here may be missed while its slot moves. */
uint32_t hot_index_find(
    const struct hot *hot, const struct hot_table *table, const struct store_id *id, uint64_t hash);

/* The rest is for writers. A table has a power of two of slots, at least two an entry; it is NULL if there is no
 * memory. Those that are made are counted in index_bytes. */
size_t hot_table_slots(size_t entries);
struct hot_table *hot_table_new(struct hot *hot, size_t slots);
void hot_table_free(struct hot *hot, struct hot_table *table);
void hot_table_fill(const struct hot *hot, struct hot_table *table); /* with all entries that are here */

/* Put an entry in, over the one that has its id: returns that one, which is out then, or 0. */
uint32_t hot_index_set(struct hot *hot, uint32_t entry);
void hot_index_remove(struct hot *hot, uint32_t entry);

/* ---- hot_room.c, all under the lock ---- */

size_t hot_bytes(const struct hot *hot);

/* An entry with the id and hash in it, in no list and not in the index; or 0. */
uint32_t hot_take(struct hot *hot, const struct store_id *id, uint64_t hash, enum hot_mode mode);
void hot_retire(struct hot *hot, uint32_t entry); /* is out of the index; into limbo */
void hot_forget(struct hot *hot, uint32_t entry); /* out of the index, into limbo */
void hot_top_up(struct hot *hot);                 /* after a put: forget ahead for the next one */

#endif

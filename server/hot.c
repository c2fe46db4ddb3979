/* Why a lock for readers was rejected, although it would be held for nanoseconds: two workers that look up 1,000 ids
 * each pass the line with the lock, and lines with counts of who reads what, to and fro between their cores for each
 * id. With epochs a reader writes one line of its own, twice a request. */
#include "server/hot_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <xxhash.h>

/* ---- the hash ---- */

/* Of the process and not of a struct hot, so that an id that is looked up in two of them is hashed once. Written
 * before main and never again. */
static uint64_t hash_seed;

__attribute__((constructor)) static void draw_hash_seed(void)
{
    if (getrandom(&hash_seed, sizeof hash_seed, 0) == sizeof hash_seed)
        return;
    /* A kernel or a sandbox without getrandom: what is harder to guess than nothing. */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    hash_seed = (uint64_t)now.tv_nsec * 1000003 + (uint64_t)now.tv_sec + (uintptr_t)&now;
}

uint64_t hot_hash(const char *id, size_t len)
{
    return XXH3_64bits_withSeed(id, len, hash_seed);
}

/* ---- life ---- */

/* Small limits get small slabs: a bound of 1 MiB must hold more than nothing. Slabs grow until less than a sixty-fourth
 * of them is left over behind their last block. */
static void choose_slabs(struct hot *hot)
{
    const size_t most = hot->limit_bytes / 32, unit = most < HOT_HUGE ? HOT_PAGE : HOT_HUGE;
    const size_t least = most < HOT_HUGE ? most / unit * unit : HOT_HUGE;
    size_t bytes = (hot->stride + unit - 1) / unit * unit;
    if (bytes < least)
        bytes = least;
    while (bytes % hot->stride > bytes / 64 && bytes + unit <= most)
        bytes += unit;
    hot->slab_bytes = bytes;
    hot->slab_blocks = bytes / hot->stride;
}

static size_t entries_mapped(const struct hot *hot)
{
    return (hot->capacity * sizeof *hot->entries / hot->entry_step + 1) * hot->entry_step;
}

static int make_hot(struct hot *hot, const struct hot_options *options, struct err *err)
{
    hot->block_bytes = options->block_bytes;
    hot->stride = (options->block_bytes + HOT_LINE - 1) / HOT_LINE * HOT_LINE;
    hot->limit_bytes = options->limit_bytes;
    choose_slabs(hot);
    const size_t slots = 2 * sizeof(*hot->nothing.slots); /* of an entry, at least */
    hot->capacity = hot->limit_bytes / (hot->stride + sizeof(struct hot_entry) + slots);
    if (hot->capacity >= UINT32_MAX)
        hot->capacity = UINT32_MAX - 1;
    hot->expected = options->expected < hot->capacity ? options->expected : hot->capacity;
    hot->entry_step = hot->capacity * sizeof(struct hot_entry) < HOT_HUGE ? HOT_PAGE : HOT_HUGE;
    hot->nothing.slots = &hot->no_slot;
    atomic_init(&hot->table, &hot->nothing);
    atomic_init(&hot->epoch, 1);
    hot->reader_count = options->readers;
    hot->readers = aligned_alloc(HOT_LINE, (hot->reader_count + 1) * sizeof *hot->readers);
    hot->entries = hot_map(entries_mapped(hot), NULL);
    if (!hot->readers || !hot->entries)
        return err_set(err, ERR_NOMEM, "no memory for %zu entries of the hot memory", hot->capacity);
    memset(hot->readers, 0, (hot->reader_count + 1) * sizeof *hot->readers);
    return 0;
}

int hot_new(struct hot **out, const struct hot_options *options, struct err *err)
{
    if (!options->block_bytes || options->block_bytes > SIZE_MAX / 8)
        return err_set(err, ERR_INVALID, "a block of %zu bytes cannot be kept", options->block_bytes);
    struct hot *hot = aligned_alloc(alignof(struct hot), sizeof *hot);
    if (!hot)
        return err_set(err, ERR_NOMEM, "no memory for the hot memory");
    memset(hot, 0, sizeof *hot);
    pthread_mutex_init(&hot->lock, NULL);
    const int code = make_hot(hot, options, err);
    if (code < 0) {
        hot_free(hot);
        return code;
    }
    *out = hot;
    return 0;
}

static void free_tables(struct hot *hot, struct hot_table *table)
{
    while (table) {
        struct hot_table *next = table->next;
        hot_table_free(hot, table);
        table = next;
    }
}

void hot_free(struct hot *hot)
{
    if (!hot)
        return;
    for (size_t i = 0; i < hot->created; i++)
        if (hot->entries[i].id_len > HOT_ID_INLINE)
            free(hot->entries[i].id.away);
    for (size_t i = 0; i < hot->created; i += hot->slab_blocks)
        hot_unmap(hot->entries[i].block, hot->slab_bytes);
    free_tables(hot, hot->fresh.tables);
    free_tables(hot, hot->waiting.tables);
    hot_table_free(hot, atomic_load(&hot->table));
    hot_unmap(hot->entries, entries_mapped(hot));
    free(hot->readers);
    pthread_mutex_destroy(&hot->lock);
    free(hot);
}

/* ---- readers ---- */

/* The reader writes its epoch and then reads slots; a writer takes an entry out of its slot and then reads the
 * epochs. In the one order of these accesses either the reader's epoch comes before the writer's look at it, and
 * the writer leaves the entry alone, or the writer's store to the slot comes before the reader's look at it, and
 * the reader does not find the entry. Release and acquire would not do: they allow both to look before both have
 * written. That the epoch may be behind when it is written is harmless, since a smaller one holds back more. */
void hot_enter(struct hot *hot, size_t reader)
{
    atomic_store(&hot->readers[reader].epoch, atomic_load(&hot->epoch));
}

/* Release: a writer that sees it has all our reads behind it. */
void hot_leave(struct hot *hot, size_t reader)
{
    atomic_store_explicit(&hot->readers[reader].epoch, 0, memory_order_release);
}

/* A group of ids takes its steps side by side: all its slots are asked of memory before one is looked at, then all
 * its entries. 256 lines of each fit into the first cache. Small groups in a pipeline, one asking ahead while
 * another is compared, were tried and are slower. */
enum { GROUP = 256, RETRIES = 4 };

struct group {
    size_t start, count;
    uint64_t moves; /* before its slots were read */
    uint64_t slots[GROUP];
    uint32_t entries[GROUP]; /* what the index says, or 0 */
    uint64_t hashes[GROUP];  /* of these entries */
};

static void read_slots(
    const struct hot *hot, const struct hot_table *table, struct group *group, const uint64_t *hashes)
{
    group->moves = atomic_load(&hot->moves);
    for (size_t i = 0; i < group->count; i++)
        __builtin_prefetch(&table->slots[hashes[group->start + i] & table->mask]);
    for (size_t i = 0; i < group->count; i++)
        group->slots[i] = atomic_load(&table->slots[hashes[group->start + i] & table->mask]);
}

/* The first entry whose half of the hash is right: but for one in billions the only one. */
static uint32_t first_match(const struct hot_table *table, uint64_t slot, uint64_t hash)
{
    for (size_t at = hash & table->mask; slot; slot = atomic_load(&table->slots[at])) {
        if ((slot ^ hash) >> 32 == 0)
            return (uint32_t)slot;
        at = (at + 1) & table->mask;
    }
    return 0;
}

static void read_entries(
    const struct hot *hot, const struct hot_table *table, struct group *group, const uint64_t *hashes)
{
    for (size_t i = 0; i < group->count; i++)
        group->entries[i] = first_match(table, group->slots[i], hashes[group->start + i]);
    for (size_t i = 0; i < group->count; i++)
        __builtin_prefetch(hot->entries + group->entries[i] - (group->entries[i] != 0));
    for (size_t i = 0; i < group->count; i++)
        group->hashes[i] = group->entries[i] ? hot_at(hot, group->entries[i])->hash : 0;
}

/* The rare ways: two ids share half a hash, or slots moved while we looked. To miss what is here is allowed, so a
 * writer that is put to sleep in the middle holds nobody up. */
static uint32_t look_again(
    const struct hot *hot, const struct hot_table *table, const struct store_id *id, uint64_t hash)
{
    for (int i = 0; i < RETRIES; i++) {
        const uint64_t moves = atomic_load(&hot->moves);
        const uint32_t entry = hot_index_find(hot, table, id, hash);
        if (entry || (moves % 2 == 0 && atomic_load(&hot->moves) == moves))
            return entry;
    }
    return 0;
}

static size_t compare(struct hot *hot, const struct hot_table *table, const struct group *group,
    const struct store_id *ids, const uint64_t *hashes, const void **blocks)
{
    size_t found = 0;
    for (size_t i = 0; i < group->count; i++) {
        const size_t at = group->start + i;
        uint32_t number = group->entries[i];
        const bool right =
            number ? group->hashes[i] == hashes[at] && hot_entry_is(hot_at(hot, number), &ids[at], hashes[at])
                   : group->moves % 2 == 0 && atomic_load(&hot->moves) == group->moves;
        if (!right)
            number = look_again(hot, table, &ids[at], hashes[at]);
        blocks[at] = NULL;
        if (!number)
            continue;
        struct hot_entry *entry = hot_at(hot, number);
        if (!atomic_load_explicit(&entry->asked, memory_order_relaxed))
            atomic_store_explicit(&entry->asked, true, memory_order_relaxed);
        blocks[at] = entry->block;
        found++;
    }
    return found;
}

static void count_up(atomic_uint_fast64_t *counter, size_t more)
{
    const uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + more, memory_order_relaxed);
}

size_t hot_find(struct hot *hot, size_t reader, const struct store_id *ids, const uint64_t *hashes,
    size_t count, const void **blocks)
{
    const struct hot_table *table = atomic_load(&hot->table);
    size_t found = 0;
    for (size_t start = 0; start < count; start += GROUP) {
        struct group group = {.start = start, .count = count - start < GROUP ? count - start : GROUP};
        read_slots(hot, table, &group, hashes);
        read_entries(hot, table, &group, hashes);
        found += compare(hot, table, &group, ids, hashes, blocks);
    }
    count_up(&hot->readers[reader].hits, found);
    count_up(&hot->readers[reader].misses, count - found);
    return found;
}

/* ---- writers ---- */

/* The block is copied under the lock: of two writers that offer versions of one id, the later one's stays. */
bool hot_put(struct hot *hot, const struct store_id *id, uint64_t hash, const void *block, enum hot_mode mode)
{
    pthread_mutex_lock(&hot->lock);
    bool kept = mode != HOT_REPLACE && hot_index_find(hot, atomic_load(&hot->table), id, hash);
    if (!kept) {
        const uint32_t number = hot_take(hot, id, hash, mode);
        kept = number != 0;
        if (number) {
            struct hot_entry *entry = hot_at(hot, number);
            memcpy(entry->block, block, hot->block_bytes);
            entry->state = HOT_HERE;
            hot->count++;
            const uint32_t old = hot_index_set(hot, number);
            if (old)
                hot_retire(hot, old);
            hot_top_up(hot);
        }
    }
    pthread_mutex_unlock(&hot->lock);
    return kept;
}

bool hot_remove(struct hot *hot, const struct store_id *id, uint64_t hash)
{
    pthread_mutex_lock(&hot->lock);
    const uint32_t number = hot_index_find(hot, atomic_load(&hot->table), id, hash);
    if (number)
        hot_forget(hot, number);
    pthread_mutex_unlock(&hot->lock);
    return number != 0;
}

bool hot_has(struct hot *hot, const struct store_id *id, uint64_t hash)
{
    pthread_mutex_lock(&hot->lock);
    const bool here = hot_index_find(hot, atomic_load(&hot->table), id, hash) != 0;
    pthread_mutex_unlock(&hot->lock);
    return here;
}

void hot_stats(struct hot *hot, struct hot_stats *out)
{
    struct hot_stats stats = {0};
    for (size_t i = 0; i < hot->reader_count; i++) {
        stats.hits += atomic_load_explicit(&hot->readers[i].hits, memory_order_relaxed);
        stats.misses += atomic_load_explicit(&hot->readers[i].misses, memory_order_relaxed);
    }
    pthread_mutex_lock(&hot->lock);
    stats.entries = hot->count;
    stats.bytes = hot_bytes(hot);
    stats.limit_bytes = hot->limit_bytes;
    stats.evictions = hot->evictions;
    stats.huge_pages = hot->huge_pages;
    pthread_mutex_unlock(&hot->lock);
    *out = stats;
}

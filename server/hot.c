/* One lock around the index, held for a few nanoseconds a look-up; the blocks themselves are pinned by a
 * count and read outside it. Copying under the lock was rejected: a block of 16 KB takes a microsecond to
 * copy, and two workers that rank 1,000 candidates each would mostly wait for each other. */
#include "server/hot.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define SLAB_BYTES ((size_t)2 << 20) /* of a slab, unless one block is larger */
#define ALIGN ((size_t)64)           /* of a block: a cache line, and the widest vector register */
#define LOOKUPS 64                   /* at a time under the lock */

struct hot_entry {
    char *id; /* malloc'ed; NULL while the entry is free or being filled */
    uint32_t id_len;
    uint32_t next_free; /* index + 1 */
    uint64_t hash;
    atomic_uint pins;
    bool asked; /* since the hand last passed */
};

struct hot {
    size_t block_floats; /* 2 n d */
    size_t block_stride; /* floats from one block to the next */
    size_t slab_blocks;  /* blocks a slab */
    size_t limit_bytes, capacity;
    pthread_mutex_t lock; /* over all that follows, but for the blocks' floats and the pins */
    float **slabs;
    size_t slab_count;
    struct hot_entry *entries;
    size_t created;     /* entries that have ever been in use: the first ones */
    uint32_t free_list; /* index + 1 */
    uint32_t *index;    /* open addressing: entry + 1, or 0 */
    size_t index_mask;
    size_t hand;
    size_t count, id_bytes;
    uint64_t hits, misses, evictions;
};

/* What malloc really takes for an id, near enough. */
static size_t id_cost(size_t len)
{
    return (len + 1 + 8 + 15) / 16 * 16;
}

int hot_new(struct hot **out, size_t n, size_t d, size_t limit_bytes, struct err *err)
{
    size_t floats, bytes;
    if (__builtin_mul_overflow(n, d, &floats) || __builtin_mul_overflow(floats, 2 * sizeof(float), &bytes) ||
        bytes > SIZE_MAX / 2)
        return err_set(err, ERR_INVALID, "a content of %zu x %zu does not fit into memory", n, d);
    struct hot *hot = calloc(1, sizeof *hot);
    if (!hot)
        return err_set(err, ERR_NOMEM, "no memory for the hot memory");
    const size_t stride = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    hot->block_floats = 2 * floats;
    hot->block_stride = stride / sizeof(float);
    hot->limit_bytes = limit_bytes;
    /* Small limits get small slabs: a bound of 1 MB must hold more than nothing. */
    const size_t slab_bytes = limit_bytes / 8 < SLAB_BYTES ? limit_bytes / 8 : SLAB_BYTES;
    hot->slab_blocks = slab_bytes > stride ? slab_bytes / stride : 1;
    /* The index has at most four slots an entry: a power of two at most half full. */
    const size_t cost = stride + sizeof(struct hot_entry) + 4 * sizeof(uint32_t) + id_cost(1);
    hot->capacity = limit_bytes / cost < UINT32_MAX / 4 ? limit_bytes / cost : UINT32_MAX / 4;
    hot->capacity = hot->capacity / hot->slab_blocks * hot->slab_blocks;
    size_t slots = 2;
    while (slots < 2 * hot->capacity)
        slots *= 2;
    hot->index_mask = slots - 1;
    /* calloc hands out large arrays as untouched pages, so an empty memory costs next to nothing. */
    hot->index = calloc(slots, sizeof *hot->index);
    hot->entries = calloc(hot->capacity + 1, sizeof *hot->entries);
    hot->slabs = calloc(hot->capacity / hot->slab_blocks + 1, sizeof *hot->slabs);
    pthread_mutex_init(&hot->lock, NULL);
    if (!hot->index || !hot->entries || !hot->slabs) {
        hot_free(hot);
        return err_set(err, ERR_NOMEM, "no memory for the hot memory's index");
    }
    *out = hot;
    return 0;
}

void hot_free(struct hot *hot)
{
    if (!hot)
        return;
    for (size_t i = 0; hot->slabs && i < hot->slab_count; i++)
        free(hot->slabs[i]);
    for (size_t i = 0; hot->entries && i < hot->created; i++)
        free(hot->entries[i].id);
    pthread_mutex_destroy(&hot->lock);
    free(hot->slabs);
    free(hot->entries);
    free(hot->index);
    free(hot);
}

/* ---- all below: under the lock, unless it says otherwise ---- */

static float *block_of(const struct hot *hot, size_t entry)
{
    return hot->slabs[entry / hot->slab_blocks] + entry % hot->slab_blocks * hot->block_stride;
}

static size_t bytes_used(const struct hot *hot)
{
    return hot->slab_count * hot->slab_blocks * hot->block_stride * sizeof(float) +
           hot->created * (sizeof(struct hot_entry) + 4 * sizeof(uint32_t)) + hot->id_bytes;
}

/* The index slot of an id, or the empty one where it belongs. */
static size_t find_slot(const struct hot *hot, const struct store_id *id, uint64_t hash)
{
    size_t at = (size_t)hash & hot->index_mask;
    for (; hot->index[at]; at = (at + 1) & hot->index_mask) {
        const struct hot_entry *entry = &hot->entries[hot->index[at] - 1];
        if (entry->hash == hash && entry->id_len == id->len && memcmp(entry->id, id->id, id->len) == 0)
            break;
    }
    return at;
}

/* Take an entry out of the index; those behind it move up where that brings them nearer to their place. */
static void index_remove(struct hot *hot, size_t entry)
{
    size_t hole = (size_t)hot->entries[entry].hash & hot->index_mask;
    while (hot->index[hole] != entry + 1)
        hole = (hole + 1) & hot->index_mask;
    for (size_t at = (hole + 1) & hot->index_mask; hot->index[at]; at = (at + 1) & hot->index_mask) {
        const size_t home = (size_t)hot->entries[hot->index[at] - 1].hash & hot->index_mask;
        if (((at - home) & hot->index_mask) >= ((at - hole) & hot->index_mask)) {
            hot->index[hole] = hot->index[at];
            hole = at;
        }
    }
    hot->index[hole] = 0;
}

static void make_free(struct hot *hot, size_t entry)
{
    hot->entries[entry].next_free = hot->free_list;
    hot->free_list = (uint32_t)entry + 1;
}

static void forget(struct hot *hot, size_t entry)
{
    index_remove(hot, entry);
    hot->id_bytes -= id_cost(hot->entries[entry].id_len);
    free(hot->entries[entry].id);
    hot->entries[entry].id = NULL;
    hot->count--;
    hot->evictions++;
    make_free(hot, entry);
}

/* Forget the first entry that was not asked for since the hand last passed and that nobody reads. Two rounds
 * find one if there is one: the first takes all marks away. */
static bool evict(struct hot *hot)
{
    for (size_t step = 0; step < 2 * hot->created; step++) {
        const size_t at = hot->hand;
        struct hot_entry *entry = &hot->entries[at];
        hot->hand = at + 1 < hot->created ? at + 1 : 0;
        if (!entry->id || atomic_load_explicit(&entry->pins, memory_order_acquire))
            continue;
        if (entry->asked) {
            entry->asked = false;
            continue;
        }
        forget(hot, at);
        return true;
    }
    return false;
}

/* One more slab, if the bound allows it. */
static bool grow(struct hot *hot)
{
    const size_t bytes = hot->slab_blocks * hot->block_stride * sizeof(float);
    const size_t more = bytes + hot->slab_blocks * (sizeof(struct hot_entry) + 4 * sizeof(uint32_t));
    if (hot->created + hot->slab_blocks > hot->capacity || bytes_used(hot) + more > hot->limit_bytes)
        return false;
    float *slab = aligned_alloc(ALIGN, bytes);
    if (!slab)
        return false;
    hot->slabs[hot->slab_count++] = slab;
    for (size_t i = hot->slab_blocks; i-- > 0;)
        make_free(hot, hot->created + i);
    hot->created += hot->slab_blocks;
    return true;
}

/* A free entry, pinned and outside the index; or false. */
static bool take_entry(struct hot *hot, size_t id_len, bool may_evict, size_t *out)
{
    while (!hot->free_list || bytes_used(hot) + id_cost(id_len) > hot->limit_bytes)
        if (hot->free_list || !grow(hot))
            if (!may_evict || !evict(hot))
                return false;
    *out = hot->free_list - 1;
    hot->free_list = hot->entries[*out].next_free;
    hot->id_bytes += id_cost(id_len);
    atomic_store_explicit(&hot->entries[*out].pins, 1, memory_order_relaxed);
    return true;
}

/* ---- the public face: takes the lock ---- */

size_t hot_acquire(struct hot *hot, const struct store_id *ids, size_t count, struct hot_ref *refs)
{
    size_t found = 0;
    uint64_t hashes[LOOKUPS];
    for (size_t start = 0; start < count; start += LOOKUPS) {
        const size_t some = count - start < LOOKUPS ? count - start : LOOKUPS;
        for (size_t i = 0; i < some; i++)
            hashes[i] = XXH3_64bits(ids[start + i].id, ids[start + i].len);
        pthread_mutex_lock(&hot->lock);
        for (size_t i = 0; i < some; i++) {
            const uint32_t at = hot->index[find_slot(hot, &ids[start + i], hashes[i])];
            refs[start + i] = (struct hot_ref){NULL, NULL};
            if (!at)
                continue;
            struct hot_entry *entry = &hot->entries[at - 1];
            entry->asked = true;
            atomic_fetch_add_explicit(&entry->pins, 1, memory_order_relaxed);
            refs[start + i] = (struct hot_ref){block_of(hot, at - 1), entry};
            found++;
        }
        pthread_mutex_unlock(&hot->lock);
    }
    pthread_mutex_lock(&hot->lock);
    hot->hits += found;
    hot->misses += count - found;
    pthread_mutex_unlock(&hot->lock);
    return found;
}

static void unpin(struct hot_entry *entry)
{
    /* Release, so that whoever evicts the entry next has its writes after our reads. */
    atomic_fetch_sub_explicit(&entry->pins, 1, memory_order_release);
}

void hot_release(const struct hot_ref *refs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (refs[i].entry)
            unpin(refs[i].entry);
}

/* The block is copied outside the lock, into an entry that is not in the index yet. Two threads that put the
 * same id at once both copy; the second finds the first in the index and gives its entry back. */
bool hot_put(struct hot *hot, const struct store_id *id, const float *block, bool may_evict)
{
    const uint64_t hash = XXH3_64bits(id->id, id->len);
    size_t at = 0;
    pthread_mutex_lock(&hot->lock);
    const bool here = hot->index[find_slot(hot, id, hash)] != 0;
    const bool taken = !here && take_entry(hot, id->len, may_evict, &at);
    float *to = taken ? block_of(hot, at) : NULL;
    pthread_mutex_unlock(&hot->lock);
    if (!taken)
        return here;
    memcpy(to, block, hot->block_floats * sizeof *block);
    char *copy = malloc(id->len + 1);
    if (copy) {
        memcpy(copy, id->id, id->len);
        copy[id->len] = '\0';
    }
    struct hot_entry *entry = &hot->entries[at];
    pthread_mutex_lock(&hot->lock);
    const size_t slot = find_slot(hot, id, hash);
    if (copy && !hot->index[slot]) {
        entry->id = copy;
        entry->id_len = (uint32_t)id->len;
        entry->hash = hash;
        entry->asked = false; /* whoever is asked for once must not push out whoever is asked for often */
        hot->index[slot] = (uint32_t)at + 1;
        hot->count++;
        copy = NULL;
    } else {
        hot->id_bytes -= id_cost(id->len);
        make_free(hot, at);
    }
    const bool kept = hot->index[slot] != 0;
    unpin(entry);
    pthread_mutex_unlock(&hot->lock);
    free(copy);
    return kept;
}

void hot_stats(struct hot *hot, struct hot_stats *out)
{
    pthread_mutex_lock(&hot->lock);
    *out = (struct hot_stats){
        .entries = hot->count,
        .bytes = bytes_used(hot),
        .limit_bytes = hot->limit_bytes,
        .hits = hot->hits,
        .misses = hot->misses,
        .evictions = hot->evictions,
    };
    pthread_mutex_unlock(&hot->lock);
}

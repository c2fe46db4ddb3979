/* Slabs, entries, and when memory may be used again.
 *
 * What is taken out of the index may still be read, so it goes to limbo first. Limbo is two heaps: `fresh` gathers;
 * when `waiting` is empty, fresh becomes waiting, the epoch goes up by one, and that is waiting's epoch. Whoever
 * enters from then on reads that epoch or a later one, and finds nothing of the heap in the index. So waiting is
 * free as soon as every reader is outside or entered in its epoch or later. Two heaps in place of an epoch in each
 * entry keep an entry at one cache line; what waits, waits for at most two rounds of the readers.
 *
 * While somebody is always inside, a full memory has to forget ahead of what it will need: `reserve` is how many
 * entries shall be free or in limbo. Each put that is refused for want of a free entry raises it by one, so it comes
 * to what is put during two rounds, and it falls when nobody is inside. */
#include "server/hot_int.h"

#include <stdlib.h>
#include <string.h>

/* At most this share of the entries is forgotten ahead: one in so many. With entry and index (80 to 96 bytes beside
 * blocks of 4 KB) that stays within a twentieth of the blocks' bytes. */
enum { RESERVE_SHARE = 40, RESERVE_DECAY = 64 };

/* What malloc really takes for an id that does not fit into its entry, near enough. */
static size_t id_cost(size_t len)
{
    return len > HOT_ID_INLINE ? (len + 8 + 15) / 16 * 16 : 0;
}

size_t hot_bytes(const struct hot *hot)
{
    return hot->created / hot->slab_blocks * hot->slab_bytes + hot->entry_bytes + hot->index_bytes +
           hot->id_bytes;
}

static size_t unused(const struct hot *hot)
{
    return hot->free_count + hot->fresh.count + hot->waiting.count;
}

static void make_free(struct hot *hot, uint32_t number)
{
    struct hot_entry *entry = hot_at(hot, number);
    if (entry->id_len > HOT_ID_INLINE) {
        free(entry->id.away);
        hot->id_bytes -= id_cost(entry->id_len);
    }
    entry->id_len = 0;
    entry->state = HOT_FREE;
    entry->next = hot->free_list;
    hot->free_list = number;
    hot->free_count++;
}

/* ---- limbo ---- */

void hot_retire(struct hot *hot, uint32_t number)
{
    struct hot_entry *entry = hot_at(hot, number);
    entry->state = HOT_LIMBO;
    entry->next = hot->fresh.entries;
    hot->fresh.entries = number;
    hot->fresh.count++;
    hot->count--;
}

void hot_forget(struct hot *hot, uint32_t number)
{
    hot_index_remove(hot, number);
    hot_retire(hot, number);
}

static void retire_table(struct hot *hot, struct hot_table *table)
{
    if (table == &hot->nothing)
        return;
    table->next = hot->fresh.tables;
    hot->fresh.tables = table;
}

static void empty(struct hot *hot, struct hot_limbo *limbo)
{
    for (uint32_t number = limbo->entries, next; number; number = next) {
        next = hot_at(hot, number)->next;
        make_free(hot, number);
    }
    for (struct hot_table *table = limbo->tables, *next; table; table = next) {
        next = table->next;
        hot_table_free(hot, table);
    }
    *limbo = (struct hot_limbo){0};
}

static bool is_empty(const struct hot_limbo *limbo)
{
    return !limbo->entries && !limbo->tables;
}

static bool may_be_read(const struct hot *hot, uint64_t epoch)
{
    for (size_t i = 0; i < hot->reader_count; i++) {
        const uint64_t entered = atomic_load(&hot->readers[i].epoch);
        if (entered && entered < epoch)
            return true;
    }
    return false;
}

static void reclaim(struct hot *hot)
{
    for (;;) {
        if (!is_empty(&hot->waiting)) {
            if (may_be_read(hot, hot->waiting_epoch))
                return;
            empty(hot, &hot->waiting);
        }
        if (is_empty(&hot->fresh))
            break;
        hot->waiting = hot->fresh;
        hot->fresh = (struct hot_limbo){0};
        hot->waiting_epoch = atomic_fetch_add(&hot->epoch, 1) + 1;
    }
    hot->reserve -= (hot->reserve + RESERVE_DECAY - 1) / RESERVE_DECAY;
}

/* ---- room ---- */

/* A table that is wide enough for so many entries in place of the one in use. */
static bool widen(struct hot *hot, size_t slots)
{
    struct hot_table *table = hot_table_new(hot, slots);
    if (!table)
        return false;
    hot_table_fill(hot, table);
    retire_table(hot, atomic_exchange(&hot->table, table));
    return true;
}

/* One more slab, if the bound allows it with all that belongs to it: its entries, their slots, and ids that are as
 * long as those that are here. */
static bool grow(struct hot *hot)
{
    const size_t created = hot->created + hot->slab_blocks;
    if (created > hot->capacity)
        return false;
    const size_t bytes = created * sizeof(struct hot_entry);
    const size_t entry_bytes = (bytes + hot->entry_step - 1) / hot->entry_step * hot->entry_step;
    const bool narrow = 2 * created > atomic_load(&hot->table)->mask + 1;
    const size_t slots = narrow ? hot_table_slots(created > hot->expected ? created : hot->expected) : 0;
    const size_t ids = hot->count ? hot->id_bytes / hot->count * hot->slab_blocks : 0;
    const size_t more =
        hot->slab_bytes + entry_bytes - hot->entry_bytes + slots * sizeof(*hot->nothing.slots) + ids;
    if (hot_bytes(hot) + more > hot->limit_bytes)
        return false;
    unsigned char *slab = hot_map(hot->slab_bytes, &hot->huge_pages);
    if (!slab)
        return false;
    if (narrow && !widen(hot, slots)) {
        hot_unmap(slab, hot->slab_bytes);
        return false;
    }
    hot->entry_bytes = entry_bytes;
    for (size_t i = hot->slab_blocks; i-- > 0;) {
        hot->entries[hot->created + i].block = slab + i * hot->stride;
        make_free(hot, (uint32_t)(hot->created + i + 1));
    }
    hot->created = created;
    return true;
}

void hot_reserve(struct hot *hot, size_t count)
{
    pthread_mutex_lock(&hot->lock);
    while (hot->created < count && grow(hot))
        hot_touch(hot->entries[hot->created - hot->slab_blocks].block, hot->slab_bytes);
    pthread_mutex_unlock(&hot->lock);
}

/* CLOCK: forget the first entry under the hand that was not asked for since the hand last passed. */
static bool evict(struct hot *hot)
{
    for (size_t step = 0; step < 2 * hot->created; step++) {
        struct hot_entry *entry = &hot->entries[hot->hand];
        const uint32_t number = (uint32_t)hot->hand + 1;
        hot->hand = number < hot->created ? number : 0;
        if (entry->state != HOT_HERE)
            continue;
        if (atomic_load_explicit(&entry->asked, memory_order_relaxed)) {
            atomic_store_explicit(&entry->asked, false, memory_order_relaxed);
            continue;
        }
        hot_forget(hot, number);
        hot->evictions++;
        return true;
    }
    return false;
}

/* Some of the entries at a time, so that no put waits for long. */
enum { LIST_RUN = 4096 };

static int list_run(struct hot *hot, size_t from, size_t to, bool asked, hot_id_fn *fn, void *ctx)
{
    int code = 0;
    pthread_mutex_lock(&hot->lock);
    for (size_t back = from; code == 0 && back < to && back < hot->created; back++) {
        const struct hot_entry *entry = &hot->entries[(hot->hand + hot->created - 1 - back) % hot->created];
        const struct store_id id = {hot_entry_id(entry), entry->id_len};
        if (entry->state == HOT_HERE && atomic_load_explicit(&entry->asked, memory_order_relaxed) == asked)
            code = fn(ctx, &id);
    }
    pthread_mutex_unlock(&hot->lock);
    return code;
}

int hot_list(struct hot *hot, hot_id_fn *fn, void *ctx)
{
    pthread_mutex_lock(&hot->lock);
    const size_t created = hot->created;
    pthread_mutex_unlock(&hot->lock);
    int code = 0;
    for (int pass = 0; pass < 2; pass++)
        for (size_t at = 0; code == 0 && at < created; at += LIST_RUN)
            code = list_run(hot, at, at + LIST_RUN, pass == 0, fn, ctx);
    return code;
}

/* A free entry for the id, or 0. */
static uint32_t take_free(struct hot *hot, const struct store_id *id, uint64_t hash, enum hot_mode mode)
{
    const size_t cost = id_cost(id->len);
    if (!hot->free_list || hot_bytes(hot) + cost > hot->limit_bytes)
        reclaim(hot);
    const bool spare = hot->free_list && (mode != HOT_FILL || unused(hot) > hot->reserve);
    if ((!spare && !grow(hot)) || hot_bytes(hot) + cost > hot->limit_bytes)
        return 0;
    char *away = cost ? malloc(id->len) : NULL;
    if (cost && !away)
        return 0;
    const uint32_t number = hot->free_list;
    struct hot_entry *entry = hot_at(hot, number);
    hot->free_list = entry->next;
    hot->free_count--;
    hot->id_bytes += cost;
    if (cost)
        entry->id.away = away;
    memcpy(cost ? away : entry->id.here, id->id, id->len);
    entry->id_len = (uint16_t)id->len;
    entry->hash = hash;
    /* Whoever is asked for once must not push out whoever is asked for often. */
    atomic_store_explicit(&entry->asked, false, memory_order_relaxed);
    return number;
}

uint32_t hot_take(struct hot *hot, const struct store_id *id, uint64_t hash, enum hot_mode mode)
{
    if (id->len > UINT16_MAX)
        return 0;
    uint32_t number = take_free(hot, id, hash, mode);
    if (number || mode == HOT_FILL)
        return number;
    /* Rather the old version than somebody else. */
    const uint32_t old = hot_index_find(hot, atomic_load(&hot->table), id, hash);
    if (old) {
        hot_forget(hot, old);
        number = take_free(hot, id, hash, mode);
    }
    if (!number && unused(hot) <= hot->created / RESERVE_SHARE && evict(hot)) {
        number = take_free(hot, id, hash, mode);
        if (!number)
            hot->reserve = unused(hot);
    }
    return number;
}

void hot_top_up(struct hot *hot)
{
    if (unused(hot) < hot->reserve)
        evict(hot);
}

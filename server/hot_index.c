/* Linear probing, at most half full: a look-up is one cache line of slots, and one of the entry it leads to.
 *
 * Removal moves the slots behind the hole back to where they belong. Graves in place of moves were rejected: with a
 * full memory every put removes something, and the table would have to be built anew again and again. The price is
 * that a reader may pass a slot's old place after it has gone and its new one before it came. Hence `moves`: what is
 * found is right whatever moves, since the entry itself says what it is; what is missed counts only if nothing
 * moved meanwhile. */
#include "server/hot_int.h"

#include <stdlib.h>

uint32_t hot_index_find(
    const struct hot *hot, const struct hot_table *table, const struct store_id *id, uint64_t hash)
{
    uint64_t slot;
    for (size_t at = hash & table->mask; (slot = atomic_load(&table->slots[at])); at = (at + 1) & table->mask)
        if ((slot ^ hash) >> 32 == 0 && hot_entry_is(hot_at(hot, (uint32_t)slot), id, hash))
            return (uint32_t)slot;
    return 0;
}

/* ---- ids by their beginning ---- */

/* By way of the slots and not of the entries, which lie in a row: one that is in no slot may be written to. An entry is
 * asked of memory while those before it are compared. */
enum { MATCH_AHEAD = 16 };

static void match_ahead(const struct hot *hot, const struct hot_table *table, size_t at)
{
    const uint32_t entry =
        (uint32_t)atomic_load_explicit(&table->slots[(at + MATCH_AHEAD) & table->mask], memory_order_relaxed);
    if (entry)
        __builtin_prefetch(hot_at(hot, entry));
}

static bool begins_with(const struct hot_entry *entry, const struct store_id *prefix)
{
    return entry->id_len >= prefix->len && memcmp(hot_entry_id(entry), prefix->id, prefix->len) == 0;
}

size_t hot_match(struct hot *hot, const struct store_id *prefix, size_t places, struct store_id *ids,
    size_t max, bool *all)
{
    const struct hot_table *table = atomic_load(&hot->table);
    const size_t slots = table->mask + 1, most = places < slots ? places : slots;
    const size_t start = hot_hash(prefix->id, prefix->len) & table->mask;
    size_t found = 0, seen = 0;
    for (; seen < most && found < max; seen++) {
        const size_t at = (start + seen) & table->mask;
        const uint32_t number = (uint32_t)atomic_load(&table->slots[at]);
        match_ahead(hot, table, at);
        if (!number)
            continue;
        const struct hot_entry *entry = hot_at(hot, number);
        if (begins_with(entry, prefix))
            ids[found++] = (struct store_id){hot_entry_id(entry), entry->id_len};
    }
    *all = seen == slots;
    return found;
}

/* ---- tables ---- */

size_t hot_table_slots(size_t entries)
{
    size_t slots = 8;
    while (slots < 2 * entries)
        slots *= 2;
    return slots;
}

struct hot_table *hot_table_new(struct hot *hot, size_t slots)
{
    struct hot_table *table = malloc(sizeof *table);
    if (!table)
        return NULL;
    *table = (struct hot_table){.mask = slots - 1, .bytes = slots * sizeof *table->slots};
    table->slots =
        table->bytes < HOT_HUGE ? calloc(slots, sizeof *table->slots) : hot_map(table->bytes, NULL);
    if (!table->slots) {
        free(table);
        return NULL;
    }
    hot->index_bytes += table->bytes;
    return table;
}

void hot_table_free(struct hot *hot, struct hot_table *table)
{
    if (!table || table == &hot->nothing)
        return;
    hot->index_bytes -= table->bytes;
    if (table->bytes < HOT_HUGE)
        free(table->slots);
    else
        hot_unmap(table->slots, table->bytes);
    free(table);
}

void hot_table_fill(const struct hot *hot, struct hot_table *table)
{
    for (size_t i = 0; i < hot->created; i++) {
        const struct hot_entry *entry = &hot->entries[i];
        if (entry->state != HOT_HERE)
            continue;
        size_t at = entry->hash & table->mask;
        while (atomic_load_explicit(&table->slots[at], memory_order_relaxed))
            at = (at + 1) & table->mask;
        atomic_store_explicit(
            &table->slots[at], hot_slot(entry->hash, (uint32_t)i + 1), memory_order_relaxed);
    }
}

/* ---- one entry in, one out ---- */

uint32_t hot_index_set(struct hot *hot, uint32_t new)
{
    struct hot_table *table = atomic_load(&hot->table);
    const struct hot_entry *entry = hot_at(hot, new);
    const struct store_id id = {hot_entry_id(entry), entry->id_len};
    size_t at = entry->hash & table->mask;
    uint64_t slot;
    while ((slot = atomic_load(&table->slots[at]))) {
        if (hot_entry_is(hot_at(hot, (uint32_t)slot), &id, entry->hash))
            break;
        at = (at + 1) & table->mask;
    }
    atomic_store(&table->slots[at], hot_slot(entry->hash, new));
    return (uint32_t)slot;
}

void hot_index_remove(struct hot *hot, uint32_t gone)
{
    struct hot_table *table = atomic_load(&hot->table);
    const size_t mask = table->mask;
    size_t hole = hot_at(hot, gone)->hash & mask;
    while ((uint32_t)atomic_load(&table->slots[hole]) != gone)
        hole = (hole + 1) & mask;
    bool moving = false;
    uint64_t slot;
    for (size_t at = (hole + 1) & mask; (slot = atomic_load(&table->slots[at])); at = (at + 1) & mask) {
        const size_t home = hot_at(hot, (uint32_t)slot)->hash & mask;
        if (((at - home) & mask) < ((at - hole) & mask))
            continue; /* it would come to lie before its place */
        if (!moving)
            atomic_fetch_add(&hot->moves, 1);
        moving = true;
        atomic_store(&table->slots[hole], slot);
        hole = at;
    }
    atomic_store(&table->slots[hole], 0);
    if (moving)
        atomic_fetch_add(&hot->moves, 1);
}

/* Every id of every category is looked up in the catalogue, by a table of hashes that is gone when all are read: a binary
 * search over strings for each would take longer than all the rest. */
#include "server/category_index.h"

#include "server/hot.h"
#include "store/category.h"

#include <stdlib.h>
#include <string.h>

struct reading {
    struct category_index *index;
    struct catalogue *catalogue;
    uint32_t *slots; /* open addressing over the catalogue's hashes: index + 1, or 0 */
    size_t slot_mask;
    size_t *members; /* of the category in hand: indices into the catalogue */
    size_t room;
    struct err *err;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the categories");
}

/* At most half full. */
static int make_slots(struct reading *reading)
{
    const struct catalogue *catalogue = reading->catalogue;
    size_t slots = 4;
    if (catalogue->count >= UINT32_MAX)
        return no_memory(reading->err);
    while (slots < 2 * catalogue->count)
        slots *= 2;
    reading->slots = calloc(slots, sizeof *reading->slots);
    if (!reading->slots)
        return no_memory(reading->err);
    reading->slot_mask = slots - 1;
    for (size_t i = 0; i < catalogue->count; i++) {
        size_t at = (size_t)catalogue->hashes[i] & reading->slot_mask;
        while (reading->slots[at])
            at = (at + 1) & reading->slot_mask;
        reading->slots[at] = (uint32_t)i + 1;
    }
    return 0;
}

/* Index of an id in the catalogue, or -1. */
static ptrdiff_t find_content(const struct reading *reading, const struct store_id *id)
{
    const struct catalogue *catalogue = reading->catalogue;
    const uint64_t hash = hot_hash(id->id, id->len);
    for (size_t at = (size_t)hash & reading->slot_mask; reading->slots[at];
         at = (at + 1) & reading->slot_mask) {
        const size_t index = reading->slots[at] - 1;
        const struct store_id *found = &catalogue->ids[index];
        if (catalogue->hashes[index] == hash && found->len == id->len &&
            memcmp(found->id, id->id, id->len) == 0)
            return (ptrdiff_t)index;
    }
    return -1;
}

static int add_member(struct reading *reading, size_t *count, size_t member)
{
    if (*count == reading->room) {
        const size_t room = 2 * reading->room + 1024;
        size_t *members = realloc(reading->members, room * sizeof *members);
        if (!members)
            return no_memory(reading->err);
        reading->members = members;
        reading->room = room;
    }
    reading->members[(*count)++] = member;
    return 0;
}

/* Lines that are no ids are left out: generation_verify tells of them. */
static int take_category(void *ctx, size_t index, const void *data, size_t len)
{
    struct reading *reading = ctx;
    struct store_id id;
    size_t count = 0, at = 0;
    if (!data)
        return 0;
    for (int next; (next = category_next(&id, data, len, &at)) != 0;) {
        const ptrdiff_t member = next < 0 ? -1 : find_content(reading, &id);
        if (member >= 0 && add_member(reading, &count, (size_t)member) < 0)
            return -ERR_NOMEM;
    }
    return catalogue_select(
        &reading->index->contents[index], reading->catalogue, reading->members, count, reading->err);
}

int category_index_read(struct category_index **out, struct store_link *link, const char *generation,
    struct catalogue *catalogue, struct err *err)
{
    struct category_index *index = calloc(1, sizeof *index);
    if (!index)
        return no_memory(err);
    struct reading reading = {.index = index, .catalogue = catalogue, .err = err};
    int code = catalogue_read(&index->names, link, generation, STORE_CATEGORY, err);
    if (code == 0 && index->names->count)
        code = make_slots(&reading);
    if (code == 0) {
        index->contents = calloc(index->names->count + 1, sizeof(struct catalogue *));
        code = index->contents ? store_get(link, generation, STORE_CATEGORY, index->names->ids,
                                     index->names->count, take_category, &reading, err)
                               : no_memory(err);
    }
    free(reading.members);
    free(reading.slots);
    if (code < 0) {
        category_index_free(index);
        return code;
    }
    *out = index;
    return 0;
}

void category_index_free(struct category_index *index)
{
    if (!index)
        return;
    for (size_t i = 0; index->contents && i < index->names->count; i++)
        catalogue_release(index->contents[i]);
    free(index->contents);
    catalogue_release(index->names);
    free(index);
}

struct catalogue *category_index_find(const struct category_index *index, const struct store_id *name)
{
    const ptrdiff_t at = catalogue_find(index->names, name);
    return at < 0 ? NULL : index->contents[at];
}

#include "server/category_index.h"

#include "store/category.h"

#include <stdlib.h>

struct reading {
    struct category_index *index;
    struct catalogue *catalogue;
    size_t *members; /* of the category in hand: indices into the catalogue */
    size_t room;
    struct err *err;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the categories");
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
        const ptrdiff_t member = next < 0 ? -1 : catalogue_find(reading->catalogue, &id);
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
    if (code == 0) {
        index->contents = calloc(index->names->count + 1, sizeof(struct catalogue *));
        code = index->contents ? store_get(link, generation, STORE_CATEGORY, index->names->ids,
                                     index->names->count, take_category, &reading, err)
                               : no_memory(err);
    }
    free(reading.members);
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

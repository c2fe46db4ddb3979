#include "server/catalogue.h"

#include "core/id.h"
#include "server/hot.h"

#include <stdlib.h>
#include <string.h>

int catalogue_compare(const struct store_id *x, const struct store_id *y)
{
    const int order = memcmp(x->id, y->id, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int compare_elements(const void *a, const void *b)
{
    return catalogue_compare(a, b);
}

static int compare_changes(const void *a, const void *b)
{
    const struct catalogue_change *x = a, *y = b;
    return catalogue_compare(&x->id, &y->id);
}

static int compare_indices(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the catalogue");
}

/* Room for count ids. */
static struct catalogue *make(size_t count)
{
    struct catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (!catalogue)
        return NULL;
    atomic_init(&catalogue->holders, 1);
    catalogue->ids = malloc((count + 1) * sizeof *catalogue->ids);
    catalogue->hashes = malloc((count + 1) * sizeof *catalogue->hashes);
    if (catalogue->ids && catalogue->hashes)
        return catalogue;
    catalogue_release(catalogue);
    return NULL;
}

/* Copies of ids that are in order. */
static int fill(struct catalogue **out, const struct store_id *ids, size_t count, struct err *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += ids[i].len;
    struct catalogue *catalogue = make(count);
    if (catalogue)
        catalogue->bytes = malloc(bytes + 1);
    if (!catalogue || !catalogue->bytes) {
        catalogue_release(catalogue);
        return no_memory(err);
    }
    catalogue->count = count;
    char *at = catalogue->bytes;
    for (size_t i = 0; i < count; i++) {
        memcpy(at, ids[i].id, ids[i].len);
        catalogue->ids[i] = (struct store_id){at, ids[i].len};
        catalogue->hashes[i] = hot_hash(at, ids[i].len);
        at += ids[i].len;
    }
    *out = catalogue;
    return 0;
}

struct listing {
    struct id_map map;
    enum store_kind kind;
};

static int add_id(void *ctx, const char *id, size_t len)
{
    struct listing *listing = ctx;
    if (len == 0 || store_id_check(listing->kind, id, len, NULL) < 0)
        return 0; /* nobody could ask for it; the empty id is the default user */
    const ptrdiff_t index = id_map_add(&listing->map, id, len, NULL);
    return index < 0 ? (int)index : 0;
}

int catalogue_read(struct catalogue **out, struct store_link *link, const char *generation,
    enum store_kind kind, struct err *err)
{
    struct listing listing = {.kind = kind};
    const struct id_map *map = &listing.map;
    int code = store_scan(link, generation, kind, add_id, &listing, err);
    struct store_id *ids = code < 0 ? NULL : malloc((map->count + 1) * sizeof *ids);
    if (ids) {
        for (size_t i = 0; i < map->count; i++)
            ids[i] = (struct store_id){id_map_get(map, i), map->length[i]};
        qsort(ids, map->count, sizeof *ids, compare_elements);
        code = fill(out, ids, map->count, err);
    } else if (code == 0 || code == -ERR_NOMEM) {
        code = no_memory(err);
    }
    free(ids);
    id_map_done(&listing.map);
    return code;
}

int catalogue_apply(struct catalogue **out, const struct catalogue *old, struct catalogue_change *changes,
    size_t count, struct err *err)
{
    struct store_id *ids = malloc((old->count + count + 1) * sizeof *ids);
    if (!ids)
        return no_memory(err);
    qsort(changes, count, sizeof *changes, compare_changes);
    size_t used = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        while (at < old->count && catalogue_compare(&old->ids[at], &changes[i].id) < 0)
            ids[used++] = old->ids[at++];
        if (at < old->count && catalogue_compare(&old->ids[at], &changes[i].id) == 0)
            at++;
        if (changes[i].here)
            ids[used++] = changes[i].id;
    }
    while (at < old->count)
        ids[used++] = old->ids[at++];
    const int code = fill(out, ids, used, err);
    free(ids);
    return code;
}

int catalogue_select(
    struct catalogue **out, struct catalogue *of, size_t *indices, size_t count, struct err *err)
{
    struct catalogue *catalogue = make(count);
    if (!catalogue)
        return no_memory(err);
    if (count)
        qsort(indices, count, sizeof *indices, compare_indices);
    for (size_t i = 0; i < count; i++) {
        if (i && indices[i] == indices[i - 1])
            continue;
        catalogue->ids[catalogue->count] = of->ids[indices[i]];
        catalogue->hashes[catalogue->count++] = of->hashes[indices[i]];
    }
    catalogue_hold(of);
    catalogue->of = of;
    *out = catalogue;
    return 0;
}

ptrdiff_t catalogue_find(const struct catalogue *catalogue, const struct store_id *id)
{
    const struct store_id *at =
        catalogue->count ? bsearch(id, catalogue->ids, catalogue->count, sizeof *id, compare_elements) : NULL;
    return at ? at - catalogue->ids : -1;
}

void catalogue_hold(struct catalogue *catalogue)
{
    atomic_fetch_add_explicit(&catalogue->holders, 1, memory_order_relaxed);
}

void catalogue_release(struct catalogue *catalogue)
{
    if (!catalogue || atomic_fetch_sub_explicit(&catalogue->holders, 1, memory_order_acq_rel) > 1)
        return;
    catalogue_release(catalogue->of);
    free(catalogue->ids);
    free(catalogue->hashes);
    free(catalogue->bytes);
    free(catalogue);
}

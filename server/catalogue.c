#include "server/catalogue.h"

#include "core/id.h"
#include "server/hot.h"

#include <stdlib.h>
#include <string.h>

static int compare_ids(const struct store_id *x, const struct store_id *y)
{
    const int order = memcmp(x->id, y->id, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int compare_elements(const void *a, const void *b)
{
    return compare_ids(a, b);
}

static int compare_changes(const void *a, const void *b)
{
    const struct catalogue_change *x = a, *y = b;
    return compare_ids(&x->id, &y->id);
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the catalogue");
}

/* Room for count ids of so many bytes together. */
static struct catalogue *make(size_t count, size_t bytes)
{
    struct catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (!catalogue)
        return NULL;
    atomic_init(&catalogue->holders, 1);
    catalogue->ids = malloc((count + 1) * sizeof *catalogue->ids);
    catalogue->hashes = malloc((count + 1) * sizeof *catalogue->hashes);
    catalogue->bytes = malloc(bytes + 1);
    if (catalogue->ids && catalogue->hashes && catalogue->bytes)
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
    struct catalogue *catalogue = make(count, bytes);
    if (!catalogue)
        return no_memory(err);
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

static int add_id(void *ctx, const char *id, size_t len)
{
    if (id_check(id, len, NULL) < 0)
        return 0; /* nobody could ask for it; the empty id is the default user */
    const ptrdiff_t index = id_map_add(ctx, id, len, NULL);
    return index < 0 ? (int)index : 0;
}

int catalogue_read(struct catalogue **out, struct store_link *link, const char *generation,
    enum store_kind kind, struct err *err)
{
    struct id_map map = {0};
    int code = store_scan(link, generation, kind, add_id, &map, err);
    struct store_id *ids = code < 0 ? NULL : malloc((map.count + 1) * sizeof *ids);
    if (ids) {
        for (size_t i = 0; i < map.count; i++)
            ids[i] = (struct store_id){id_map_get(&map, i), map.length[i]};
        qsort(ids, map.count, sizeof *ids, compare_elements);
        code = fill(out, ids, map.count, err);
    } else if (code == 0 || code == -ERR_NOMEM) {
        code = no_memory(err);
    }
    free(ids);
    id_map_done(&map);
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
        while (at < old->count && compare_ids(&old->ids[at], &changes[i].id) < 0)
            ids[used++] = old->ids[at++];
        if (at < old->count && compare_ids(&old->ids[at], &changes[i].id) == 0)
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
    free(catalogue->ids);
    free(catalogue->hashes);
    free(catalogue->bytes);
    free(catalogue);
}

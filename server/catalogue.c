#include "server/catalogue.h"

#include "core/id.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct catalogue {
    pthread_mutex_t lock;
    bool complete; /* then the rest does not change any more */
    struct id_map map;
    struct store_id *ids; /* point into map */
};

int catalogue_new(struct catalogue **out, struct err *err)
{
    struct catalogue *catalogue = calloc(1, sizeof *catalogue);
    if (!catalogue)
        return err_set(err, ERR_NOMEM, "no memory for the catalogue");
    pthread_mutex_init(&catalogue->lock, NULL);
    *out = catalogue;
    return 0;
}

void catalogue_free(struct catalogue *catalogue)
{
    if (!catalogue)
        return;
    pthread_mutex_destroy(&catalogue->lock);
    id_map_done(&catalogue->map);
    free(catalogue->ids);
    free(catalogue);
}

static int add_id(void *ctx, const char *id, size_t len)
{
    struct catalogue *catalogue = ctx;
    if (id_check(id, len, NULL) < 0)
        return 0; /* nobody could ask for it */
    const ptrdiff_t index = id_map_add(&catalogue->map, id, len, NULL);
    return index < 0 ? (int)index : 0;
}

static int compare_ids(const void *a, const void *b)
{
    const struct store_id *x = a, *y = b;
    const int order = memcmp(x->id, y->id, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int read_ids(
    struct catalogue *catalogue, struct store_link *link, const char *generation, struct err *err)
{
    const int code = store_scan(link, generation, STORE_CONTENT, add_id, catalogue, err);
    if (code < 0)
        return code == -ERR_NOMEM ? err_set(err, ERR_NOMEM, "no memory for the catalogue") : code;
    const size_t count = catalogue->map.count;
    catalogue->ids = malloc((count + 1) * sizeof *catalogue->ids);
    if (!catalogue->ids)
        return err_set(err, ERR_NOMEM, "no memory for the catalogue");
    for (size_t i = 0; i < count; i++)
        catalogue->ids[i] = (struct store_id){id_map_get(&catalogue->map, i), catalogue->map.length[i]};
    qsort(catalogue->ids, count, sizeof *catalogue->ids, compare_ids);
    return 0;
}

int catalogue_get(struct catalogue *catalogue, struct store_link *link, const char *generation,
    const struct store_id **ids, size_t *count, struct err *err)
{
    int code = 0;
    pthread_mutex_lock(&catalogue->lock);
    if (!catalogue->complete) {
        code = read_ids(catalogue, link, generation, err);
        if (code < 0)
            id_map_done(&catalogue->map);
        else
            catalogue->complete = true;
    }
    pthread_mutex_unlock(&catalogue->lock);
    if (code < 0)
        return code;
    *ids = catalogue->ids;
    *count = catalogue->map.count;
    return 0;
}

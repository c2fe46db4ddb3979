#include "batch/token_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LOCKS = 64, OWNER = 0, COUNT = 1, IDS = 2 }; /* a slot: item + 1 or 0, number, tokens */

struct token_cache {
    uint32_t *cells;
    size_t slots, width;
    pthread_mutex_t lock[LOCKS]; /* of every LOCKS-th slot */
};

int token_cache_new(struct token_cache **out, size_t items, size_t most, size_t bytes, struct err *err)
{
    struct token_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return err_set(err, ERR_NOMEM, "out of memory");
    cache->width = IDS + most;
    cache->slots = bytes / sizeof *cache->cells / cache->width;
    if (cache->slots > items)
        cache->slots = items;
    cache->cells = calloc(cache->slots * cache->width + 1, sizeof *cache->cells);
    if (!cache->cells) {
        free(cache);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&cache->lock[i], NULL);
    *out = cache;
    return 0;
}

void token_cache_free(struct token_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&cache->lock[i]);
    free(cache->cells);
    free(cache);
}

bool token_cache_get(struct token_cache *cache, size_t item, int32_t *ids, size_t *count)
{
    if (!cache->slots)
        return false;
    const size_t slot = item % cache->slots;
    const uint32_t *const cell = cache->cells + slot * cache->width;
    pthread_mutex_lock(&cache->lock[slot % LOCKS]);
    const bool found = cell[OWNER] == (uint32_t)item + 1;
    if (found) {
        *count = cell[COUNT];
        memcpy(ids, cell + IDS, *count * sizeof *ids);
    }
    pthread_mutex_unlock(&cache->lock[slot % LOCKS]);
    return found;
}

void token_cache_put(struct token_cache *cache, size_t item, const int32_t *ids, size_t count)
{
    if (!cache->slots)
        return;
    const size_t slot = item % cache->slots;
    uint32_t *const cell = cache->cells + slot * cache->width;
    pthread_mutex_lock(&cache->lock[slot % LOCKS]);
    cell[OWNER] = (uint32_t)item + 1;
    cell[COUNT] = (uint32_t)count;
    memcpy(cell + IDS, ids, count * sizeof *ids);
    pthread_mutex_unlock(&cache->lock[slot % LOCKS]);
}

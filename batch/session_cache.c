/* Three tables: states by key, and by key and by age what has to be known to let the oldest go without touching the states:
 *
 *     states   key            check (8), states
 *     index    key            age (8), bytes (8)
 *     order    age            key
 *
 * A key is the XXH3-128 of the settings and the tokens; an age is a counter, big-endian, so that LMDB sorts by it. Writes,
 * and the new ages of what was found, wait in memory and go in one transaction. */
#include "batch/session_cache.h"

#include "batch/progress.h"
#include "core/array.h"
#include "core/file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

enum { WAITING_BYTES = 32 << 20, KEY = 16 };

struct waiting {
    unsigned char key[KEY];
    size_t at, bytes; /* of its check and states; 0: it was found, and becomes young again */
};

struct session_cache {
    struct session_cache_options options;
    int lock; /* descriptor of the folder's lock file */
    MDB_env *env;
    MDB_dbi states, index, order;
    uint64_t age;
    atomic_bool broken; /* told, and not used any more */
    pthread_mutex_t mutex;
    struct waiting *waiting;
    size_t waiting_count, waiting_size;
    unsigned char *bytes;
    size_t used, size;
    size_t found;        /* bytes that were read since the last flush */
    atomic_size_t looks; /* into the map since it was let go of */
    struct session_cache_figures figures;
};

static MDB_val val(const void *data, size_t len)
{
    union {
        const void *in;
        void *out; /* LMDB's one struct serves input and output */
    } pointer = {data};
    return (MDB_val){len, pointer.out};
}

/* One more look into the map. It is as large as the cache, a page that is touched brings its neighbours along (up to 2 MiB),
 * and all of it counts as this process's memory until it is let go of. */
static void look(struct session_cache *cache)
{
    enum { LOOKS = 32 };
    mdb_filehandle_t fd;
    if (atomic_fetch_add(&cache->looks, 1) % LOOKS == LOOKS - 1 && mdb_env_get_fd(cache->env, &fd) == 0)
        file_unmap_touched(fd);
}

/* ---- opening ---- */

/* LMDB would let two processes in; their ages would be each other's. */
static int lock_folder(struct session_cache *cache, struct err *err)
{
    char path[4096];
    int result = file_make_dir(cache->options.dir, err);
    if (result == 0)
        result = file_path(path, cache->options.dir, "lock", err);
    if (result < 0)
        return result;
    cache->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (cache->lock < 0)
        return err_errno(err, "open %s", path);
    if (flock(cache->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_BUSY, "%s is in use", cache->options.dir);
    return 0;
}

static int open_tables(struct session_cache *cache)
{
    MDB_txn *txn;
    /* Freed pages lie scattered between those in use: what is stored needs a good deal of room around it. */
    const size_t map = cache->options.limit_bytes + cache->options.limit_bytes / 2 + (64u << 20);
    int error = mdb_env_create(&cache->env);
    if (!error)
        error = mdb_env_set_maxdbs(cache->env, 3);
    if (!error)
        error = mdb_env_set_mapsize(cache->env, map);
    if (!error)
        error = mdb_env_open(cache->env, cache->options.dir, MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (!error)
        error = mdb_txn_begin(cache->env, NULL, 0, &txn);
    if (error)
        return error;
    error = mdb_dbi_open(txn, "states", MDB_CREATE, &cache->states);
    if (!error)
        error = mdb_dbi_open(txn, "index", MDB_CREATE, &cache->index);
    if (!error)
        error = mdb_dbi_open(txn, "order", MDB_CREATE, &cache->order);
    if (!error)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return error;
}

/* The youngest age, and how much there is. */
static int take_stock(struct session_cache *cache)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    int error = mdb_txn_begin(cache->env, NULL, MDB_RDONLY, &txn);
    if (error)
        return error;
    error = mdb_cursor_open(txn, cache->index, &cursor);
    if (!error) {
        while ((error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            uint64_t entry[2];
            if (value.mv_size != sizeof entry) {
                error = MDB_CORRUPTED;
                break;
            }
            memcpy(entry, value.mv_data, sizeof entry);
            cache->figures.entries++;
            cache->figures.bytes += entry[1];
            cache->age = be64toh(entry[0]) > cache->age ? be64toh(entry[0]) : cache->age;
            if (cache->figures.entries % 64 == 0) /* about a page of them */
                look(cache);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return error == MDB_NOTFOUND ? 0 : error;
}

int session_cache_open(
    struct session_cache **out, const struct session_cache_options *options, struct err *err)
{
    struct session_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return err_set(err, ERR_NOMEM, "out of memory");
    cache->options = *options;
    cache->lock = -1;
    pthread_mutex_init(&cache->mutex, NULL);
    int result = options->limit_bytes < 1u << 20
                     ? err_set(err, ERR_INVALID, "a cache of sessions needs at least 1 MiB")
                     : lock_folder(cache, err);
    if (result == 0) {
        int error = open_tables(cache);
        if (!error)
            error = take_stock(cache);
        if (error)
            result = err_set(err, error == ENOMEM ? ERR_NOMEM : ERR_CORRUPT,
                "the cache of sessions in %s cannot be used: %s; remove the folder to begin a new one",
                options->dir, mdb_strerror(error));
    }
    if (result < 0) {
        cache->broken = true;
        session_cache_close(cache);
    } else {
        *out = cache;
    }
    return result;
}

/* ---- writing ---- */

static void give_up(struct session_cache *cache, int error)
{
    if (!cache->broken)
        progress_say(false, "the cache of sessions in %s is not used any more: %s", cache->options.dir,
            mdb_strerror(error));
    cache->broken = true;
}

/* Take an entry out of the order, and with it its states unless they stay. Returns its bytes, or 0 if there is none. */
static int forget(struct session_cache *cache, MDB_txn *txn, MDB_val *key, bool states_stay, size_t *bytes)
{
    MDB_val value;
    uint64_t entry[2];
    *bytes = 0;
    int error = mdb_get(txn, cache->index, key, &value);
    if (error)
        return error == MDB_NOTFOUND ? 0 : error;
    memcpy(entry, value.mv_data, sizeof entry);
    MDB_val age = val(entry, sizeof *entry);
    error = mdb_del(txn, cache->order, &age, NULL);
    if ((!error || error == MDB_NOTFOUND) && !states_stay) {
        error = mdb_del(txn, cache->index, key, NULL);
        if (!error)
            error = mdb_del(txn, cache->states, key, NULL);
    }
    *bytes = entry[1];
    return error == MDB_NOTFOUND ? 0 : error;
}

static int make_room(
    struct session_cache *cache, MDB_txn *txn, struct session_cache_figures *figures, size_t need)
{
    MDB_cursor *cursor;
    int error = mdb_cursor_open(txn, cache->order, &cursor);
    if (error)
        return error;
    while (!error && figures->entries && figures->bytes + need > cache->options.limit_bytes) {
        MDB_val age, key;
        unsigned char copy[KEY];
        size_t bytes;
        error = mdb_cursor_get(cursor, &age, &key, MDB_FIRST);
        if (error || key.mv_size != KEY)
            break;
        memcpy(copy, key.mv_data, KEY);
        MDB_val oldest = val(copy, KEY);
        error = forget(cache, txn, &oldest, false, &bytes);
        if (!error && !bytes)
            error = MDB_CORRUPTED; /* it is in the order and not in the index */
        figures->entries--;
        figures->bytes -= bytes < figures->bytes ? bytes : figures->bytes;
    }
    mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

static int write_one(struct session_cache *cache, MDB_txn *txn, struct session_cache_figures *figures,
    const struct waiting *waiting, uint64_t number)
{
    MDB_val key = val(waiting->key, KEY);
    size_t before;
    int error = forget(cache, txn, &key, true, &before);
    if (error || (!waiting->bytes && !before)) /* found, and gone meanwhile */
        return error;
    if (waiting->bytes) { /* over what is there: it was found damaged */
        figures->entries -= before != 0;
        figures->bytes -= before;
        error = make_room(cache, txn, figures, waiting->bytes);
        MDB_val states = val(cache->bytes + waiting->at, waiting->bytes);
        if (!error)
            error = mdb_put(txn, cache->states, &key, &states, 0);
        figures->entries++;
        figures->bytes += waiting->bytes;
    }
    const uint64_t entry[2] = {htobe64(number), waiting->bytes ? waiting->bytes : before};
    MDB_val age = val(entry, sizeof *entry), value = val(entry, sizeof entry);
    if (!error)
        error = mdb_put(txn, cache->index, &key, &value, 0);
    return error ? error : mdb_put(txn, cache->order, &age, &key, 0);
}

/* In one transaction: what waits, or nothing where all that is wanted is that `room` bytes fit below the bound. */
static int write_all(struct session_cache *cache, size_t count, size_t room)
{
    MDB_txn *txn;
    struct session_cache_figures figures = cache->figures;
    uint64_t age = cache->age;
    int error = mdb_txn_begin(cache->env, NULL, 0, &txn);
    if (error)
        return error;
    error = make_room(cache, txn, &figures, room);
    for (size_t i = 0; !error && i < count; i++) {
        error = write_one(cache, txn, &figures, &cache->waiting[i], ++age);
        look(cache);
    }
    if (error) {
        mdb_txn_abort(txn);
        return error;
    }
    error = mdb_txn_commit(txn);
    if (!error) {
        cache->figures.entries = figures.entries;
        cache->figures.bytes = figures.bytes;
        cache->age = age;
    }
    return error;
}

/* The mutex is held. A map that is full although the bound is kept has no gap of the right size: a quarter goes, and what
 * waits is not kept, because LMDB hands pages out again two transactions later. */
static void flush(struct session_cache *cache)
{
    if (!cache->broken && cache->waiting_count) {
        int error = write_all(cache, cache->waiting_count, 0);
        if (error == MDB_MAP_FULL)
            error = write_all(cache, 0, cache->options.limit_bytes / 4);
        if (error)
            give_up(cache, error);
    }
    cache->waiting_count = cache->used = 0;
}

void session_cache_close(struct session_cache *cache)
{
    if (!cache)
        return;
    if (!cache->broken)
        flush(cache);
    if (cache->env)
        mdb_env_close(cache->env);
    if (cache->lock >= 0)
        close(cache->lock);
    pthread_mutex_destroy(&cache->mutex);
    free(cache->waiting);
    free(cache->bytes);
    free(cache);
}

/* ---- asking and putting ---- */

static void key_of(
    unsigned char key[KEY], const struct session_cache *cache, const int32_t *ids, size_t count)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(
        &canonical, XXH3_128bits_withSeed(ids, count * sizeof *ids, cache->options.settings));
    memcpy(key, canonical.digest, KEY);
}

/* The key is part of what is checked: states of other tokens are as damaged as flipped bits. */
static uint64_t check_of(const unsigned char key[KEY], const void *states, size_t bytes)
{
    return XXH3_64bits_withSeed(states, bytes, XXH3_64bits(key, KEY));
}

/* The mutex is held. */
static void wait_for_write(
    struct session_cache *cache, const unsigned char key[KEY], const void *states, size_t bytes)
{
    const size_t need = states ? sizeof(uint64_t) + bytes : 0;
    cache->found += states ? 0 : bytes;
    if (cache->used + need > WAITING_BYTES || cache->found > 8 * (size_t)WAITING_BYTES) {
        flush(cache);
        cache->found = 0;
    }
    if (array_grow(&cache->waiting, &cache->waiting_size, cache->waiting_count + 1, sizeof *cache->waiting,
            NULL) < 0 ||
        array_grow(&cache->bytes, &cache->size, cache->used + need, 1, NULL) < 0)
        return; /* without memory to spare it is encoded again */
    struct waiting *waiting = &cache->waiting[cache->waiting_count++];
    memcpy(waiting->key, key, KEY);
    waiting->at = cache->used;
    waiting->bytes = need;
    if (!states)
        return;
    const uint64_t check = check_of(key, states, bytes);
    memcpy(cache->bytes + cache->used, &check, sizeof check);
    memcpy(cache->bytes + cache->used + sizeof check, states, bytes);
    cache->used += need;
}

/* Copied out of the map, then checked where nobody else writes. */
static bool read_states(
    struct session_cache *cache, const unsigned char key[KEY], void *states, size_t bytes, bool *damaged)
{
    MDB_txn *txn;
    MDB_val name = val(key, KEY), value;
    uint64_t check;
    bool found = false;
    if (mdb_txn_begin(cache->env, NULL, MDB_RDONLY, &txn) != 0)
        return false;
    if (mdb_get(txn, cache->states, &name, &value) == 0) {
        *damaged = value.mv_size != sizeof check + bytes;
        if (!*damaged) {
            memcpy(&check, value.mv_data, sizeof check);
            memcpy(states, (const char *)value.mv_data + sizeof check, bytes);
            *damaged = check != check_of(key, states, bytes);
        }
        found = !*damaged;
    }
    mdb_txn_abort(txn);
    return found;
}

bool session_cache_get(void *context, const int32_t *ids, size_t count, void *states)
{
    struct session_cache *cache = context;
    unsigned char key[KEY];
    bool damaged = false, found = false;
    key_of(key, cache, ids, count);
    if (!cache->broken) {
        found = read_states(cache, key, states, count * cache->options.token_bytes, &damaged);
        look(cache);
    }
    pthread_mutex_lock(&cache->mutex);
    cache->figures.hits += found;
    cache->figures.misses += !found;
    cache->figures.damaged += damaged;
    if (found)
        wait_for_write(cache, key, NULL, count * cache->options.token_bytes);
    pthread_mutex_unlock(&cache->mutex);
    return found;
}

void session_cache_put(void *context, const int32_t *ids, size_t count, const void *states)
{
    struct session_cache *cache = context;
    unsigned char key[KEY];
    size_t items = 0;
    for (size_t i = 0; i < count; i++)
        items += ids[i] == cache->options.item_id;
    if (items < cache->options.session_items)
        return;
    key_of(key, cache, ids, count);
    pthread_mutex_lock(&cache->mutex);
    wait_for_write(cache, key, states, count * cache->options.token_bytes);
    pthread_mutex_unlock(&cache->mutex);
}

struct session_cache_figures session_cache_figures(struct session_cache *cache)
{
    pthread_mutex_lock(&cache->mutex);
    const struct session_cache_figures figures = cache->figures;
    pthread_mutex_unlock(&cache->mutex);
    return figures;
}

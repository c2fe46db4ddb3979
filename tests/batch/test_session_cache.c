/* The cache of session states: what is put is found, the bound is kept by age, and nothing that is damaged is believed. */
#include "batch/session_cache.h"
#include "tests/lib/scratch.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[256];

enum { ITEM = 100, TOKEN = 64, TOKENS = 40, SESSION = 2 };

static struct session_cache *open_cache(const char *dir, size_t limit, uint64_t settings)
{
    const struct session_cache_options options = {dir, limit, settings, TOKEN, ITEM, SESSION};
    struct session_cache *cache = NULL;
    struct err err = ERR_INIT;
    if (session_cache_open(&cache, &options, &err) < 0)
        fail_msg("%s", err.message);
    return cache;
}

/* A full session of the number's own tokens, and its states. */
static void make(int number, int32_t ids[TOKENS], unsigned char states[TOKENS * TOKEN])
{
    for (int i = 0; i < TOKENS; i++)
        ids[i] = i % (TOKENS / SESSION) ? number * 1000 + i + 200 : ITEM;
    for (int i = 0; i < TOKENS * TOKEN; i++)
        states[i] = (unsigned char)(number * 7 + i);
}

static void put(struct session_cache *cache, int number)
{
    int32_t ids[TOKENS];
    unsigned char states[TOKENS * TOKEN];
    make(number, ids, states);
    session_cache_put(cache, ids, TOKENS, states);
}

static bool has(struct session_cache *cache, int number)
{
    int32_t ids[TOKENS];
    unsigned char states[TOKENS * TOKEN], found[TOKENS * TOKEN];
    make(number, ids, states);
    if (!session_cache_get(cache, ids, TOKENS, found))
        return false;
    assert_memory_equal(found, states, sizeof states);
    return true;
}

static void test_round_trip(void **state)
{
    (void)state;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/round", folder);
    struct session_cache *cache = open_cache(dir, 8 << 20, 1);
    assert_false(has(cache, 1));
    for (int i = 0; i < 50; i++)
        put(cache, i);
    session_cache_close(cache);
    cache = open_cache(dir, 8 << 20, 1);
    for (int i = 0; i < 50; i++)
        assert_true(has(cache, i));
    assert_false(has(cache, 50));
    const struct session_cache_figures figures = session_cache_figures(cache);
    assert_int_equal(figures.entries, 50);
    assert_int_equal(figures.bytes, 50 * (TOKENS * TOKEN + 8));
    assert_int_equal(figures.hits, 50);
    assert_int_equal(figures.misses, 1);

    /* A session that is not full is not kept, a shorter one is another one. */
    int32_t ids[TOKENS];
    unsigned char states[TOKENS * TOKEN];
    make(60, ids, states);
    session_cache_put(cache, ids, TOKENS / 2, states);
    make(1, ids, states);
    assert_false(session_cache_get(cache, ids, TOKENS - 1, states));
    session_cache_close(cache);
    cache = open_cache(dir, 8 << 20, 1);
    assert_int_equal(session_cache_figures(cache).entries, 50);
    session_cache_close(cache);
    cache = open_cache(dir, 8 << 20, 2); /* another model */
    assert_false(has(cache, 1));
    session_cache_close(cache);
}

/* What was asked for lately stays, the rest goes by age. */
static void test_bound(void **state)
{
    (void)state;
    char dir[300];
    const size_t limit = 1 << 20, each = TOKENS * TOKEN + 8, room = limit / each;
    snprintf(dir, sizeof dir, "%s/bound", folder);
    struct session_cache *cache = open_cache(dir, limit, 1);
    for (int i = 0; i < (int)room; i++)
        put(cache, i);
    session_cache_close(cache);
    cache = open_cache(dir, limit, 1);
    for (int i = 0; i < 10; i++)
        assert_true(has(cache, i)); /* the oldest are young again */
    for (int i = 0; i < 20; i++)
        put(cache, (int)room + i);
    session_cache_close(cache);
    cache = open_cache(dir, limit, 1);
    const struct session_cache_figures figures = session_cache_figures(cache);
    assert_true(figures.bytes <= limit);
    assert_int_equal(figures.entries, room);
    for (int i = 0; i < (int)room + 20; i++)
        assert_int_equal(has(cache, i), i < 10 || i >= 30);
    session_cache_close(cache);

    /* Many times what fits, with a bound that the map must keep up with. */
    cache = open_cache(dir, limit, 1);
    for (int i = 0; i < 40 * (int)room; i++)
        put(cache, i);
    session_cache_close(cache);
    cache = open_cache(dir, limit, 1);
    assert_true(has(cache, 40 * (int)room - 1));
    assert_true(session_cache_figures(cache).bytes <= limit);
    session_cache_close(cache);
}

/* One bit in the states of each entry. */
static void damage(const char *dir)
{
    enum { MOST = 10, BYTES = 8 + TOKENS * TOKEN };
    static unsigned char keys[MOST][16], values[MOST][BYTES];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key, value;
    size_t count = 0;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 3), 0);
    assert_int_equal(mdb_env_open(env, dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "states", 0, &dbi), 0);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        assert_true(count < MOST && key.mv_size == 16 && value.mv_size == BYTES);
        memcpy(keys[count], key.mv_data, 16);
        memcpy(values[count], value.mv_data, BYTES);
        values[count++][BYTES / 2] ^= 1;
    }
    mdb_cursor_close(cursor);
    for (size_t i = 0; i < count; i++) {
        key = (MDB_val){16, keys[i]};
        value = (MDB_val){BYTES, values[i]};
        assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
    }
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void test_damage(void **state)
{
    (void)state;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/damage", folder);
    struct session_cache *cache = open_cache(dir, 1 << 20, 1);
    put(cache, 1);
    put(cache, 2);
    session_cache_close(cache);
    damage(dir);
    cache = open_cache(dir, 1 << 20, 1);
    assert_false(has(cache, 1));
    assert_false(has(cache, 2));
    assert_int_equal(session_cache_figures(cache).damaged, 2);
    put(cache, 1); /* as who has missed it does */
    session_cache_close(cache);
    cache = open_cache(dir, 1 << 20, 1);
    assert_true(has(cache, 1));
    assert_int_equal(session_cache_figures(cache).entries, 2);
    assert_int_equal(session_cache_figures(cache).bytes, 2 * (TOKENS * TOKEN + 8));
    session_cache_close(cache);
}

static void test_refusals(void **state)
{
    (void)state;
    char dir[300], file[320];
    struct session_cache *cache, *second = NULL;
    struct err err = ERR_INIT;
    snprintf(dir, sizeof dir, "%s/refused", folder);
    struct session_cache_options options = {dir, 1000, 1, TOKEN, ITEM, SESSION};
    assert_int_equal(session_cache_open(&second, &options, &err), -ERR_INVALID);
    cache = open_cache(dir, 1 << 20, 1);
    options.limit_bytes = 1 << 20;
    assert_int_equal(session_cache_open(&second, &options, &err), -ERR_BUSY);
    session_cache_close(cache);
    session_cache_close(NULL);
    snprintf(file, sizeof file, "%s/data.mdb", dir);
    FILE *stream = fopen(file, "w");
    assert_non_null(stream);
    for (int i = 0; i < 10000; i++)
        fputs("no LMDB", stream);
    fclose(stream);
    assert_int_equal(session_cache_open(&second, &options, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, dir));
    options.dir = "/nowhere/at/all";
    assert_int_equal(session_cache_open(&second, &options, &err), -ERR_NOT_FOUND);
}

static void *hammer(void *cache)
{
    for (int i = 0; i < 400; i++)
        if (!has(cache, i % 100))
            put(cache, i % 100);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/threads", folder);
    struct session_cache *cache = open_cache(dir, 1 << 20, 1);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, cache), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    session_cache_close(cache);
    cache = open_cache(dir, 1 << 20, 1);
    assert_int_equal(session_cache_figures(cache).entries, 100);
    for (int i = 0; i < 100; i++)
        assert_true(has(cache, i));
    session_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_threads),
    };
    scratch_make(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scratch_remove(folder);
    return failed;
}

/* Hot memory: what goes in comes out, the bound holds, the clock spares what is asked for, readers are safe from
 * writers and never wait for them. */
#include "server/hot.h"
#include "server/hot_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORDS = 32, BLOCK = WORDS * 8, READERS = 3 };

struct name {
    char text[600];
    struct store_id id;
    uint64_t hash;
};

/* The id of number i: "7----" with so many bytes at least. */
static const struct name *name(struct name *name, size_t i, size_t len)
{
    const int digits = snprintf(name->text, sizeof name->text, "%zu", i);
    name->id = (struct store_id){name->text, (size_t)digits};
    if (len > name->id.len) {
        memset(name->text + digits, '-', len - name->id.len);
        name->id.len = len;
    }
    name->hash = hot_hash(name->text, name->id.len);
    return name;
}

/* Version v of block i; no two of them have a word in common. */
static void fill(uint64_t *block, uint64_t i, uint64_t version)
{
    for (size_t k = 0; k < WORDS; k++)
        block[k] = i << 40 | version << 8 | k;
}

static uint64_t version_of(const uint64_t *block)
{
    return (block[0] & 0xffffffffffu) >> 8;
}

static bool is_whole(const uint64_t *block, uint64_t i)
{
    uint64_t right[WORDS];
    fill(right, i, version_of(block));
    return memcmp(right, block, BLOCK) == 0;
}

static bool put_as(struct hot *hot, const struct name *name, size_t i, uint64_t version, enum hot_mode mode)
{
    uint64_t block[WORDS];
    fill(block, i, version);
    return hot_put(hot, &name->id, name->hash, block, mode);
}

static bool put(struct hot *hot, size_t i, enum hot_mode mode)
{
    struct name id;
    return put_as(hot, name(&id, i, 0), i, 1, mode);
}

static bool drop(struct hot *hot, size_t i)
{
    struct name id;
    name(&id, i, 0);
    return hot_remove(hot, &id.id, id.hash);
}

/* The block if it is here, and whole. Its reader has to be inside. */
static const uint64_t *look(struct hot *hot, size_t reader, const struct name *name, size_t i)
{
    const void *block = &block;
    const size_t found = hot_find(hot, reader, &name->id, &name->hash, 1, &block);
    assert_int_equal(found, block != NULL);
    if (block) {
        assert_true(is_whole(block, i));
        assert_int_equal((uintptr_t)block % 64, 0);
    }
    return block;
}

/* The version that is here, or 0. */
static uint64_t get_as(struct hot *hot, const struct name *name, size_t i)
{
    hot_enter(hot, 0);
    const uint64_t *block = look(hot, 0, name, i);
    const uint64_t version = block ? version_of(block) : 0;
    hot_leave(hot, 0);
    assert_int_equal(hot_has(hot, &name->id, name->hash), version != 0);
    return version;
}

static bool get(struct hot *hot, size_t i)
{
    struct name id;
    return get_as(hot, name(&id, i, 0), i) != 0;
}

static struct hot *make(size_t block, size_t limit, size_t expected)
{
    struct err err = ERR_INIT;
    struct hot *hot;
    const struct hot_options options = {block, limit, expected, READERS};
    if (hot_new(&hot, &options, &err) < 0)
        fail_msg("%s", err.message);
    return hot;
}

static struct hot_stats stats_of(struct hot *hot)
{
    struct hot_stats stats;
    hot_stats(hot, &stats);
    assert_true(stats.bytes <= stats.limit_bytes);
    return stats;
}

static size_t fill_up(struct hot *hot)
{
    size_t capacity = 0;
    while (put(hot, capacity, HOT_FILL))
        capacity++;
    return capacity;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* ---- ids by their beginning ---- */

static size_t match(
    struct hot *hot, const char *prefix, size_t places, struct store_id *ids, size_t max, bool *all)
{
    const struct store_id id = {prefix, strlen(prefix)};
    hot_enter(hot, 0);
    const size_t count = hot_match(hot, &id, places, ids, max, all);
    assert_true(count <= max);
    for (size_t i = 0; i < count; i++) {
        assert_true(ids[i].len >= id.len);
        assert_memory_equal(ids[i].id, prefix, id.len);
        for (size_t k = 0; k < i; k++)
            assert_false(ids[k].len == ids[i].len && memcmp(ids[k].id, ids[i].id, ids[i].len) == 0);
    }
    hot_leave(hot, 0); /* nobody writes here, so the ids stay good */
    return count;
}

static void test_match(void **state)
{
    (void)state;
    enum { MOST = 2000, MANY = 1000000 };
    static struct store_id ids[MOST];
    bool all;
    struct hot *hot = make(BLOCK, (size_t)8 << 20, 0);
    assert_int_equal(match(hot, "", MANY, ids, MOST, &all), 0);
    assert_true(all);
    for (size_t i = 0; i < 1500; i++) {
        struct name id;
        assert_true(
            put_as(hot, name(&id, i, i % 10 ? 0 : 100), i, 1, HOT_FILL)); /* some lie beside their entry */
    }
    assert_int_equal(match(hot, "", MANY, ids, MOST, &all), 1500);
    assert_true(all);
    assert_int_equal(match(hot, "12", MANY, ids, MOST, &all), 1 + 10 + 100);
    assert_true(all);
    assert_int_equal(match(hot, "149", MANY, ids, MOST, &all), 1 + 10);
    assert_int_equal(match(hot, "1500", MANY, ids, MOST, &all), 0);
    assert_true(all);
    assert_int_equal(match(hot, "1490----", MANY, ids, MOST, &all), 1);
    assert_int_equal(match(hot, "149x", MANY, ids, MOST, &all), 0);
    assert_int_equal(match(hot, "1", MANY, ids, 7, &all), 7); /* so many as there is room for */
    assert_false(all);
    assert_true(match(hot, "1", 64, ids, MOST, &all) <= 64); /* no more than it may look at */
    assert_false(all);
    for (size_t i = 0; i < 1500; i++) {
        struct name id;
        name(&id, i, 0);
        id.text[id.id.len] = '\0';
        const bool whole = i % 10 != 0; /* in full: a few places are enough */
        assert_true(match(hot, id.text, 64, ids, MOST, &all) >= whole);
    }
    assert_true(drop(hot, 121));
    assert_int_equal(match(hot, "121", MANY, ids, MOST, &all), 10);
    hot_free(hot);
}

static void test_match_is_not_seen(void **state)
{
    (void)state;
    struct store_id ids[4];
    bool all;
    struct hot *hot = make(BLOCK, 50000, 0);
    const size_t capacity = fill_up(hot);
    const struct hot_stats before = stats_of(hot);
    assert_int_equal(match(hot, "0", SIZE_MAX, ids, 4, &all), 1);
    const struct hot_stats after = stats_of(hot);
    assert_int_equal(before.hits, after.hits);
    assert_int_equal(before.misses, after.misses);
    for (size_t i = 0; i < capacity; i++)
        assert_true(put(hot, capacity + i, HOT_KEEP));
    assert_false(get(hot, 0)); /* that it was listed has not spared it */
    hot_free(hot);
}

/* ---- what is kept ---- */

static void test_keeps_all_that_fits(void **state)
{
    (void)state;
    for (size_t expected = 0; expected <= 4000; expected += 2000) { /* too few, right, too many */
        struct hot *hot = make(BLOCK, (size_t)8 << 20, expected);
        for (size_t i = 0; i < 3000; i++) {
            assert_false(get(hot, i));
            assert_true(put(hot, i, HOT_KEEP));
            assert_true(put(hot, i, i % 2 ? HOT_KEEP : HOT_FILL)); /* twice is once */
        }
        for (size_t i = 0; i < 3000; i++)
            assert_true(get(hot, i));
        const struct hot_stats stats = stats_of(hot);
        assert_int_equal(stats.entries, 3000);
        assert_int_equal(stats.hits, 3000);
        assert_int_equal(stats.misses, 3000);
        assert_int_equal(stats.evictions, 0);
        hot_free(hot);
    }
    hot_free(NULL);
}

static void test_many_at_once(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    struct hot *hot = make(BLOCK, (size_t)1 << 20, 0);
    struct name *names = calloc(COUNT, sizeof *names);
    struct store_id ids[COUNT];
    uint64_t hashes[COUNT];
    const void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        ids[i] = name(&names[i], i, i % 60)->id;
        hashes[i] = names[i].hash;
        if (i % 3)
            assert_true(put_as(hot, &names[i], i, 1, HOT_KEEP));
    }
    for (size_t count = 0; count <= COUNT; count += count < 70 ? 1 : 93) {
        hot_enter(hot, 1);
        assert_int_equal(hot_find(hot, 1, ids, hashes, count, blocks), count - (count + 2) / 3);
        for (size_t i = 0; i < count; i++)
            assert_true(i % 3 ? blocks[i] && is_whole(blocks[i], i) : !blocks[i]);
        hot_leave(hot, 1);
    }
    free(names);
    hot_free(hot);
}

static void test_bound(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 3000000; limit = limit * 2 + 100) {
        struct hot *hot = make(BLOCK, limit, limit % 3 ? 0 : 100000);
        for (size_t i = 0; i < 12000; i++) {
            put(hot, i, HOT_KEEP);
            stats_of(hot);
        }
        size_t here = 0;
        for (size_t i = 0; i < 12000; i++)
            here += get(hot, i);
        assert_int_equal(here, stats_of(hot).entries);
        if (limit > 20000) /* most of a limit that is not tiny is used for blocks */
            assert_true(here * BLOCK > limit * 11 / 20);
        if (limit < BLOCK)
            assert_int_equal(here, 0);
        hot_free(hot);
    }
    struct hot *hot = make(4096, (size_t)1 << 20, 0);
    uint64_t block[512] = {0};
    struct name id;
    for (size_t i = 0; i < 1000; i++)
        hot_put(hot, &name(&id, i, 0)->id, id.hash, block, HOT_KEEP);
    assert_true(stats_of(hot).entries > 230);
    hot_free(hot);
    struct err err = ERR_INIT;
    assert_int_equal(hot_new(&hot, &(struct hot_options){.limit_bytes = 1000}, &err), -ERR_INVALID);
}

/* What a content costs in all, counted and, without a sanitizer's own memory, as the kernel sees it. */
static size_t resident(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%*u %zu", &pages) != 1)
        fail_msg("/proc/self/statm");
    fclose(file);
    return pages * 4096;
}

static void test_memory_per_content(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const size_t sizes[] = {4096}, kinds = 1;
    const bool sanitized = true;
#else
    const size_t sizes[] = {4096, 4160, 8192}, kinds = 3;
    const bool sanitized = false;
#endif
    enum { COUNT = 100000, LEN = 8 };
    for (size_t kind = 0; kind < 2 * kinds; kind++) {
        const size_t size = sizes[kind / 2], limit = COUNT * (size + size / 20), before = resident();
        struct hot *hot = make(size, limit, kind % 2 ? COUNT : 0);
        unsigned char *block = calloc(size, 1);
        struct name id;
        for (size_t i = 0; i < COUNT; i++)
            assert_true(hot_put(hot, &name(&id, i, LEN)->id, id.hash, block, HOT_FILL));
        const struct hot_stats stats = stats_of(hot);
        const double counted = (double)stats.bytes / COUNT, real = (double)(resident() - before) / COUNT;
        printf("block %zu: %.1f bytes a content (%.2f %%), resident %.1f, huge pages %d\n", size, counted,
            (counted / (double)size - 1) * 100, real, stats.huge_pages);
        assert_int_equal(stats.entries, COUNT);
        assert_int_equal(stats.evictions, 0);
        assert_true(counted <= 1.05 * (double)size);
        assert_true(sanitized || real <= 1.05 * (double)size);
        free(block);
        hot_free(hot);
    }
}

static void test_without_eviction(void **state)
{
    (void)state;
    struct hot *hot = make(BLOCK, 100000, 0);
    const size_t kept = fill_up(hot);
    assert_true(kept > 200);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(put(hot, i, HOT_FILL), i < kept);
    assert_int_equal(stats_of(hot).evictions, 0);
    assert_true(drop(hot, 7));
    assert_false(drop(hot, 7));
    assert_false(get(hot, 7));
    assert_true(put(hot, 5000, HOT_FILL)); /* what was removed is free room */
    assert_false(put(hot, 5001, HOT_FILL));
    hot_free(hot);
}

static void test_clock_spares_the_asked(void **state)
{
    (void)state;
    struct hot *hot = make(BLOCK, 100000, 0);
    const size_t capacity = fill_up(hot);
    for (size_t i = capacity; i < 20 * capacity; i++) {
        for (size_t k = 0; k < 10; k++) /* ten favourites, asked for all the time */
            assert_true(get(hot, k));
        assert_true(put(hot, i, HOT_KEEP));
    }
    assert_int_equal(stats_of(hot).evictions, 19 * capacity);
    assert_int_equal(stats_of(hot).entries, capacity);
    hot_free(hot);
}

/* ---- ids ---- */

static void test_long_ids(void **state)
{
    (void)state;
    struct name id;
    struct hot *hot = make(BLOCK, 4000000, 0);
    for (size_t len = 1; len <= 512; len++)
        assert_true(put_as(hot, name(&id, len, len), len, len, HOT_KEEP));
    for (size_t len = 1; len <= 512; len++) {
        assert_int_equal(get_as(hot, name(&id, len, len), len), len);
        id.text[id.id.len - 1]++; /* the hash is right, the id is not */
        assert_int_equal(get_as(hot, &id, len), 0);
    }
    hot_free(hot);
    /* Long ones count, and a memory full of them goes on keeping them. */
    hot = make(BLOCK, 400000, 0);
    size_t kept = 0;
    uint64_t random = 3;
    for (size_t i = 0; i < 20000; i++) {
        const bool here = put_as(hot, name(&id, i, 100 + next_random(&random) % 400), i, 1, HOT_KEEP);
        kept += here;
        assert_int_equal(get_as(hot, &id, i), here);
        stats_of(hot);
    }
    printf("long ids: %zu of 20000 kept, %zu here\n", kept, stats_of(hot).entries);
    assert_true(kept > 19000);
    assert_true(stats_of(hot).entries > 400);
    hot_free(hot);
}

/* Random puts, replacements and removals of ids whose hashes collide in whole or in either half, against a table. */
static void test_colliding_hashes(void **state)
{
    (void)state;
    enum { IDS = 150 };
    struct name names[IDS];
    for (size_t kind = 0; kind < 4; kind++) {
        struct hot *hot = make(BLOCK, 1000000, 0);
        uint64_t version[IDS] = {0}, random = 5 + kind;
        for (size_t i = 0; i < IDS; i++) {
            const uint64_t low = next_random(&random), high = next_random(&random) << 32;
            name(&names[i], i, 0);
            names[i].hash = kind == 0 ? 42 : kind == 1 ? high : kind == 2 ? 7 - low % 4 : high | (low % 16);
        }
        for (uint64_t round = 1; round < 20000; round++) {
            const size_t i = next_random(&random) % IDS;
            if (next_random(&random) % 2) {
                const bool replace = next_random(&random) % 2;
                assert_true(put_as(hot, &names[i], i, round, replace ? HOT_REPLACE : HOT_KEEP));
                version[i] = replace || !version[i] ? round : version[i];
            } else {
                assert_int_equal(hot_remove(hot, &names[i].id, names[i].hash), version[i] != 0);
                version[i] = 0;
            }
            if (round % 50 == 0)
                for (size_t k = 0; k < IDS; k++)
                    assert_int_equal(get_as(hot, &names[k], k), version[k]);
        }
        hot_free(hot);
    }
}

/* ---- readers and writers ---- */

static void test_what_is_read_stays(void **state)
{
    (void)state;
    struct hot *hot = make(BLOCK, 40000, 0);
    const size_t capacity = fill_up(hot);
    const uint64_t *blocks[400];
    struct name id;
    assert_true(capacity > 80 && capacity <= 400);
    hot_enter(hot, 0);
    for (size_t i = 0; i < capacity; i++)
        assert_non_null(blocks[i] = look(hot, 0, name(&id, i, 0), i));
    for (size_t i = 1000; i < 2000;
         i++) /* all that is forgotten may be read: there is no room, and little goes */
        assert_false(put(hot, i, HOT_KEEP));
    assert_in_range(stats_of(hot).evictions, 1, capacity / 40 + 1);
    assert_false(put_as(hot, name(&id, 5, 0), 5, 2, HOT_REPLACE)); /* no room for the new: the old one goes */
    assert_null(look(hot, 0, &id, 5));
    for (size_t i = 0; i < capacity; i++)
        drop(hot, i);
    for (size_t i = 0; i < capacity; i++)
        assert_true(is_whole(blocks[i], i) && version_of(blocks[i]) == 1);
    hot_enter(hot, 1); /* who comes later does not see them, and does not hold what was forgotten first */
    assert_null(look(hot, 1, name(&id, 0, 0), 0));
    assert_false(put(hot, 1000, HOT_KEEP));
    hot_leave(hot, 0);
    assert_true(put(hot, 1000, HOT_KEEP));
    hot_leave(hot, 1);
    for (size_t i = 1001; i < 1000 + capacity; i++)
        assert_true(put(hot, i, HOT_KEEP));
    for (size_t i = 2000; i < 2000 + 5 * capacity; i++)
        assert_true(put(hot, i, HOT_KEEP));
    hot_free(hot);
}

static void test_replace(void **state)
{
    (void)state;
    struct hot *hot = make(BLOCK, 40000, 0);
    const size_t capacity = fill_up(hot);
    struct name id;
    name(&id, 3, 0);
    for (uint64_t version = 2; version < 100; version++) { /* in the place of the old one, not of others */
        assert_true(put_as(hot, &id, 3, version, HOT_REPLACE));
        assert_int_equal(get_as(hot, &id, 3), version);
    }
    assert_true(put_as(hot, &id, 3, 1000, HOT_KEEP));
    assert_int_equal(get_as(hot, &id, 3), 99);
    assert_int_equal(stats_of(hot).entries, capacity);
    assert_int_equal(stats_of(hot).evictions, 0);
    for (size_t i = 0; i < 4; i++)
        assert_true(drop(hot, 10 + i));
    assert_true(put(hot, 10, HOT_KEEP));
    hot_enter(hot, 1);
    const uint64_t *old = look(hot, 1, &id, 3);
    assert_true(put_as(hot, &id, 3, 100, HOT_REPLACE));
    const uint64_t *new = look(hot, 1, &id, 3);
    assert_true(version_of(old) == 99 && is_whole(old, 3));
    assert_true(version_of(new) == 100);
    hot_leave(hot, 1);
    assert_true(put_as(hot, name(&id, 9999, 0), 9999, 7, HOT_REPLACE)); /* of what is not here: a put */
    assert_int_equal(get_as(hot, &id, 9999), 7);
    hot_free(hot);
}

/* Two readers that take turns, so that somebody is always inside, and a full memory: after the first rounds every
 * put finds room that was made ahead, and when nobody is inside any more the room is used again. */
static void test_room_is_made_ahead(void **state)
{
    (void)state;
    struct hot *hot = make(BLOCK, 4000000, 0);
    const size_t capacity = fill_up(hot);
    size_t kept = 0, next = capacity;
    enum { ROUNDS = 400, EACH = 100 };
    for (size_t round = 0; round < ROUNDS; round++) {
        hot_enter(hot, round % 2);
        if (round)
            hot_leave(hot, (round + 1) % 2);
        for (size_t i = 0; i < EACH; i++)
            kept += put(hot, next++, HOT_KEEP);
    }
    printf("always read: %zu of %d kept, %zu of %zu here\n", kept, ROUNDS * EACH, stats_of(hot).entries,
        capacity);
    assert_true(kept >= (ROUNDS - 5) * EACH);
    assert_true(stats_of(hot).entries >= capacity - capacity / 40 - 1);
    hot_leave(hot, (ROUNDS - 1) % 2);
    for (size_t i = 0; i < 20000; i++)
        assert_true(put(hot, next++, HOT_KEEP));
    assert_int_equal(stats_of(hot).entries, capacity);
    hot_free(hot);
}

/* A writer that sleeps with the lock in its hands, and in the middle of a move: would the reader wait, it would wait
 * for ever. */
static void test_readers_do_not_wait(void **state)
{
    (void)state;
    struct hot *hot = make(BLOCK, 100000, 0);
    struct name id;
    for (size_t i = 0; i < 100; i++)
        assert_true(put(hot, i, HOT_KEEP));
    pthread_mutex_lock(&hot->lock);
    atomic_fetch_add(&hot->moves, 1);
    hot_enter(hot, 0);
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(look(hot, 0, name(&id, i, 0), i) != NULL, i < 100);
    hot_leave(hot, 0);
    atomic_fetch_add(&hot->moves, 1);
    pthread_mutex_unlock(&hot->lock);
    hot_free(hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_match_is_not_seen),
        cmocka_unit_test(test_keeps_all_that_fits),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_memory_per_content),
        cmocka_unit_test(test_without_eviction),
        cmocka_unit_test(test_clock_spares_the_asked),
        cmocka_unit_test(test_long_ids),
        cmocka_unit_test(test_colliding_hashes),
        cmocka_unit_test(test_what_is_read_stays),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_room_is_made_ahead),
        cmocka_unit_test(test_readers_do_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

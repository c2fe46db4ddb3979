/* Hot memory under threads: readers verify every block that they find while writers put, replace, remove and evict,
 * and the index grows. Bounded by rounds, not by time. */
#include "server/hot.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORDS = 32, BLOCK = WORDS * 8, IDS = 3000, WRITERS = 2, READERS = 3, MANY = 48 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ROUNDS = 4000 };
#else
enum { ROUNDS = 40000 };
#endif

struct crowd {
    struct hot *hot;
    char text[IDS][64];
    struct store_id ids[IDS];
    uint64_t hashes[IDS];
    /* The version that the last replacement brought: at most one writer replaces an id. */
    atomic_uint_fast64_t replaced[IDS];
    atomic_size_t numbers; /* handed out to readers and writers */
    atomic_size_t writing; /* writers at work */
    atomic_bool failed;
};

static void crowd_init(struct crowd *crowd, size_t limit, size_t expected, unsigned mask)
{
    struct err err = ERR_INIT;
    memset(crowd, 0, sizeof *crowd);
    const struct hot_options options = {BLOCK, limit, expected, READERS};
    if (hot_new(&crowd->hot, &options, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < IDS; i++) {
        /* Some are too long for an entry. */
        const int len = snprintf(crowd->text[i], sizeof crowd->text[i], "%0*zu", i % 7 ? 6 : 50, i);
        crowd->ids[i] = (struct store_id){crowd->text[i], (size_t)len};
        /* Few places, so that slots have long ways to move. */
        crowd->hashes[i] = hot_hash(crowd->text[i], (size_t)len) & (~(uint64_t)UINT32_MAX | mask);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void fill(uint64_t *block, uint64_t i, uint64_t version)
{
    for (size_t k = 0; k < WORDS; k++)
        block[k] = i << 40 | version << 8 | k;
}

static uint64_t version_of(const uint64_t *block)
{
    return (block[0] & 0xffffffffffu) >> 8;
}

static bool is_right(const uint64_t *block, uint64_t i, uint64_t oldest)
{
    uint64_t right[WORDS];
    fill(right, i, version_of(block));
    return memcmp(right, block, BLOCK) == 0 && version_of(block) >= oldest;
}

/* Looks many up, and looks at them twice: what was found stays what it is until the reader leaves. */
static void *read_all_the_time(void *ctx)
{
    struct crowd *crowd = ctx;
    const size_t reader = atomic_fetch_add(&crowd->numbers, 1);
    uint64_t random = 100 + reader;
    while (atomic_load(&crowd->writing)) {
        size_t which[MANY];
        struct store_id ids[MANY];
        uint64_t hashes[MANY], oldest[MANY], versions[MANY];
        const void *blocks[MANY];
        for (size_t i = 0; i < MANY; i++) {
            which[i] = next_random(&random) % (reader ? IDS : IDS / 20); /* one has favourites */
            ids[i] = crowd->ids[which[i]];
            hashes[i] = crowd->hashes[which[i]];
            oldest[i] = atomic_load(&crowd->replaced[which[i]]);
        }
        hot_enter(crowd->hot, reader);
        hot_find(crowd->hot, reader, ids, hashes, MANY, blocks);
        for (size_t i = 0; i < MANY; i++)
            if (blocks[i]) {
                versions[i] = version_of(blocks[i]);
                if (!is_right(blocks[i], which[i], oldest[i]))
                    atomic_store(&crowd->failed, true);
            }
        for (size_t i = 0; i < MANY; i++)
            if (blocks[i] && (!is_right(blocks[i], which[i], 0) || version_of(blocks[i]) != versions[i]))
                atomic_store(&crowd->failed, true);
        struct store_id listed[MANY];
        bool all;
        const struct store_id prefix = {"00", 2}; /* that all of them have */
        const size_t matched = hot_match(crowd->hot, &prefix, 1000, listed, MANY, &all);
        for (size_t i = 0; i < matched; i++)
            if (listed[i].len < 6 || memcmp(listed[i].id, "00", 2) != 0)
                atomic_store(&crowd->failed, true);
        hot_leave(crowd->hot, reader);
    }
    return NULL;
}

/* The first writer replaces, all put and remove. What a writer puts as a fill of its own would be an old version
 * after a replacement; so ids of even numbers are replaced only, the others put only. */
static void *write_all_the_time(void *ctx)
{
    struct crowd *crowd = ctx;
    const size_t writer = atomic_fetch_add(&crowd->numbers, 1);
    uint64_t random = 7 + writer, block[WORDS];
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        const size_t i = next_random(&random) % IDS;
        const bool replace = i % 2 == 0;
        if (round % 16 == 0)
            sched_yield(); /* a reader that sleeps inside holds all room back */
        if (next_random(&random) % 8 == 0) {
            hot_remove(crowd->hot, &crowd->ids[i], crowd->hashes[i]);
        } else if (!replace) {
            fill(block, i, round);
            hot_put(crowd->hot, &crowd->ids[i], crowd->hashes[i], block, round % 4 ? HOT_KEEP : HOT_FILL);
        } else if (writer == 0) {
            fill(block, i, round);
            hot_put(crowd->hot, &crowd->ids[i], crowd->hashes[i], block, HOT_REPLACE);
            atomic_store(&crowd->replaced[i], round);
        }
    }
    atomic_fetch_sub(&crowd->writing, 1);
    return NULL;
}

static void run(size_t limit, size_t expected, unsigned mask, bool full)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    assert_non_null(crowd);
    crowd_init(crowd, limit, expected, mask);
    pthread_t writers[WRITERS], readers[READERS];
    atomic_store(&crowd->writing, WRITERS);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_all_the_time, crowd), 0);
    while (atomic_load(&crowd->numbers) < WRITERS) /* they have the first numbers */
        sched_yield();
    atomic_store(&crowd->numbers, 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all_the_time, crowd), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    struct hot_stats stats;
    hot_stats(crowd->hot, &stats);
    printf("limit %zu: %zu here, %llu hits, %llu misses, %llu evictions\n", limit, stats.entries,
        (unsigned long long)stats.hits, (unsigned long long)stats.misses,
        (unsigned long long)stats.evictions);
    assert_false(atomic_load(&crowd->failed));
    assert_true(stats.bytes <= limit);
    assert_true(stats.hits > 0);
    assert_int_equal(stats.evictions > 0, full);
    hot_free(crowd->hot);
    free(crowd);
}

static void test_full(void **state)
{
    (void)state;
    run(100000, 0, UINT32_MAX, true);
}

static void test_full_of_collisions(void **state)
{
    (void)state;
    run(100000, 0, 15, true);
}

static void test_growing(void **state)
{
    (void)state;
    run((size_t)8 << 20, 1, UINT32_MAX, false);
}

/* ---- a put and its reader, one id: what a replacement that has returned replaced is never seen ---- */

struct pair {
    struct hot *hot;
    struct store_id id;
    uint64_t hash;
    atomic_uint_fast64_t latest;
    atomic_bool done, failed;
};

static void *watch(void *ctx)
{
    struct pair *pair = ctx;
    while (!atomic_load(&pair->done)) {
        const uint64_t latest = atomic_load_explicit(&pair->latest, memory_order_acquire);
        const void *block;
        hot_enter(pair->hot, 0);
        hot_find(pair->hot, 0, &pair->id, &pair->hash, 1, &block);
        if (block && !is_right(block, 1, latest))
            atomic_store(&pair->failed, true);
        hot_leave(pair->hot, 0);
    }
    return NULL;
}

static void test_replaced_is_never_seen(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct pair pair = {.id = {"only", 4}, .hash = hot_hash("only", 4)};
    const struct hot_options options = {BLOCK, (size_t)4 << 20, 0, 1};
    if (hot_new(&pair.hot, &options, &err) < 0)
        fail_msg("%s", err.message);
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, watch, &pair), 0);
    uint64_t block[WORDS], kept = 0;
    for (uint64_t version = 1; version <= 4 * ROUNDS; version++) {
        fill(block, 1, version);
        kept += hot_put(pair.hot, &pair.id, pair.hash, block, HOT_REPLACE);
        atomic_store_explicit(&pair.latest, version, memory_order_release);
    }
    atomic_store(&pair.done, true);
    pthread_join(reader, NULL);
    printf("%llu of %d replacements kept\n", (unsigned long long)kept, 4 * ROUNDS);
    assert_false(atomic_load(&pair.failed));
    assert_true(kept > 0);
    hot_free(pair.hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_full_of_collisions),
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_replaced_is_never_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

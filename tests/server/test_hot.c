/* Hot memory: what goes in comes out, the bound holds, the clock spares what is asked for, threads. */
#include "server/hot.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 2, D = 16, FLOATS = 2 * N * D };

struct name {
    char text[32];
    struct store_id id;
};

static const struct store_id *name(struct name *name, size_t i)
{
    const int len = snprintf(name->text, sizeof name->text, "content-%zu", i);
    name->id = (struct store_id){name->text, (size_t)len};
    return &name->id;
}

static void fill(float *block, size_t i)
{
    for (size_t k = 0; k < FLOATS; k++)
        block[k] = (float)(i * 64 + k % 64);
}

static bool is_whole(const float *block, size_t i)
{
    for (size_t k = 0; k < FLOATS; k++)
        if (block[k] != (float)(i * 64 + k % 64))
            return false;
    return true;
}

static bool put(struct hot *hot, size_t i, bool may_evict)
{
    struct name id;
    float block[FLOATS];
    fill(block, i);
    return hot_put(hot, name(&id, i), block, may_evict);
}

/* Is it here, and whole? */
static bool get(struct hot *hot, size_t i)
{
    struct name id;
    struct hot_ref ref;
    const size_t found = hot_acquire(hot, name(&id, i), 1, &ref);
    assert_int_equal(found, ref.block != NULL);
    if (ref.block) {
        assert_true(is_whole(ref.block, i));
        assert_int_equal((uintptr_t)ref.block % 64, 0);
    }
    hot_release(&ref, 1);
    return found;
}

static struct hot *make(size_t limit)
{
    struct err err = ERR_INIT;
    struct hot *hot;
    if (hot_new(&hot, N, D, limit, &err) < 0)
        fail_msg("%s", err.message);
    return hot;
}

static struct hot_stats stats_of(struct hot *hot)
{
    struct hot_stats stats;
    hot_stats(hot, &stats);
    return stats;
}

static void test_keeps_all_that_fits(void **state)
{
    (void)state;
    struct hot *hot = make((size_t)8 << 20);
    for (size_t i = 0; i < 2000; i++) {
        assert_false(get(hot, i));
        assert_true(put(hot, i, true));
        assert_true(put(hot, i, true)); /* twice is once */
    }
    for (size_t i = 0; i < 2000; i++)
        assert_true(get(hot, i));
    const struct hot_stats stats = stats_of(hot);
    assert_int_equal(stats.entries, 2000);
    assert_int_equal(stats.hits, 2000);
    assert_int_equal(stats.misses, 2000);
    assert_int_equal(stats.evictions, 0);
    hot_free(hot);
}

static void test_bound(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 400000; limit = limit * 2 + 100) {
        struct hot *hot = make(limit);
        for (size_t i = 0; i < 3000; i++) {
            put(hot, i, true);
            assert_true(stats_of(hot).bytes <= limit);
        }
        size_t here = 0;
        for (size_t i = 0; i < 3000; i++)
            here += get(hot, i);
        assert_int_equal(here, stats_of(hot).entries);
        /* At least half of a limit that is not tiny is used for blocks. */
        if (limit > 20000)
            assert_true(here * FLOATS * sizeof(float) > limit / 2);
        hot_free(hot);
    }
}

static void test_without_eviction(void **state)
{
    (void)state;
    struct hot *hot = make(100000);
    size_t kept = 0;
    while (put(hot, kept, false))
        kept++;
    assert_true(kept > 50);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(put(hot, i, false), i < kept);
    assert_int_equal(stats_of(hot).evictions, 0);
    hot_free(hot);
}

static void test_clock_spares_the_asked(void **state)
{
    (void)state;
    struct hot *hot = make(100000);
    size_t capacity = 0;
    while (put(hot, capacity, false))
        capacity++;
    for (size_t i = capacity; i < 20 * capacity; i++) {
        for (size_t k = 0; k < 10; k++) /* ten favourites, asked for all the time */
            assert_true(get(hot, k));
        assert_true(put(hot, i, true));
    }
    assert_true(stats_of(hot).evictions >= 18 * capacity);
    hot_free(hot);
}

static void test_pinned_stays(void **state)
{
    (void)state;
    struct hot *hot = make(20000);
    size_t capacity = 0;
    while (put(hot, capacity, false))
        capacity++;
    struct name names[200];
    struct store_id ids[200];
    struct hot_ref refs[200];
    assert_true(capacity <= 200);
    for (size_t i = 0; i < capacity; i++)
        ids[i] = *name(&names[i], i);
    assert_int_equal(hot_acquire(hot, ids, capacity, refs), capacity);
    assert_false(put(hot, 999, true)); /* all are being read */
    hot_release(refs + 1, capacity - 1);
    for (size_t i = 1000; i < 1000 + 5 * capacity; i++)
        assert_true(put(hot, i, true));
    assert_true(is_whole(refs[0].block, 0));
    assert_true(get(hot, 0));
    assert_false(get(hot, 1));
    hot_release(refs, 1);
    hot_free(hot);
}

struct crowd {
    struct hot *hot;
    atomic_int ready;
    uint64_t seed;
};

static void *work(void *ctx)
{
    struct crowd *crowd = ctx;
    uint64_t x = crowd->seed + (uint64_t)atomic_fetch_add(&crowd->ready, 1) * 7919;
    for (int round = 0; round < 3000; round++) {
        struct name names[16];
        struct store_id ids[16];
        struct hot_ref refs[16];
        size_t which[16];
        for (size_t i = 0; i < 16; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            which[i] = (size_t)(x >> 33) % 600;
            ids[i] = *name(&names[i], which[i]);
        }
        hot_acquire(crowd->hot, ids, 16, refs);
        for (size_t i = 0; i < 16; i++) {
            if (refs[i].block && !is_whole(refs[i].block, which[i]))
                abort();
            if (!refs[i].block)
                put(crowd->hot, which[i], round % 4 != 0);
        }
        hot_release(refs, 16);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct crowd crowd = {.hot = make(100000), .seed = 11};
    printf("seed %llu\n", (unsigned long long)crowd.seed);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &crowd), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    const struct hot_stats stats = stats_of(crowd.hot);
    assert_true(stats.bytes <= 100000);
    assert_true(stats.evictions > 0);
    assert_true(stats.hits > 0);
    hot_free(crowd.hot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_all_that_fits),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_without_eviction),
        cmocka_unit_test(test_clock_spares_the_asked),
        cmocka_unit_test(test_pinned_stays),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

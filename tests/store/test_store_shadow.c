/* The shadow's sums, over every backend: they add up whoever adds, belong to one live generation, and go with theirs. */
#include "tests/lib/stores.h"

#include <pthread.h>
#include <stdio.h>

/* g1 is live, g2 ready, g3 being built. */
static uint64_t make_table(struct test_store *f)
{
    struct err err = ERR_INIT;
    uint64_t token = 0;
    ok(store_lock(f->link, 60000, &token, &err));
    const struct store_generation rows[] = {
        {"g1", STORE_LIVE, token}, {"g2", STORE_READY, token}, {"g3", STORE_BUILDING, token}};
    ok(store_commit(f->link, token, rows, 3, "g1", &err));
    return token;
}

/* 1, 10, 100, ... times the factor. */
static struct store_shadow sums_of(const char *live, int64_t factor)
{
    struct store_shadow sums = {0};
    snprintf(sums.live, sizeof sums.live, "%s", live);
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++, factor *= 10)
        sums.sums[i] = factor;
    return sums;
}

static void assert_sums(struct store_link *link, const char *generation, const struct store_shadow *expected)
{
    struct err err = ERR_INIT;
    struct store_shadow found;
    memset(&found, 0x55, sizeof found);
    ok(store_shadow_get(link, generation, &found, &err));
    assert_string_equal(found.live, expected->live);
    for (size_t i = 0; i < STORE_SHADOW_SUMS; i++)
        assert_true(found.sums[i] == expected->sums[i]);
}

static void test_sums(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    const struct store_shadow none = {0}, one = sums_of("g1", 1), other = sums_of("g0", 3);
    make_table(f);
    assert_sums(f->link, "g2", &none);
    ok(store_shadow_add(f->link, "g2", &one, &err));
    assert_sums(f->link, "g2", &one);
    struct store_shadow more = sums_of("g1", 2), all = sums_of("g1", 3);
    more.sums[STORE_SHADOW_TAU] = -5000000000; /* millionths may be negative, and many */
    all.sums[STORE_SHADOW_TAU] = one.sums[STORE_SHADOW_TAU] - 5000000000;
    ok(store_shadow_add(f->link, "g2", &more, &err));
    assert_sums(f->link, "g2", &all);
    assert_sums(f->link, "g1", &none);
    ok(store_shadow_add(f->link, "g1", &other, &err)); /* another's are its own */
    assert_sums(f->link, "g1", &other);
    assert_sums(f->link, "g2", &all);
    ok(store_shadow_add(f->link, "g2", &other, &err)); /* what was compared with another begins anew */
    assert_sums(f->link, "g2", &other);
    const struct store_shadow nameless = {0};
    assert_int_equal(store_shadow_add(f->link, "g2", &nameless, &err), -ERR_INVALID);
    assert_int_equal(store_shadow_add(f->link, "a b", &one, &err), -ERR_INVALID);
    assert_sums(f->link, "g2", &other);
}

static void test_unknown(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    const struct store_shadow none = {0}, one = sums_of("g1", 1);
    const uint64_t token = make_table(f);
    assert_int_equal(store_shadow_add(f->link, "g9", &one, &err), -ERR_NOT_FOUND);
    assert_int_equal(store_shadow_add(f->link, "g3", &one, &err), -ERR_NOT_FOUND);
    assert_sums(f->link, "g9", &none);
    assert_sums(f->link, "g3", &none);
    /* They go with their generation, and do not come back by one who is late. */
    ok(store_shadow_add(f->link, "g2", &one, &err));
    ok(store_drop(f->link, token, "g2", &err));
    assert_sums(f->link, "g2", &none);
    assert_int_equal(store_shadow_add(f->link, "g2", &one, &err), -ERR_NOT_FOUND);
    assert_sums(f->link, "g2", &none);
}

/* A daemon opens the store for reading, and may write this alone. */
static void test_read_only(void **state)
{
    struct test_store *const f = *state;
    struct err err = ERR_INIT;
    const struct store_shadow one = sums_of("g1", 1);
    struct store *const store = test_store_open(f->prefix, true);
    struct store_link *link = NULL;
    make_table(f);
    ok(store_connect(&link, store, &err));
    ok(store_shadow_add(link, "g2", &one, &err));
    assert_sums(link, "g2", &one);
    assert_sums(f->link, "g2", &one);
    const struct store_id id = id_of("U1");
    assert_int_equal(store_delete(link, "g2", STORE_USER, &id, 1, &err), -ERR_INVALID);
    store_disconnect(link);
    store_close(store);
}

struct adder {
    struct store *store;
    int rc;
};

enum { ADDERS = 4, ADDITIONS = 25 };

static void *add_on(void *arg)
{
    struct adder *const adder = arg;
    const struct store_shadow one = sums_of("g1", 1);
    struct store_link *link = NULL;
    adder->rc = store_connect(&link, adder->store, NULL);
    for (int i = 0; adder->rc == 0 && i < ADDITIONS; i++)
        adder->rc = store_shadow_add(link, "g2", &one, NULL);
    store_disconnect(link);
    return NULL;
}

static void test_many(void **state)
{
    struct test_store *const f = *state;
    struct adder adders[ADDERS];
    pthread_t threads[ADDERS];
    make_table(f);
    for (int i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){f->store, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, add_on, &adders[i]), 0);
    }
    for (int i = 0; i < ADDERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(adders[i].rc, 0);
    }
    const struct store_shadow all = sums_of("g1", ADDERS * ADDITIONS);
    assert_sums(f->link, "g2", &all);
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_sums),
        store_test(test_unknown),
        store_test(test_read_only),
        store_test(test_many),
    };
    return test_group("shadow", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}

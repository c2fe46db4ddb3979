/* The contract of store/store_inspect.h, run over every backend. */
#include "store/store_inspect.h"
#include "tests/lib/stores.h"

#include <stdio.h>
#include <time.h>

#define GENERATION "20200101T000000Z-00000000"

static struct store_inspection inspect(struct store_link *link)
{
    struct store_inspection it;
    struct err err = ERR_INIT;
    ok(store_inspect(link, &it, &err));
    return it;
}

static void test_inspect(void **state)
{
    const struct test_store *const self = *state;
    put_many(self->link, GENERATION, 100);
    const struct store_inspection it = inspect(self->link);
    print_message("%s %s, %s, %s: %llu keys, %llu bytes\n", it.server, it.role, it.policy, it.filesystem,
        (unsigned long long)it.keys, (unsigned long long)it.used);
    assert_true(it.keys >= 100 && it.used > 0 && it.room > 0 && it.machine > 0);
    assert_string_equal(it.refused, "");
    assert_true(it.clients_max > 0);
    if (!it.in_memory) {
        assert_non_null(strstr(it.server, "LMDB "));
        assert_true(it.limit > 0 && it.filesystem[0]);
        return;
    }
    assert_non_null(strstr(it.server, "Redis "));
    assert_string_equal(it.role, "master");
    assert_string_equal(it.policy, "noeviction");
    assert_true(it.masters >= 1 && it.clients >= 1);
    assert_true(it.clock > time(NULL) - 60 && it.clock < time(NULL) + 60);
    assert_string_equal(it.persistence, "none");
}

static void test_lock(void **state)
{
    const struct test_store *const self = *state;
    struct err err = ERR_INIT;
    uint64_t token = 0;
    assert_int_equal(inspect(self->link).lock, 0);
    ok(store_lock(self->link, 60000, &token, &err));
    const struct store_inspection held = inspect(self->link);
    assert_int_equal(held.lock, token);
    assert_true(held.lock_ms > 0 && held.lock_ms <= 60000);
    ok(store_unlock(self->link, token, &err));
    assert_int_equal(inspect(self->link).lock, 0);
}

/* Nothing is left behind, and a store that was opened for reading may be asked, too. */
static void test_probe(void **state)
{
    const struct test_store *const self = *state;
    struct err err = ERR_INIT;
    put_many(self->link, GENERATION, 3);
    const uint64_t before = inspect(self->link).keys;
    struct store *const reader = test_store_open(self->prefix, true);
    struct store_link *link = NULL;
    ok(store_connect(&link, reader, &err));
    ok(store_probe(self->link, &err));
    ok(store_probe(link, &err));
    assert_int_equal(inspect(link).keys, before);
    assert_int_equal(scan_count(link, GENERATION, STORE_CONTENT), 3);
    store_disconnect(link);
    store_close(reader);
}

struct told {
    struct id_map ids;
    size_t most;
};

static int tell(void *ctx, const char *id, size_t len)
{
    struct told *const told = ctx;
    bool added = false;
    assert_true(id_map_add(&told->ids, id, len, &added) >= 0);
    assert_true(added);
    return told->ids.count == told->most;
}

static void test_sample(void **state)
{
    enum { COUNT = 5000 };
    const struct test_store *const self = *state;
    struct err err = ERR_INIT;
    struct told all = {.most = SIZE_MAX}, some = {.most = 7}, hasty = {.most = SIZE_MAX},
                none = {.most = SIZE_MAX};
    bool whole = false;
    put_many(self->link, GENERATION, COUNT);
    ok(store_sample(self->link, GENERATION, STORE_CONTENT, 600000, tell, &all, &whole, &err));
    assert_int_equal(all.ids.count, COUNT);
    assert_true(whole);
    assert_int_equal(
        store_sample(self->link, GENERATION, STORE_CONTENT, 600000, tell, &some, &whole, &err), 1);
    assert_int_equal(some.ids.count, 7);
    assert_false(whole);
    /* No time: a step, and no more. */
    ok(store_sample(self->link, GENERATION, STORE_CONTENT, 0, tell, &hasty, &whole, &err));
    assert_false(whole);
    assert_true(hasty.ids.count < COUNT);
    ok(store_sample(self->link, GENERATION, STORE_USER, 600000, tell, &none, &whole, &err));
    assert_int_equal(none.ids.count, 0);
    assert_true(whole);
    assert_int_equal(
        store_sample(self->link, GENERATION, STORE_MANIFEST, 1, tell, &none, &whole, &err), -ERR_INVALID);
    id_map_done(&all.ids);
    id_map_done(&some.ids);
    id_map_done(&hasty.ids);
    id_map_done(&none.ids);
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_inspect), store_test(test_lock), store_test(test_probe), store_test(test_sample)};
    return test_group("inspect", world_name, tests);
}

int main(void)
{
    return test_worlds(run);
}

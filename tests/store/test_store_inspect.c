/* The contract of store/store_inspect.h, run over every backend. */
#include "store/store_inspect.h"
#include "tests/lib/stores.h"

#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

/* ---- an embedded store whose writer was stopped in the midst of a transaction ---- */

/* Say that the transaction has begun, and stay in it until the pipe's other end is closed. */
static void stay_in_transaction(const char *path, int begun)
{
    MDB_env *env;
    MDB_txn *txn;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (mdb_env_create(&env) || mdb_env_open(env, path, 0, 0660) || mdb_txn_begin(env, NULL, 0, &txn) ||
        write(begun, "x", 1) != 1)
        _exit(1);
    pause();
    _exit(0);
}

static void test_never_waits_for_a_writer(void **state)
{
    (void)state;
    char root[256], url[300], byte;
    int begun[2];
    struct store *store = NULL;
    struct store_link *link = NULL;
    struct store_options options = STORE_OPTIONS_INIT;
    struct store_inspection it;
    struct told told = {.most = SIZE_MAX};
    struct err err = ERR_INIT;
    bool whole = false;
    scratch_make(root);
    snprintf(url, sizeof url, "lmdb:%s/store", root);
    ok(store_open(&store, url, NULL, &err));
    ok(store_connect(&link, store, &err));
    put_many(link, GENERATION, 10);
    store_disconnect(link);
    store_close(store);
    assert_int_equal(pipe(begun), 0);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        stay_in_transaction(url + 5, begun[1]);
    assert_int_equal(read(begun[0], &byte, 1), 1);

    alarm(60); /* instead of waiting for ever */
    options.read_only = true;
    ok(store_open(&store, url, &options, &err));
    ok(store_connect(&link, store, &err));
    ok(store_ping(link, &err));
    ok(store_inspect(link, &it, &err));
    assert_int_equal(it.keys, 10);
    ok(store_sample(link, GENERATION, STORE_CONTENT, 1000, tell, &told, &whole, &err));
    assert_int_equal(told.ids.count, 10);
    ok(store_probe(link, &err));
    alarm(0);
    id_map_done(&told.ids);
    store_disconnect(link);
    store_close(store);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(begun[0]);
    close(begun[1]);
    scratch_remove(root);
}

static int run(const char *world_name)
{
    const struct CMUnitTest tests[] = {
        store_test(test_inspect), store_test(test_lock), store_test(test_probe), store_test(test_sample)};
    return test_group("inspect", world_name, tests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_never_waits_for_a_writer)};
    const int failed = cmocka_run_group_tests_name("inspect beside a writer", tests, NULL, NULL);
    const int code = test_worlds(run);
    return failed ? 1 : code;
}

/* A cluster that is resharded and that loses masters while it is read and written. */
#include "tests/lib/redis_set.h"
#include "tests/lib/stores.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PASSWORD "pw"
#define CONTENTS 3000

static struct test_cluster cluster;

struct user {
    struct store *store;
    struct store_link *link;
};

static struct user open_user(void)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct user user;
    struct err err = ERR_INIT;
    options.password = PASSWORD;
    ok(store_open(&user.store, cluster.url, &options, &err));
    ok(store_connect(&user.link, user.store, &err));
    return user;
}

static void close_user(struct user *user)
{
    store_disconnect(user->link);
    store_close(user->store);
}

static int start(void **state)
{
    (void)state;
    test_cluster_start(&cluster, PASSWORD, 3, true);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    test_cluster_stop(&cluster);
    return 0;
}

/* ---- resharding ---- */

struct mover {
    pthread_t thread;
    char command[1024];
    int rc;
    atomic_bool done;
};

static void *move_slots(void *arg)
{
    struct mover *const mover = arg;
    mover->rc = system(mover->command);
    atomic_store(&mover->done, true);
    return NULL;
}

/* Heads of ids N<number>, of which those below CONTENTS are there. */
struct heads {
    const struct store_id *ids;
    size_t next;
};

static int check_head(void *ctx, size_t index, const void *data, size_t len)
{
    struct heads *const heads = ctx;
    const struct store_id *const id = &heads->ids[index];
    assert_int_equal(index, heads->next++);
    if (atol(id->id + 1) < CONTENTS) {
        assert_int_equal(len, id->len < 3 ? id->len : 3);
        assert_memory_equal(data, id->id, len);
    } else {
        assert_null(data);
    }
    return 0;
}

/* Slots go from one master to another, key by key, while everything is read, listed, written and dropped. */
static void test_resharding(void **state)
{
    (void)state;
    struct user user = open_user();
    struct mover mover = {.rc = -1};
    struct err err = ERR_INIT;
    char name[24];
    int rounds = 0;
    uint64_t token = 0;
    put_many(user.link, "g", CONTENTS);
    ok(store_lock(user.link, 60000, &token, &err));
    setenv("REDISCLI_AUTH", PASSWORD, 1);
    snprintf(mover.command, sizeof mover.command,
        "id=$(redis-cli -p %d cluster myid) && redis-cli --cluster reshard 127.0.0.1:%d --cluster-from all "
        "--cluster-to $id "
        "--cluster-slots 300 --cluster-pipeline 1 --cluster-yes >/dev/null",
        cluster.nodes[1].port, cluster.nodes[0].port);
    assert_int_equal(pthread_create(&mover.thread, NULL, move_slots, &mover), 0);
    do {
        struct store_id ids[100];
        char names[100][24];
        for (size_t i = 0; i < 100; i++) {
            snprintf(names[i], sizeof *names, "N%zu", (size_t)rand() % (CONTENTS + 100));
            ids[i] = id_of(names[i]);
        }
        struct copies copies = get_copies(user.link, "g", STORE_CONTENT, ids, 100);
        for (size_t i = 0; i < 100; i++) {
            if (atol(names[i] + 1) < CONTENTS)
                assert_string_equal(copies.data[i], names[i]);
            else
                assert_null(copies.data[i]);
        }
        free_copies(&copies);
        struct heads heads = {ids, 0};
        ok(store_get_head(user.link, "g", STORE_CONTENT, ids, 100, 3, check_head, &heads, &err));
        assert_int_equal(heads.next, 100);
        if (rounds % 5 == 0)
            assert_int_equal(scan_count(user.link, "g", STORE_CONTENT), CONTENTS);
        put_many(user.link, "h", 200);
        snprintf(name, sizeof name, "N%d", rounds % 200);
        assert_value(user.link, "h", STORE_CONTENT, name, name);
        ok(store_delete(user.link, "h", STORE_CONTENT, ids, 100, &err));
        for (size_t i = 0; i < 100; i++)
            assert_value(user.link, "h", STORE_CONTENT, names[i], NULL);
        if (rounds % 5 == 4) {
            const struct store_generation row = {"h", STORE_READY, token};
            ok(store_commit(user.link, token, &row, 1, NULL, &err));
            ok(store_drop(user.link, token, "h", &err));
            assert_int_equal(scan_count(user.link, "h", STORE_CONTENT), 0);
        }
        rounds++;
    } while (!atomic_load(&mover.done));
    pthread_join(mover.thread, NULL);
    assert_int_equal(mover.rc, 0);
    assert_int_equal(scan_count(user.link, "g", STORE_CONTENT), CONTENTS);
    ok(store_unlock(user.link, token, &err));
    printf("%d rounds while 300 slots moved\n", rounds);
    close_user(&user);
}

static int take_click(void *ctx, const struct store_click *click, const char *cursor)
{
    (void)cursor;
    const size_t used = strlen(ctx);
    snprintf((char *)ctx + used, 32 - used, "%.*s ", (int)click->item.len, click->item.id);
    return 0;
}

/* A key of another type has no head, as it has no value, wherever it is. */
static int count_heads(void *ctx, size_t index, const void *data, size_t len)
{
    (void)len;
    *(size_t *)ctx += data ? (size_t)1 << index : 0;
    return 0;
}

static void test_wrong_type(void **state)
{
    (void)state;
    struct user user = open_user();
    struct err err = ERR_INIT;
    char command[128];
    size_t there = 0;
    const struct store_id ids[] = {id_of("N0"), id_of("list"), id_of("N1"), id_of("none")};
    put_many(user.link, "t", 2);
    setenv("REDISCLI_AUTH", PASSWORD, 1);
    snprintf(command, sizeof command, "redis-cli -c -p %d lpush embsum:t:c:list x >/dev/null",
        cluster.nodes[0].port);
    assert_int_equal(system(command), 0);
    ok(store_get_head(user.link, "t", STORE_CONTENT, ids, 4, 8, count_heads, &there, &err));
    assert_int_equal(there, 1 + 4);
    assert_value(user.link, "t", STORE_CONTENT, "list", NULL);
    ok(store_delete(user.link, "t", STORE_CONTENT, ids, 2, &err));
    assert_int_equal(scan_count(user.link, "t", STORE_CONTENT), 1);
    close_user(&user);
}

/* Changes and clicks keep their order through the move of their slot, and are not told twice. */
static void test_moved_changes(void **state)
{
    (void)state;
    struct user user = open_user(), other = open_user();
    struct mover mover = {.rc = -1};
    struct err err = ERR_INIT;
    char cursor[STORE_CURSOR_MAX] = "", clicks[STORE_CURSOR_MAX] = "", end[STORE_CURSOR_MAX], text[32],
         id[16];
    const struct store_change first = {STORE_CONTENT, {"N0", 2}};
    ok(store_changes_append(user.link, "g", &first, 1, &err));
    assert_changes(other.link, "g", cursor, 10, "cN0 ");
    setenv("REDISCLI_AUTH", PASSWORD, 1);
    /* {embsum} is 7162, which the second master has. */
    snprintf(mover.command, sizeof mover.command,
        "a=$(redis-cli -p %d cluster myid) b=$(redis-cli -p %d cluster myid);"
        "redis-cli -p %d cluster setslot 7162 importing $b && redis-cli -p %d cluster setslot 7162 migrating "
        "$a && sleep 0.2 &&"
        "redis-cli -p %d migrate 127.0.0.1 %d '' 0 5000 auth pw keys '{embsum}:g:changes' && sleep 0.2 &&"
        "for key in $(redis-cli -p %d cluster getkeysinslot 7162 100); do redis-cli -p %d migrate 127.0.0.1 "
        "%d $key 0 5000 auth pw;"
        "done && redis-cli -p %d cluster setslot 7162 node $a && redis-cli -p %d cluster setslot 7162 node "
        "$a",
        cluster.nodes[0].port, cluster.nodes[1].port, cluster.nodes[0].port, cluster.nodes[1].port,
        cluster.nodes[1].port, cluster.nodes[0].port, cluster.nodes[1].port, cluster.nodes[1].port,
        cluster.nodes[0].port, cluster.nodes[0].port, cluster.nodes[1].port);
    assert_true(strlen(mover.command) + 1 < sizeof mover.command);
    assert_int_equal(pthread_create(&mover.thread, NULL, move_slots, &mover), 0);
    int round = 1;
    do {
        snprintf(id, sizeof id, "N%d", round++);
        const struct store_change change = {STORE_CONTENT, id_of(id)};
        ok(store_changes_append(user.link, "g", &change, 1, &err));
        snprintf(text, sizeof text, "c%s ", id);
        assert_changes(other.link, "g", cursor, 10, text);
        ok(store_changes_end(user.link, "g", end, &err));
        assert_string_equal(end, cursor);
        ok(store_changes_trim(user.link, "g", 1, &err));
        const struct store_click click = {id_of("U"), id_of(id)};
        char items[32] = "";
        ok(store_clicks_append(user.link, &click, 1, &err));
        ok(store_clicks_read(other.link, clicks, 10, take_click, items, &err));
        assert_string_equal(items, text + 1);
        ok(store_clicks_trim(other.link, clicks, &err));
    } while (!atomic_load(&mover.done));
    pthread_join(mover.thread, NULL);
    assert_int_equal(mover.rc, 0);
    close_user(&user);
    close_user(&other);
}

/* ---- a master that dies ---- */

static void test_killed_master(void **state)
{
    (void)state;
    struct user user = open_user();
    struct err err = ERR_INIT;
    char name[24], value[24];
    int failed = 0;
    put_many(user.link, "k", 500);
    test_redis_kill(&cluster.nodes[2]);
    const long long begun = test_now_ms();
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "N%d", i);
        snprintf(value, sizeof value, "again %d", i);
        const struct store_entry entry = {id_of(name), value, strlen(value)};
        const struct store_id id = id_of(name);
        while (store_put(user.link, "k", STORE_CONTENT, &entry, 1, &err) < 0) {
            failed++;
            assert_int_equal(err.code, -ERR_UNAVAILABLE);
            assert_true(test_now_ms() - begun < 15000);
            test_sleep_ms(10);
        }
        struct copies copies = get_copies(user.link, "k", STORE_CONTENT, &id, 1);
        assert_string_equal(copies.data[0], value);
        free_copies(&copies);
    }
    printf("all answers after %lld ms, %d failures before\n", test_now_ms() - begun, failed);
    assert_true(failed > 0);
    assert_int_equal(scan_count(user.link, "k", STORE_CONTENT), 500);
    /* It comes back as a replica of the one that took over, and reads nothing but what that has. */
    test_redis_restart(&cluster.nodes[2]);
    test_redis_await(&cluster.nodes[2], "role", "connected");
    assert_int_equal(scan_count(user.link, "k", STORE_CONTENT), 500);
    assert_value(user.link, "k", STORE_CONTENT, "N499", "again 499");
    close_user(&user);
}

int main(void)
{
    if (!test_redis_installed()) {
        fprintf(stderr, "SKIPPED: redis-server is not installed, so this was NOT tested\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resharding),
        cmocka_unit_test(test_wrong_type),
        cmocka_unit_test(test_moved_changes),
        cmocka_unit_test(test_killed_master),
    };
    return cmocka_run_group_tests_name("a cluster", tests, start, stop);
}

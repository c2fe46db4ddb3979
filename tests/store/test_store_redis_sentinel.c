/* A master that its sentinels watch: it is found, it dies, it is deposed and does not know it, its replica lags behind. */
#include "tests/lib/redis_set.h"
#include "tests/lib/stores.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define PASSWORD "p w#"

static struct test_sentinels set;

struct user {
    struct store *store;
    struct store_link *link;
};

static struct user open_user(const char *url)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct user user;
    struct err err = ERR_INIT;
    options.password = PASSWORD;
    ok(store_open(&user.store, url, &options, &err));
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
    test_sentinels_start(&set, PASSWORD, 3, false);
    return 0;
}

static int start_guarded(void **state)
{
    (void)state;
    test_sentinels_start(&set, PASSWORD, 3, true);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    test_sentinels_stop(&set);
    return 0;
}

static int put(struct user *user, const char *id, struct err *err)
{
    const struct store_entry entry = {id_of(id), id, strlen(id)};
    return store_put(user->link, "g", STORE_USER, &entry, 1, err);
}

static int commit_live(struct user *user, uint64_t token, const char *name, struct err *err)
{
    const struct store_generation row = {.state = STORE_LIVE, .token = token};
    struct store_generation named = row;
    snprintf(named.name, sizeof named.name, "%s", name);
    return store_commit(user->link, token, &named, 1, name, err);
}

/* Again until it is no longer unavailable; how long that took. */
static long long lock_at_last(struct user *user, int ttl_ms, uint64_t *token, long limit_ms)
{
    const long long begun = test_now_ms();
    struct err err = ERR_INIT;
    int rc;
    while ((rc = store_lock(user->link, ttl_ms, token, &err)) < 0 && test_now_ms() - begun < limit_ms)
        test_sleep_ms(10);
    if (rc < 0)
        fail_msg("no lock within %ld ms: %s", limit_ms, err.message);
    return test_now_ms() - begun;
}

/* ---- finding ---- */

static void test_sentinels_that_hang(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    for (size_t hung = 0; hung < 2; hung++) {
        kill(set.sentinels[hung].pid, SIGSTOP);
        struct user user = open_user(set.url);
        const long long begun = test_now_ms();
        ok(store_ping(user.link, &err));
        assert_true(test_now_ms() - begun < 1400);
        close_user(&user);
    }
    kill(set.sentinels[0].pid, SIGCONT);
    kill(set.sentinels[1].pid, SIGCONT);
}

static void test_nobody_to_ask(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char url[320], nobody[64];
    snprintf(url, sizeof url, "%.*sother", (int)(strlen(set.url) - strlen("embsum")), set.url);
    struct user user = open_user(url);
    assert_int_equal(store_ping(user.link, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "knows no master of this name"));
    assert_int_equal(store_fault(user.link), STORE_CONNECT);
    close_user(&user);
    snprintf(nobody, sizeof nobody, "redis+sentinel://127.0.0.1:%d/embsum", test_free_port());
    user = open_user(nobody);
    assert_int_equal(store_ping(user.link, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "master embsum"));
    assert_non_null(strstr(err.message, "Connection refused"));
    close_user(&user);
}

/* ---- writing ---- */

/* What a dead master takes with it is nothing that was said to be done. */
static void test_replica_that_lags(void **state)
{
    (void)state;
    struct user user = open_user(set.url);
    uint64_t first = 0, second = 0;
    struct err err = ERR_INIT;
    ok(store_lock(user.link, 60000, &first, &err));
    ok(store_unlock(user.link, first, &err));
    kill(set.nodes[1].pid, SIGSTOP);
    assert_int_equal(put(&user, "U1", &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "none of its replicas has confirmed"));
    test_sleep_ms(60);
    assert_int_equal(store_lock(user.link, 60000, &second, &err), -ERR_UNAVAILABLE);
    assert_int_equal(second, 0);
    kill(set.nodes[1].pid, SIGCONT);
    lock_at_last(&user, 1000, &second, 2000); /* the one that nobody knew of was given back */
    assert_true(second > first);
    ok(put(&user, "U1", &err));
    ok(store_unlock(user.link, second, &err));
    close_user(&user);
}

static void test_no_majority(void **state)
{
    (void)state;
    struct user user = open_user(set.url);
    uint64_t token = 0;
    struct err err = ERR_INIT;
    ok(store_ping(user.link, &err));
    kill(set.sentinels[0].pid, SIGSTOP);
    kill(set.sentinels[1].pid, SIGSTOP);
    const long long begun = test_now_ms();
    assert_int_equal(store_lock(user.link, 1000, &token, &err), -ERR_UNAVAILABLE);
    assert_true(test_now_ms() - begun < 1400);
    assert_non_null(strstr(err.message, "most of the sentinels"));
    kill(set.sentinels[0].pid, SIGCONT);
    kill(set.sentinels[1].pid, SIGCONT);
    lock_at_last(&user, 1000, &token, 2000);
    ok(store_unlock(user.link, token, &err));
    close_user(&user);
}

/* ---- failing over ---- */

static void await_master(size_t node)
{
    char port[16];
    snprintf(port, sizeof port, "%d", set.nodes[node].port);
    for (size_t i = 0; i < set.count; i++)
        test_redis_await(&set.sentinels[i], "sentinel get-master-addr-by-name embsum", port);
}

static void test_deposed_master(void **state)
{
    (void)state;
    struct user old = open_user(set.url), new = open_user(set.url);
    uint64_t old_token = 0, new_token = 0;
    struct err err = ERR_INIT;
    ok(store_lock(old.link, 300, &old_token, &err));
    ok(commit_live(&old, old_token, "before", &err));
    kill(set.nodes[0].pid, SIGSTOP);
    await_master(1);
    lock_at_last(&new, 60000, &new_token, 1500);
    assert_true(new_token > old_token);
    ok(commit_live(&new, new_token, "after", &err));
    kill(set.nodes[0].pid, SIGCONT); /* it wakes, and takes itself for the master */
    test_redis_await(&set.nodes[0], "role", "master");
    assert_int_equal(commit_live(&old, old_token, "wrong", &err), -ERR_UNAVAILABLE);
    test_redis_await(&set.nodes[0], "get {embsum}:live", "before");
    test_sleep_ms(60);
    assert_int_equal(commit_live(&old, old_token, "wrong", &err), -ERR_FENCED);
    assert_live(old.link, "after");
    close_user(&old);
    close_user(&new);
}

static void test_killed_master(void **state)
{
    (void)state;
    struct user user = open_user(set.url), other = open_user(set.url);
    uint64_t token = 0, next = 0;
    char id[16];
    int done = 0;
    struct err err = ERR_INIT;
    lock_at_last(&user, 300, &token, 3000);
    ok(commit_live(&user, token, "g", &err));
    for (; done < 50; done++) {
        snprintf(id, sizeof id, "U%d", done);
        ok(put(&user, id, &err));
    }
    ok(store_ping(other.link, &err));
    test_redis_kill(&set.nodes[0]);
    /* How soon they switch is theirs: two seconds behind down-after, on a busy machine more. */
    assert_int_equal(put(&user, "U50", &err), -ERR_UNAVAILABLE);
    await_master(1);
    const long long begun = test_now_ms();
    while (put(&user, "U50", &err) < 0 && test_now_ms() - begun < 1500)
        test_sleep_ms(10);
    const long long took = test_now_ms() - begun;
    assert_true(took < 1500);
    printf("writes came back %lld ms after the switch\n", took);
    for (int i = 0; i <= done; i++) {
        snprintf(id, sizeof id, "U%d", i);
        assert_value(user.link, "g", STORE_USER, id, id);
    }
    lock_at_last(&other, 1000, &next, 2500);
    assert_true(next > token);
    assert_int_equal(commit_live(&user, token, "wrong", &err), -ERR_FENCED);
    assert_live(user.link, "g");
    close_user(&user);
    close_user(&other);
}

int main(void)
{
    if (!test_redis_installed()) {
        fprintf(stderr, "SKIPPED: redis-server is not installed, so this was NOT tested\n");
        return 77;
    }
    const struct CMUnitTest first[] = {
        /* a sentinel that was stopped takes itself for ill: no failover here */
        cmocka_unit_test(test_sentinels_that_hang),
        cmocka_unit_test(test_nobody_to_ask),
        cmocka_unit_test(test_replica_that_lags),
        cmocka_unit_test(test_no_majority),
    };
    const struct CMUnitTest second[] = {cmocka_unit_test(test_killed_master)},
                            third[] = {cmocka_unit_test(test_deposed_master)};
    return cmocka_run_group_tests_name("sentinels", first, start, stop) +
           cmocka_run_group_tests_name("a master that dies", second, start, stop) +
           cmocka_run_group_tests_name(
               "a deposed master, sentinels with a password", third, start_guarded, stop);
}

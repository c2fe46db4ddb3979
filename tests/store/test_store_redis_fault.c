/* A Redis that hangs, dies or refuses: calls end in time, say why, and never give the value of another key. */
#include "tests/lib/redis_client.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static struct test_redis server;

/* ---- a server that hangs ---- */

static void test_hung(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    client_fill(&client, 2);
    for (int i = 0; i < 3; i++) {
        kill(server.pid, SIGSTOP);
        long long start = test_now_ms();
        assert_int_equal(client_get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        const long long took = test_now_ms() - start;
        assert_true(took >= TIMEOUT_MS - 1 && took < TIMEOUT_MS + SLACK_MS);
        assert_non_null(strstr(err.message, "no answer within 150 ms"));
        assert_int_equal(store_fault(client.link), STORE_TIMEOUT);
        start = test_now_ms();
        assert_int_equal(
            client_get(&client, "U1", text, &err), -ERR_UNAVAILABLE); /* at once: no attempt is due */
        assert_true(test_now_ms() - start < TIMEOUT_MS / 2);
        assert_non_null(strstr(err.message, "the next attempt is due"));
        assert_int_equal(store_fault(client.link), STORE_PAUSED);
        kill(server.pid, SIGCONT);
        client_recover(&client, "U1", 1000);
        client_recover(&client, "U0", 1000);
    }
    client_close(&client);
}

/* Connecting to a hung server succeeds, the kernel answers: the greeting is what has a deadline. */
static void test_hung_at_connect(void **state)
{
    (void)state;
    char url[64], text[64];
    struct err err = ERR_INIT;
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/1", server.port);
    struct client client = client_open(url, NULL, RETRY_MS);
    kill(server.pid, SIGSTOP);
    const long long start = test_now_ms();
    assert_int_equal(client_get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
    assert_true(test_now_ms() - start < TIMEOUT_MS + SLACK_MS);
    kill(server.pid, SIGCONT);
    test_sleep_ms(30);
    assert_int_equal(store_ping(client.link, &err), 0);
    client_close(&client);
}

struct hiccups {
    atomic_bool stop;
};

static void *stop_and_go(void *arg)
{
    struct hiccups *const hiccups = arg;
    unsigned seed = 5;
    while (!atomic_load(&hiccups->stop)) {
        kill(server.pid, SIGSTOP);
        test_sleep_ms(rand_r(&seed) % 12);
        kill(server.pid, SIGCONT);
        test_sleep_ms(rand_r(&seed) % 12);
    }
    return NULL;
}

/* Thousands of reads from a server that stops for longer than the deadline now and then: some fail, none
 * gives another user's value. */
static void test_no_mix_up(void **state)
{
    (void)state;
    struct store_options options = STORE_OPTIONS_INIT;
    struct hiccups hiccups;
    struct client client = client_open_port(server.port, RETRY_MS);
    char url[320], id[16], text[64];
    pthread_t thread;
    struct err err = ERR_INIT;
    size_t good = 0, late = 0;
    client_fill(&client, 50);
    client_close(&client);
    options.prefix = "fault";
    options.connect_timeout_ms = options.command_timeout_ms = 4;
    options.retry_min_ms = options.retry_max_ms = 1;
    snprintf(url, sizeof url, "redis+unix:%s", server.socket);
    assert_int_equal(store_open(&client.store, url, &options, &err), 0);
    assert_int_equal(store_connect(&client.link, client.store, &err), 0);
    atomic_init(&hiccups.stop, false);
    assert_int_equal(pthread_create(&thread, NULL, stop_and_go, &hiccups), 0);
    const long long start = test_now_ms();
    while (test_now_ms() - start < 1000) {
        snprintf(id, sizeof id, "U%d", rand() % 50);
        const int rc = client_get(&client, id, text, &err);
        if (rc == 0) {
            assert_string_equal(text, id);
            good++;
        } else {
            assert_int_equal(rc, -ERR_UNAVAILABLE);
            assert_string_equal(text, "");
            late += strstr(err.message, "no answer within") != NULL;
            test_sleep_ms(1);
        }
    }
    atomic_store(&hiccups.stop, true);
    pthread_join(thread, NULL);
    assert_true(good > 50);
    assert_true(late > 3);
    client_close(&client);
}

/* ---- a server that dies ---- */

static void test_killed(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    client_fill(&client, 2);
    test_redis_kill(&server);
    const long long start = test_now_ms();
    int attempts = 0;
    while (test_now_ms() - start < 300) {
        assert_int_equal(client_get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        attempts += strstr(err.message, "due in") == NULL;
        test_sleep_ms(1);
    }
    assert_non_null(strstr(err.message, "127.0.0.1"));
    assert_non_null(strstr(err.message, "Connection refused"));
    assert_true(attempts >= 3 && attempts <= 8); /* after 20, 40, 80, 100, 100 ms, up to a quarter sooner */
    test_redis_restart(&server);
    struct client other = client_open_port(server.port, RETRY_MS);
    client_fill(&other, 2);
    client_close(&other);
    client_recover(&client, "U1", 500);
    client_close(&client);
}

/* A restart between two calls goes unnoticed. */
static void test_restarted(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    assert_int_equal(store_ping(client.link, &err), 0);
    test_redis_kill(&server);
    test_redis_restart(&server);
    assert_int_equal(client_get(&client, "U0", text, &err), 0);
    assert_string_equal(text, "(nothing)");
    client_close(&client);
}

/* One link finds out that the server is back: the others need not wait through the long pauses of an outage. */
static void test_recovery_is_shared(void **state)
{
    (void)state;
    struct store_options options = STORE_OPTIONS_INIT;
    struct client client, other;
    char url[320], text[64];
    struct err err = ERR_INIT;
    options.retry_min_ms = RETRY_MS;
    options.retry_max_ms = 60000;
    snprintf(url, sizeof url, "redis+unix:%s", server.socket);
    assert_int_equal(store_open(&client.store, url, &options, &err), 0);
    other.store = client.store;
    assert_int_equal(store_connect(&client.link, client.store, &err), 0);
    assert_int_equal(store_connect(&other.link, client.store, &err), 0);
    test_redis_kill(&server);
    for (int failures = 0; failures < 6;) { /* 20, 40, ... 320, and now 640 ms, up to a quarter less */
        assert_int_equal(client_get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        failures += store_fault(client.link) == STORE_CONNECT;
        test_sleep_ms(1);
    }
    test_redis_restart(&server);
    const long long back = test_now_ms();
    assert_int_equal(store_ping(other.link, &err), 0);
    while (client_get(&client, "U0", text, &err) < 0)
        test_sleep_ms(1);
    assert_string_equal(text, "(nothing)");
    assert_true(test_now_ms() - back < 300);
    store_disconnect(other.link);
    client_close(&client);
}

/* ---- a server that refuses ---- */

static void refused(const char *url, const char *password, const char *says, enum store_fault fault)
{
    struct client client = client_open(url, password, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    assert_int_equal(client_get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
    if (!strstr(err.message, says))
        fail_msg("\"%s\" is not in \"%s\"", says, err.message);
    assert_int_equal(store_fault(client.link), fault);
    if (password && strstr(err.message, password))
        fail_msg("the password is in \"%s\"", err.message);
    client_close(&client);
}

static void test_refusals(void **state)
{
    (void)state;
    struct test_redis locked;
    char url[320];
    test_redis_start(&locked, "secret");
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/0", locked.port);
    refused(url, "wrong-one", "WRONGPASS", STORE_NOAUTH);
    refused(url, NULL, "NOAUTH", STORE_NOAUTH);
    snprintf(url, sizeof url, "redis://nobody@127.0.0.1:%d/0", locked.port);
    refused(url, "secret", "WRONGPASS", STORE_NOAUTH);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/99", locked.port);
    refused(url, "secret", "DB index is out of range", STORE_OTHER);
    snprintf(url, sizeof url, "redis+unix:%s?db=99", locked.socket);
    refused(url, "secret", "DB index is out of range", STORE_OTHER);
    test_redis_stop(&locked);
    snprintf(url, sizeof url, "redis+unix:%s", locked.socket);
    refused(url, NULL, "No such file or directory", STORE_CONNECT);
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", test_free_port());
    refused(url, NULL, "Connection refused", STORE_CONNECT);
    snprintf(url, sizeof url, "redis://no-such-host.invalid:1");
    refused(url, NULL, "no-such-host.invalid", STORE_CONNECT);
}

/* What a full or a demoted server says to writers; readers go on. */
static void test_no_writes(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    struct err err = ERR_INIT;
    uint64_t token = 0;
    client_fill(&client, 1);
    test_redis_cli(&server, "config set maxmemory 1");
    assert_int_equal(client_put(&client, "U1", &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "OOM"));
    assert_int_equal(store_fault(client.link), STORE_OOM);
    client_recover(&client, "U0", 500);
    test_redis_cli(&server, "config set maxmemory 0");
    test_redis_cli(&server, "replicaof 127.0.0.1 1");
    assert_int_equal(client_put(&client, "U1", &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "READONLY"));
    assert_int_equal(store_fault(client.link), STORE_READONLY);
    test_sleep_ms(100);
    assert_int_equal(store_lock(client.link, 1000, &token, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "READONLY"));
    client_recover(&client, "U0", 500);
    test_redis_cli(&server, "replicaof no one");
    test_sleep_ms(100);
    assert_int_equal(client_put(&client, "U1", &err), 0);
    client_close(&client);
}

int main(void)
{
    if (!test_redis_installed()) {
        fprintf(stderr, "SKIPPED: redis-server is not installed, so this was NOT tested\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hung),
        cmocka_unit_test(test_hung_at_connect),
        cmocka_unit_test(test_no_mix_up),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_restarted),
        cmocka_unit_test(test_recovery_is_shared),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_writes),
    };
    test_redis_start(&server, NULL);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_redis_stop(&server);
    return failed;
}

/* A Redis that hangs, dies, refuses or talks nonsense: calls end in time, say why, and never give the value
 * of another key. */
#include "tests/lib/redis.h"
#include "tests/lib/redis_fake.h"
#include "tests/lib/stores.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 150
#define RETRY_MS 20  /* the first pause; the longest is five times as long */
#define SLACK_MS 400 /* what a machine under load may add */

static struct test_redis server;

struct client {
    struct store *store;
    struct store_link *link;
};

static struct client connect_url(const char *url, const char *password, int retry_ms)
{
    struct store_options options = STORE_OPTIONS_INIT;
    struct client client = {NULL, NULL};
    struct err err = ERR_INIT;
    options.prefix = "fault";
    options.password = password;
    options.connect_timeout_ms = options.command_timeout_ms = TIMEOUT_MS;
    options.retry_min_ms = retry_ms;
    options.retry_max_ms = 5 * retry_ms;
    if (store_open(&client.store, url, &options, &err) < 0)
        fail_msg("%s: %s", url, err.message);
    assert_int_equal(store_connect(&client.link, client.store, NULL), 0);
    return client;
}

static struct client connect_port(int port, int retry_ms)
{
    char url[64];
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/0", port);
    return connect_url(url, NULL, retry_ms);
}

static void disconnect(struct client *client)
{
    store_disconnect(client->link);
    store_close(client->store);
}

static long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* ---- users whose value is their id ---- */

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    char *const text = ctx;
    (void)index;
    if (!data)
        snprintf(text, 64, "(nothing)");
    else
        snprintf(text, 64, "%.*s", (int)len, (const char *)data);
    return 0;
}

static int get(struct client *client, const char *id, char text[64], struct err *err)
{
    const struct store_id one = {id, strlen(id)};
    *text = '\0';
    return store_get(client->link, "g", STORE_USER, &one, 1, take, text, err);
}

static int put(struct client *client, const char *id, struct err *err)
{
    const struct store_entry entry = {{id, strlen(id)}, id, strlen(id)};
    return store_put(client->link, "g", STORE_USER, &entry, 1, err);
}

/* Again until it succeeds, at most for limit_ms; what comes then is the id's own value. */
static void recover(struct client *client, const char *id, long limit_ms)
{
    const long long start = now_ms();
    char text[64];
    struct err err = ERR_INIT;
    int rc;
    while ((rc = get(client, id, text, &err)) < 0 && now_ms() - start < limit_ms) {
        assert_int_equal(rc, -ERR_UNAVAILABLE);
        sleep_ms(5);
    }
    if (rc < 0)
        fail_msg("no recovery within %ld ms: %s", limit_ms, err.message);
    assert_string_equal(text, id);
}

static void fill(struct client *client, int users)
{
    char id[16];
    struct err err = ERR_INIT;
    for (int i = 0; i < users; i++) {
        snprintf(id, sizeof id, "U%d", i);
        if (put(client, id, &err) < 0)
            fail_msg("%s", err.message);
    }
}

/* ---- a server that hangs ---- */

static void test_hung(void **state)
{
    (void)state;
    struct client client = connect_port(server.port, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    fill(&client, 2);
    for (int i = 0; i < 3; i++) {
        kill(server.pid, SIGSTOP);
        long long start = now_ms();
        assert_int_equal(get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        const long long took = now_ms() - start;
        assert_true(took >= TIMEOUT_MS - 1 && took < TIMEOUT_MS + SLACK_MS);
        assert_non_null(strstr(err.message, "no answer within 150 ms"));
        start = now_ms();
        assert_int_equal(get(&client, "U1", text, &err), -ERR_UNAVAILABLE); /* at once: no attempt is due */
        assert_true(now_ms() - start < TIMEOUT_MS / 2);
        assert_non_null(strstr(err.message, "the next attempt is due"));
        kill(server.pid, SIGCONT);
        recover(&client, "U1", 1000);
        recover(&client, "U0", 1000);
    }
    disconnect(&client);
}

/* Connecting to a hung server succeeds, the kernel answers: the greeting is what has a deadline. */
static void test_hung_at_connect(void **state)
{
    (void)state;
    char url[64], text[64];
    struct err err = ERR_INIT;
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/1", server.port);
    struct client client = connect_url(url, NULL, RETRY_MS);
    kill(server.pid, SIGSTOP);
    const long long start = now_ms();
    assert_int_equal(get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
    assert_true(now_ms() - start < TIMEOUT_MS + SLACK_MS);
    kill(server.pid, SIGCONT);
    sleep_ms(30);
    assert_int_equal(store_ping(client.link, &err), 0);
    disconnect(&client);
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
        sleep_ms(rand_r(&seed) % 12);
        kill(server.pid, SIGCONT);
        sleep_ms(rand_r(&seed) % 12);
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
    struct client client = connect_port(server.port, RETRY_MS);
    char url[160], id[16], text[64];
    pthread_t thread;
    struct err err = ERR_INIT;
    size_t good = 0, late = 0;
    fill(&client, 50);
    disconnect(&client);
    options.prefix = "fault";
    options.connect_timeout_ms = options.command_timeout_ms = 4;
    options.retry_min_ms = options.retry_max_ms = 1;
    snprintf(url, sizeof url, "redis+unix:%s", server.socket);
    assert_int_equal(store_open(&client.store, url, &options, &err), 0);
    assert_int_equal(store_connect(&client.link, client.store, &err), 0);
    atomic_init(&hiccups.stop, false);
    assert_int_equal(pthread_create(&thread, NULL, stop_and_go, &hiccups), 0);
    const long long start = now_ms();
    while (now_ms() - start < 1000) {
        snprintf(id, sizeof id, "U%d", rand() % 50);
        const int rc = get(&client, id, text, &err);
        if (rc == 0) {
            assert_string_equal(text, id);
            good++;
        } else {
            assert_int_equal(rc, -ERR_UNAVAILABLE);
            assert_string_equal(text, "");
            late += strstr(err.message, "no answer within") != NULL;
            sleep_ms(1);
        }
    }
    atomic_store(&hiccups.stop, true);
    pthread_join(thread, NULL);
    assert_true(good > 50);
    assert_true(late > 3);
    disconnect(&client);
}

/* ---- a server that dies ---- */

static void test_killed(void **state)
{
    (void)state;
    struct client client = connect_port(server.port, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    fill(&client, 2);
    test_redis_kill(&server);
    const long long start = now_ms();
    int attempts = 0;
    while (now_ms() - start < 300) {
        assert_int_equal(get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        attempts += strstr(err.message, "due in") == NULL;
        sleep_ms(1);
    }
    assert_non_null(strstr(err.message, "127.0.0.1"));
    assert_non_null(strstr(err.message, "Connection refused"));
    assert_true(attempts >= 3 && attempts <= 8); /* after 20, 40, 80, 100, 100 ms, up to a quarter sooner */
    test_redis_restart(&server);
    struct client other = connect_port(server.port, RETRY_MS);
    fill(&other, 2);
    disconnect(&other);
    recover(&client, "U1", 500);
    disconnect(&client);
}

/* A restart between two calls goes unnoticed. */
static void test_restarted(void **state)
{
    (void)state;
    struct client client = connect_port(server.port, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    assert_int_equal(store_ping(client.link, &err), 0);
    test_redis_kill(&server);
    test_redis_restart(&server);
    assert_int_equal(get(&client, "U0", text, &err), 0);
    assert_string_equal(text, "(nothing)");
    disconnect(&client);
}

/* ---- a server that refuses ---- */

static void refused(const char *url, const char *password, const char *says)
{
    struct client client = connect_url(url, password, RETRY_MS);
    char text[64];
    struct err err = ERR_INIT;
    assert_int_equal(get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
    if (!strstr(err.message, says))
        fail_msg("\"%s\" is not in \"%s\"", says, err.message);
    if (password && strstr(err.message, password))
        fail_msg("the password is in \"%s\"", err.message);
    disconnect(&client);
}

static void test_refusals(void **state)
{
    (void)state;
    struct test_redis locked;
    char url[160];
    test_redis_start(&locked, "secret");
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/0", locked.port);
    refused(url, "wrong-one", "WRONGPASS");
    refused(url, NULL, "NOAUTH");
    snprintf(url, sizeof url, "redis://nobody@127.0.0.1:%d/0", locked.port);
    refused(url, "secret", "WRONGPASS");
    snprintf(url, sizeof url, "redis://127.0.0.1:%d/99", locked.port);
    refused(url, "secret", "DB index is out of range");
    snprintf(url, sizeof url, "redis+unix:%s?db=99", locked.socket);
    refused(url, "secret", "DB index is out of range");
    test_redis_stop(&locked);
    snprintf(url, sizeof url, "redis+unix:%s", locked.socket);
    refused(url, NULL, "No such file or directory");
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", test_free_port());
    refused(url, NULL, "Connection refused");
    snprintf(url, sizeof url, "redis://no-such-host.invalid:1");
    refused(url, NULL, "no-such-host.invalid");
}

/* What a full or a demoted server says to writers; readers go on. */
static void test_no_writes(void **state)
{
    (void)state;
    struct client client = connect_port(server.port, RETRY_MS);
    struct err err = ERR_INIT;
    uint64_t token = 0;
    fill(&client, 1);
    test_redis_cli(&server, "config set maxmemory 1");
    assert_int_equal(put(&client, "U1", &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "OOM"));
    recover(&client, "U0", 500);
    test_redis_cli(&server, "config set maxmemory 0");
    test_redis_cli(&server, "replicaof 127.0.0.1 1");
    assert_int_equal(put(&client, "U1", &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "READONLY"));
    sleep_ms(100);
    assert_int_equal(store_lock(client.link, 1000, &token, &err), -ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "READONLY"));
    recover(&client, "U0", 500);
    test_redis_cli(&server, "replicaof no one");
    sleep_ms(100);
    assert_int_equal(put(&client, "U1", &err), 0);
    disconnect(&client);
}

/* ---- keys that are not what they should be ---- */

static int no_id(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    ++*(int *)ctx;
    return 0;
}

static int no_change(void *ctx, const struct store_change *change)
{
    (void)ctx;
    (void)change;
    return 0;
}

static void test_wrong_types(void **state)
{
    (void)state;
    struct client client = connect_port(server.port, RETRY_MS);
    char text[64], live[STORE_GENERATION_MAX], cursor[STORE_CURSOR_MAX] = "";
    struct store_generation *rows = NULL;
    size_t count = 0;
    struct err err = ERR_INIT;
    int ids = 0;
    uint64_t token = 0;
    fill(&client, 2);
    test_redis_cli(&server, "lpush fault:g:u:list x");
    assert_int_equal(get(&client, "list", text, &err), 0);
    assert_string_equal(text, "(nothing)");
    assert_int_equal(store_scan(client.link, "g", STORE_USER, no_id, &ids, &err), 0);
    assert_int_equal(ids, 3); /* so that a verification sees it */

    test_redis_cli(&server, "lpush {fault}:live x");
    assert_int_equal(store_live(client.link, live, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "WRONGTYPE"));
    recover(&client, "U1", 1); /* without a pause: the server is well */
    test_redis_cli(&server, "del {fault}:live");
    test_redis_cli(&server, "set {fault}:live 'a b'");
    assert_int_equal(store_live(client.link, live, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "live pointer"));
    test_redis_cli(&server, "set {fault}:generations x");
    assert_int_equal(store_generations(client.link, &rows, &count, &err), -ERR_CORRUPT);
    test_redis_cli(&server, "del {fault}:generations");
    test_redis_cli(&server, "hset {fault}:generations g1 'ready 17' g2 'ready x'");
    assert_int_equal(store_generations(client.link, &rows, &count, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "generation g2"));
    test_redis_cli(&server, "hset {fault}:generations g2 'asleep 3'");
    assert_int_equal(store_generations(client.link, &rows, &count, &err), -ERR_CORRUPT);
    assert_null(rows);
    test_redis_cli(&server, "set {fault}:g:changes x");
    assert_int_equal(store_changes_read(client.link, "g", cursor, 10, no_change, NULL, &err), -ERR_CORRUPT);
    test_redis_cli(&server, "xadd {fault}:g2:changes '*' u U1 c N1");
    assert_int_equal(store_changes_read(client.link, "g2", cursor, 10, no_change, NULL, &err), -ERR_CORRUPT);
    test_redis_cli(&server, "xadd {fault}:g3:changes '*' x N1");
    assert_int_equal(store_changes_read(client.link, "g3", cursor, 10, no_change, NULL, &err), -ERR_CORRUPT);
    test_redis_cli(&server, "set {fault}:token x");
    assert_true(store_lock(client.link, 1000, &token, &err) < 0);
    test_redis_cli(&server, "flushall");
    disconnect(&client);
}

/* The names that DESIGN gives are the names in the store. */
static void test_key_names(void **state)
{
    (void)state;
    struct client client = connect_port(server.port, RETRY_MS);
    struct err err = ERR_INIT;
    uint64_t token = 0;
    const struct store_entry one = {{"X", 1}, "v", 1}, none = {{"", 0}, "v", 1};
    const struct store_change change = {STORE_USER, {"X", 1}};
    assert_int_equal(store_lock(client.link, 5000, &token, &err), 0);
    const struct store_generation row = {"g", STORE_LIVE, token};
    assert_int_equal(store_commit(client.link, token, &row, 1, "g", &err), 0);
    assert_int_equal(store_put(client.link, "g", STORE_USER, &one, 1, &err), 0);
    assert_int_equal(store_put(client.link, "g", STORE_CONTENT, &one, 1, &err), 0);
    assert_int_equal(store_put(client.link, "g", STORE_SUMMARY, &one, 1, &err), 0);
    assert_int_equal(store_put(client.link, "g", STORE_SCORE_PROJ, &none, 1, &err), 0);
    assert_int_equal(store_put(client.link, "g", STORE_MANIFEST, &none, 1, &err), 0);
    assert_int_equal(store_changes_append(client.link, "g", &change, 1, &err), 0);
    /* Each renaming fails unless the key is there. */
    static const char *const keys[] = {"{fault}:live", "{fault}:generations", "{fault}:lock", "{fault}:token",
        "{fault}:g:changes", "fault:g:u:X", "fault:g:c:X", "fault:g:s:X", "fault:g:w", "fault:g:manifest"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char command[128];
        snprintf(command, sizeof command, "rename %s found%zu", keys[i], i);
        test_redis_cli(&server, command);
    }
    disconnect(&client);
    test_redis_cli(&server, "flushall");
}

/* ---- a server that talks nonsense ---- */

struct nonsense {
    const char *reply;
    int drop_ms;
    bool close;
    const char *says;
};

static void ask_nonsense(const struct nonsense *nonsense)
{
    struct fake_redis fake = {
        .reply = nonsense->reply, .drop_ms = nonsense->drop_ms, .close_after_reply = nonsense->close};
    char text[64];
    struct err err = ERR_INIT;
    fake_redis_start(&fake);
    struct client client = connect_port(fake.port, 1);
    const long long start = now_ms();
    const int rc = get(&client, "U0", text, &err);
    if (rc != -ERR_UNAVAILABLE)
        fail_msg("\"%s\" was taken: %d", nonsense->reply, rc);
    assert_true(now_ms() - start < TIMEOUT_MS + SLACK_MS);
    assert_string_equal(text, "");
    if (!strstr(err.message, nonsense->says))
        fail_msg("\"%s\" is not in \"%s\"", nonsense->says, err.message);
    /* Nor does any other call take it. */
    char live[STORE_GENERATION_MAX];
    uint64_t token = 0;
    int ids = 0;
    sleep_ms(5);
    assert_true(store_live(client.link, live, &err) < 0);
    sleep_ms(5);
    assert_true(store_scan(client.link, "g", STORE_USER, no_id, &ids, &err) < 0);
    sleep_ms(5);
    assert_true(store_lock(client.link, 1000, &token, &err) < 0);
    assert_int_equal(ids, 0);
    disconnect(&client);
    fake_redis_stop(&fake);
}

static void test_nonsense(void **state)
{
    (void)state;
    static const struct nonsense cases[] = {
        {"-LOADING Redis is loading the dataset in memory\r\n", 0, false, "LOADING"},
        {"-MISCONF Redis is configured to save RDB snapshots\r\n", 0, false, "MISCONF"},
        {"-MASTERDOWN Link with MASTER is down\r\n", 0, false, "MASTERDOWN"},
        {"-CLUSTERDOWN The cluster is down\r\n", 0, false, "CLUSTERDOWN"},
        {"-\r\n", 0, false, "Redis at"},
        {"+OK\r\n", 0, false, "MGET"},
        {":1\r\n", 0, false, "MGET"},
        {"$-1\r\n", 0, false, "MGET"},
        {"*0\r\n", 0, false, "MGET"},
        {"*-1\r\n", 0, false, "MGET"},
        {"*2\r\n$1\r\na\r\n$1\r\nb\r\n", 0, false, "MGET"},
        {"*1\r\n:1\r\n", 0, false, "MGET"},
        {"*1\r\n*1\r\n$1\r\na\r\n", 0, false, "MGET"},
        {"*1\r\n-ERR inside\r\n", 0, false, "MGET"},
        {"HTTP/1.1 400 Bad Request\r\n\r\n", 0, false, "Protocol error"},
        {"*1\r\n$99999999999999999999\r\n", 0, false, ""},
        {"*99999999999\r\n", 0, false, ""},
        {"*1\r\n$5\r\nab", 0, true, "closed the connection"},
        {"", 0, true, "closed the connection"},
        {"*1\r\n$5\r\nab", 0, false, "no answer within"},
        {NULL, 0, false, "no answer within"},
        {"*1\r\n$100\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 10, false,
            "no answer within"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ask_nonsense(&cases[i]);
}

/* A second answer to one question is not taken for the answer to the next. */
static void test_answer_too_many(void **state)
{
    (void)state;
    struct fake_redis fake = {.reply = "*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n"};
    char text[64];
    struct err err = ERR_INIT;
    fake_redis_start(&fake);
    struct client client = connect_port(fake.port, RETRY_MS);
    assert_int_equal(get(&client, "U0", text, &err), 0);
    assert_string_equal(text, "a");
    assert_int_equal(get(&client, "U1", text, &err), 0); /* on a new connection: its first answer again */
    assert_string_equal(text, "a");
    assert_int_equal(atomic_load(&fake.connections), 2);
    disconnect(&client);
    fake_redis_stop(&fake);
}

/* A server that closes every connection is not asked in a tight loop. */
static void test_back_off(void **state)
{
    (void)state;
    struct fake_redis fake = {.reply = "", .close_after_reply = true};
    char text[64];
    struct err err = ERR_INIT;
    fake_redis_start(&fake);
    struct client client = connect_port(fake.port, RETRY_MS);
    const long long start = now_ms();
    while (now_ms() - start < 500) {
        assert_int_equal(get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        sleep_ms(1);
    }
    const int connections = atomic_load(&fake.connections);
    assert_true(connections >= 3 && connections <= 11);
    disconnect(&client);
    fake_redis_stop(&fake);
}

int main(void)
{
    if (!test_redis_installed()) {
        fprintf(stderr, "SKIPPED: redis-server is not installed, so its faults were NOT tested\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hung),
        cmocka_unit_test(test_hung_at_connect),
        cmocka_unit_test(test_no_mix_up),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_restarted),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_writes),
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_key_names),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_answer_too_many),
        cmocka_unit_test(test_back_off),
    };
    test_redis_start(&server, NULL);
    const int failed = cmocka_run_group_tests_name("redis faults", tests, NULL, NULL);
    test_redis_stop(&server);
    return failed;
}

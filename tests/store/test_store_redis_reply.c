/* A Redis whose keys are not what they should be, or that is none: what comes back is refused, and says why. */
#include "tests/lib/redis_client.h"
#include "tests/lib/redis_fake.h"

#include <stdio.h>
#include <stdlib.h>

static struct test_redis server;

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

static int no_click(void *ctx, const struct store_click *click, const char *cursor)
{
    (void)ctx;
    (void)click;
    (void)cursor;
    return 0;
}

static void test_wrong_types(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    char text[64], live[STORE_GENERATION_MAX], cursor[STORE_CURSOR_MAX] = "";
    struct store_generation *rows = NULL;
    size_t count = 0;
    struct err err = ERR_INIT;
    int ids = 0;
    uint64_t token = 0;
    client_fill(&client, 2);
    test_redis_cli(&server, "lpush fault:g:u:list x");
    assert_int_equal(client_get(&client, "list", text, &err), 0);
    assert_string_equal(text, "(nothing)");
    assert_int_equal(store_scan(client.link, "g", STORE_USER, no_id, &ids, &err), 0);
    assert_int_equal(ids, 3); /* so that a verification sees it */

    test_redis_cli(&server, "lpush {fault}:live x");
    assert_int_equal(store_live(client.link, live, &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "WRONGTYPE"));
    client_recover(&client, "U1", 1); /* without a pause: the server is well */
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
    assert_int_equal(store_changes_end(client.link, "g", cursor, &err), -ERR_CORRUPT);
    assert_int_equal(store_changes_trim(client.link, "g", 1, &err), -ERR_CORRUPT);
    client_recover(&client, "U1", 1);
    const struct store_click click = {{"U", 1}, {"N", 1}};
    test_redis_cli(&server, "set {fault}:clicks x");
    assert_int_equal(store_clicks_append(client.link, &click, 1, &err), -ERR_CORRUPT);
    assert_int_equal(store_clicks_read(client.link, cursor, 10, no_click, NULL, &err), -ERR_CORRUPT);
    assert_int_equal(store_clicks_trim(client.link, "1-1", &err), -ERR_CORRUPT);
    assert_non_null(strstr(err.message, "WRONGTYPE"));
    assert_string_equal(cursor, "");
    test_redis_cli(&server, "xadd {fault}:g2:changes '*' u U1 c N1");
    assert_int_equal(store_changes_read(client.link, "g2", cursor, 10, no_change, NULL, &err), -ERR_CORRUPT);
    test_redis_cli(&server, "xadd {fault}:g3:changes '*' x N1");
    assert_int_equal(store_changes_read(client.link, "g3", cursor, 10, no_change, NULL, &err), -ERR_CORRUPT);
    test_redis_cli(&server, "set {fault}:token x");
    assert_true(store_lock(client.link, 1000, &token, &err) < 0);
    test_redis_cli(&server, "flushall");
    client_close(&client);
}

static int take_heads(void *ctx, size_t index, const void *data, size_t len)
{
    char *const text = ctx;
    const size_t used = strlen(text);
    snprintf(
        text + used, 64 - used, "%zu:%.*s ", index, data ? (int)len : 1, data ? (const char *)data : "-");
    return 0;
}

/* A key of another type has no head, as it has no value, and does not keep others from having theirs; it can be deleted. */
static void test_wrong_heads(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    const struct store_id ids[] = {{"U0", 2}, {"list", 4}, {"U1", 2}, {"none", 4}};
    char text[64] = "";
    struct err err = ERR_INIT;
    int left = 0;
    client_fill(&client, 2);
    test_redis_cli(&server, "lpush fault:g:u:list x");
    ok(store_get_head(client.link, "g", STORE_USER, ids, 4, 2, take_heads, text, &err));
    assert_string_equal(text, "0:U0 1:- 2:U1 3:- ");
    ok(store_delete(client.link, "g", STORE_USER, ids, 2, &err));
    ok(store_scan(client.link, "g", STORE_USER, no_id, &left, &err));
    assert_int_equal(left, 1);
    test_redis_cli(&server, "flushall");
    client_close(&client);
}

/* ---- clicks of those who append by themselves ---- */

static int take_click(void *ctx, const struct store_click *click, const char *cursor)
{
    char *const text = ctx;
    const size_t used = strlen(text);
    assert_true(*cursor && (click->user.len == 0) == (click->item.len == 0));
    snprintf(text + used, 128 - used, "%.*s>%.*s ", (int)click->user.len, click->user.id,
        (int)click->item.len, click->item.id);
    return 0;
}

static void test_alien_clicks(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    char text[128] = "", cursor[STORE_CURSOR_MAX] = "", start[STORE_CURSOR_MAX] = "";
    struct err err = ERR_INIT;
    static const char *const entries[] = {"user U1 item N5", "item N5 user U1", "user U1",
        "user 'a b' item N1", "user U1 item ''", "user U1 item N5 at 17", "User U1 item N5",
        "user U2 item N6"};
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        char command[128];
        snprintf(command, sizeof command, "xadd {fault}:clicks '*' %s", entries[i]);
        test_redis_cli(&server, command);
    }
    ok(store_clicks_read(client.link, cursor, 3, take_click, text, &err));
    assert_string_equal(text, "U1>N5 > > ");
    ok(store_clicks_trim(client.link, cursor, &err));
    ok(store_clicks_read(client.link, cursor, 100, take_click, text, &err));
    assert_string_equal(text, "U1>N5 > > > > > > U2>N6 ");
    ok(store_clicks_trim(client.link, cursor, &err));
    ok(store_clicks_read(client.link, start, 100, take_click, text, &err));
    assert_string_equal(text, "U1>N5 > > > > > > U2>N6 ");
    assert_string_equal(start, "");
    /* The last place of a millisecond: the next one is in the next. Somebody has set the clock forward, too. */
    *text = '\0';
    test_redis_cli(&server, "xadd {fault}:clicks 99999999999999-18446744073709551615 user U3 item N7");
    test_redis_cli(&server, "xadd {fault}:clicks '*' user U4 item N8");
    ok(store_clicks_read(client.link, cursor, 1, take_click, text, &err));
    ok(store_clicks_trim(client.link, cursor, &err));
    ok(store_clicks_read(client.link, start, 100, take_click, text, &err));
    assert_string_equal(text, "U3>N7 U4>N8 ");
    assert_string_equal(start, "100000000000000-0");
    test_redis_cli(&server, "flushall");
    client_close(&client);
}

/* The names that DESIGN gives are the names in the store. */
static void test_key_names(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
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
    const struct store_click click = {{"X", 1}, {"N", 1}};
    assert_int_equal(store_clicks_append(client.link, &click, 1, &err), 0);
    assert_int_equal(store_put(client.link, STORE_SHARED, STORE_HISTORY, &one, 1, &err), 0);
    /* Each renaming fails unless the key is there. */
    static const char *const keys[] = {"{fault}:live", "{fault}:generations", "{fault}:lock", "{fault}:token",
        "{fault}:g:changes", "{fault}:clicks", "fault:shared:h:X", "fault:g:u:X", "fault:g:c:X",
        "fault:g:s:X", "fault:g:w", "fault:g:manifest"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char command[128];
        snprintf(command, sizeof command, "rename %s found%zu", keys[i], i);
        test_redis_cli(&server, command);
    }
    client_close(&client);
    test_redis_cli(&server, "flushall");
}

/* Somebody has lost the token's key, or put an older one back: the next token is above all that the table shows. */
static void test_lost_token(void **state)
{
    (void)state;
    struct client client = client_open_port(server.port, RETRY_MS);
    struct err err = ERR_INIT;
    uint64_t token = 0;
    test_redis_cli(
        &server, "hset {fault}:generations g1 'ready 17' g2 'live 4503599627370497' g3 'retired 9'");
    ok(store_lock(client.link, 5000, &token, &err));
    assert_true(token == 4503599627370498);
    test_redis_cli(&server, "flushall");
    client_close(&client);
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
    struct client client = client_open_port(fake.port, 1);
    const long long start = test_now_ms();
    const int rc = client_get(&client, "U0", text, &err);
    if (rc != -ERR_UNAVAILABLE)
        fail_msg("\"%s\" was taken: %d", nonsense->reply, rc);
    assert_true(test_now_ms() - start < TIMEOUT_MS + SLACK_MS);
    assert_string_equal(text, "");
    if (!strstr(err.message, nonsense->says))
        fail_msg("\"%s\" is not in \"%s\"", nonsense->says, err.message);
    /* Nor does any other call take it. */
    char live[STORE_GENERATION_MAX];
    uint64_t token = 0;
    int ids = 0;
    test_sleep_ms(5);
    assert_true(store_live(client.link, live, &err) < 0);
    test_sleep_ms(5);
    assert_true(store_scan(client.link, "g", STORE_USER, no_id, &ids, &err) < 0);
    test_sleep_ms(5);
    assert_true(store_lock(client.link, 1000, &token, &err) < 0);
    assert_int_equal(ids, 0);
    client_close(&client);
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
        {"*399999999\r\n", 0, false, "Out of memory"}, /* refused before it is made room for */
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

/* Each call has answers of its own type alone. */

enum call { HEADS, DELETE, END, TRIM, CHANGES, CLICKS, APPEND, TRIM_CLICKS };

static int make_call(struct store_link *link, enum call call, struct err *err)
{
    static const struct store_id id = {"U0", 2};
    static const struct store_click click = {{"U", 1}, {"N", 1}};
    char text[128] = "", cursor[STORE_CURSOR_MAX] = "1-1";
    int rc = -1;
    switch (call) {
    case HEADS:
        rc = store_get_head(link, "g", STORE_USER, &id, 1, 4, take_heads, text, err);
        break;
    case DELETE:
        rc = store_delete(link, "g", STORE_USER, &id, 1, err);
        break;
    case END:
        rc = store_changes_end(link, "g", cursor, err);
        break;
    case TRIM:
        rc = store_changes_trim(link, "g", 5, err);
        break;
    case CHANGES:
        rc = store_changes_read(link, "g", cursor, 1, no_change, NULL, err);
        break;
    case CLICKS:
        rc = store_clicks_read(link, cursor, 1, take_click, text, err);
        break;
    case APPEND:
        rc = store_clicks_append(link, &click, 1, err);
        break;
    case TRIM_CLICKS:
        rc = store_clicks_trim(link, cursor, err);
        break;
    }
    assert_string_equal(text, "");
    assert_string_equal(cursor, "1-1");
    return rc;
}

static void test_wrong_answers(void **state)
{
    (void)state;
    static const struct {
        enum call call;
        const char *command, *reply;
    } cases[] = {
        {HEADS, "GETRANGE", "$-1\r\n"},
        {HEADS, "GETRANGE", ":1\r\n"},
        {HEADS, "GETRANGE", "+OK\r\n"},
        {HEADS, "GETRANGE", "*1\r\n$1\r\na\r\n"},
        {HEADS, "GETRANGE", "$5\r\nabcde\r\n"}, /* more than was asked for */
        {HEADS, "ERR inside", "-ERR inside\r\n"},
        {DELETE, "UNLINK", "+OK\r\n"},
        {DELETE, "UNLINK", "*0\r\n"},
        {DELETE, "OOM", "-OOM command not allowed\r\n"},
        {END, "XREVRANGE", "$-1\r\n"},
        {END, "XREVRANGE", "*-1\r\n"},
        {END, "XREVRANGE", "*1\r\n$3\r\n1-2\r\n"},
        {END, "XREVRANGE", "*1\r\n*2\r\n$1\r\n1\r\n*0\r\n"},
        {END, "XREVRANGE", "*1\r\n*2\r\n$3\r\n1-2\r\n$-1\r\n"},
        {END, "XREVRANGE", "*1\r\n*2\r\n$3\r\n1-2\r\n*1\r\n:1\r\n"},
        {END, "XREVRANGE",
            "*2\r\n*2\r\n$3\r\n1-2\r\n*2\r\n$1\r\nu\r\n$1\r\nU\r\n*2\r\n$3\r\n1-3\r\n*2\r\n$1\r\nu\r\n$"
            "1\r\nU\r\n"},
        {TRIM, "XTRIM", "+OK\r\n"},
        {TRIM, "XTRIM", "$1\r\n1\r\n"},
        {CHANGES, "XRANGE", "$-1\r\n"},
        {CHANGES, "XRANGE", "*1\r\n:1\r\n"},
        {CHANGES, "XRANGE", "*3\r\n:1\r\n:1\r\n:1\r\n"},
        {CLICKS, "XRANGE", ":1\r\n"},
        {CLICKS, "XRANGE", "*1\r\n*2\r\n$2\r\n-1\r\n*0\r\n"},
        {CLICKS, "XRANGE", "*1\r\n*3\r\n$3\r\n1-2\r\n*0\r\n:1\r\n"},
        {APPEND, "XADD", "+OK\r\n"},
        {APPEND, "XADD", ":1\r\n"},
        {TRIM_CLICKS, "XTRIM", "*0\r\n"},
        {TRIM_CLICKS, "syntax", "-ERR syntax error\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake_redis fake = {.reply = cases[i].reply};
        struct err err = ERR_INIT;
        fake_redis_start(&fake);
        struct client client = client_open_port(fake.port, 1);
        if (make_call(client.link, cases[i].call, &err) != -ERR_UNAVAILABLE)
            fail_msg("case %zu, \"%s\", was taken", i, cases[i].reply);
        if (!strstr(err.message, cases[i].command))
            fail_msg("\"%s\" is not in \"%s\"", cases[i].command, err.message);
        client_close(&client);
        fake_redis_stop(&fake);
    }
}

/* A second answer to one question is not taken for the answer to the next. */
static void test_answer_too_many(void **state)
{
    (void)state;
    struct fake_redis fake = {.reply = "*1\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n"};
    char text[64];
    struct err err = ERR_INIT;
    fake_redis_start(&fake);
    struct client client = client_open_port(fake.port, RETRY_MS);
    assert_int_equal(client_get(&client, "U0", text, &err), 0);
    assert_string_equal(text, "a");
    assert_int_equal(
        client_get(&client, "U1", text, &err), 0); /* on a new connection: its first answer again */
    assert_string_equal(text, "a");
    assert_int_equal(atomic_load(&fake.connections), 2);
    client_close(&client);
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
    struct client client = client_open_port(fake.port, RETRY_MS);
    const long long start = test_now_ms();
    while (test_now_ms() - start < 500) {
        assert_int_equal(client_get(&client, "U0", text, &err), -ERR_UNAVAILABLE);
        test_sleep_ms(1);
    }
    const int connections = atomic_load(&fake.connections);
    assert_true(connections >= 3 && connections <= 11);
    client_close(&client);
    fake_redis_stop(&fake);
}

int main(void)
{
    if (!test_redis_installed()) {
        fprintf(stderr, "SKIPPED: redis-server is not installed, so this was NOT tested\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_types),
        cmocka_unit_test(test_wrong_heads),
        cmocka_unit_test(test_alien_clicks),
        cmocka_unit_test(test_key_names),
        cmocka_unit_test(test_lost_token),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_wrong_answers),
        cmocka_unit_test(test_answer_too_many),
        cmocka_unit_test(test_back_off),
    };
    test_redis_start(&server, NULL);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_redis_stop(&server);
    return failed;
}

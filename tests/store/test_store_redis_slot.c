/* Slots of keys, the texts of redirections, and what a link does with them: nodes that are scripts say what real ones say now
 * and then, or never should. */
#include "store/store_redis_int.h"
#include "tests/lib/redis_client.h"
#include "tests/lib/redis_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- slots: the specification's vector, and what CLUSTER KEYSLOT of Redis 7.0 says ---- */

static void test_slots(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        unsigned slot;
    } cases[] = {{"123456789", 0x31C3}, {"", 0}, {"foo", 12182}, {"{foo}", 12182}, {"a{foo}b", 12182},
        {"{foo}{bar}", 12182}, {"{foo", 13308}, {"foo}", 15679}, {"{}foo", 9500}, {"foo{}{bar}", 8363},
        {"foo{{bar}}zap", 4015}, {"foo{bar}{zap}", 5061}, {"{embsum}:live", 7162},
        {"{embsum}:generations", 7162}, {"embsum:g:u:U1", 10928}, {"\xC3\xA9{\xC3\xA9}", 10180}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(redis_slot(cases[i].key, strlen(cases[i].key)), cases[i].slot);
}

static void test_texts(void **state)
{
    (void)state;
    struct redis_redirect to;
    assert_true(redis_redirect_parse(&to, "MOVED 3999 127.0.0.1:6381"));
    assert_int_equal(to.kind, REDIS_MOVED);
    assert_int_equal(to.slot, 3999);
    assert_string_equal(to.host, "127.0.0.1");
    assert_string_equal(to.port, "6381");
    assert_true(redis_redirect_parse(&to, "ASK 0 2001:db8::1:6381"));
    assert_int_equal(to.kind, REDIS_ASK);
    assert_string_equal(to.host, "2001:db8::1");
    assert_true(redis_redirect_parse(&to, "MOVED 16383 :6381"));
    assert_string_equal(to.host, "");
    assert_true(redis_redirect_parse(&to, "TRYAGAIN Multiple keys request during rehashing of slot"));
    assert_int_equal(to.kind, REDIS_TRYAGAIN);
    assert_true(redis_redirect_parse(&to, "CLUSTERDOWN Hash slot not served"));
    assert_int_equal(to.kind, REDIS_DOWN);
    static const char *const bad[] = {"", "MOVED", "MOVED ", "MOVED 1", "MOVED 1 ", "MOVED 1 a",
        "MOVED 1 a:", "MOVED 1 a:0", "MOVED 1 a:65536", "MOVED 16384 a:1", "MOVED -1 a:1", "MOVED x a:1",
        "MOVED  a:1", "MOVEDX 1 a:1", "ASK a:1", "ERR MOVED 1 a:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(redis_redirect_parse(&to, bad[i]));
    char text[400] = "MOVED 1 ";
    memset(text + 8, 'a', 256);
    strcpy(text + 8 + 256, ":1");
    assert_false(redis_redirect_parse(&to, text));
}

/* ---- two nodes ---- */

enum { A, B };

static struct nodes {
    struct fake_redis fakes[2];
    const char *map;     /* NULL: all slots are A's */
    const char *says[2]; /* to a command with a key; an @ is the other's port */
    int tryagain;        /* so often, before that */
    bool wants_asking;   /* of B */
    bool short_of_time;
    atomic_int asked[2]; /* commands with a key */
} nodes;

static void play(struct fake_redis *fake, const char *message, char *answer, size_t size)
{
    const int who = fake == &nodes.fakes[B], other = nodes.fakes[!who].port;
    const bool asking = strstr(message, "ASKING") != NULL;
    if (strstr(message, "CLUSTER")) {
        if (nodes.map)
            snprintf(answer, size, "%s", nodes.map);
        else
            snprintf(answer, size, "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$1\r\nx\r\n",
                nodes.fakes[A].port);
        return;
    }
    if (strstr(message, "ROLE")) {
        snprintf(answer, size, "%s*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", asking ? "+OK\r\n" : "");
        return;
    }
    atomic_fetch_add(&nodes.asked[who], 1);
    const size_t len = asking ? (size_t)snprintf(answer, size, "+OK\r\n") : 0;
    if (who == B && nodes.wants_asking != asking)
        snprintf(answer + len, size - len, "-MOVED 1 127.0.0.1:%d\r\n", other);
    else if (nodes.tryagain > 0 && nodes.tryagain--)
        snprintf(answer + len, size - len, "-TRYAGAIN later\r\n");
    else if (nodes.says[who][strcspn(nodes.says[who], "@")])
        snprintf(answer + len, size - len, "%.*s%d\r\n", (int)strcspn(nodes.says[who], "@"), nodes.says[who],
            other);
    else
        snprintf(answer + len, size - len, "%s", nodes.says[who]);
}

static void start_nodes(void)
{
    for (int who = A; who <= B; who++) {
        nodes.fakes[who] = (struct fake_redis){.script = play};
        atomic_init(&nodes.asked[who], 0);
        fake_redis_start(&nodes.fakes[who]);
    }
}

static void stop_nodes(void)
{
    fake_redis_stop(&nodes.fakes[A]);
    fake_redis_stop(&nodes.fakes[B]);
}

static struct client open_client(struct err *err)
{
    char url[64];
    struct store_options options = STORE_OPTIONS_INIT;
    struct client client;
    snprintf(url, sizeof url, "redis+cluster://127.0.0.1:%d", nodes.fakes[A].port);
    options.prefix = "fault";
    options.connect_timeout_ms = options.command_timeout_ms =
        nodes.short_of_time ? TIMEOUT_MS : 20 * TIMEOUT_MS;
    assert_int_equal(store_open(&client.store, url, &options, err), 0);
    assert_int_equal(store_connect(&client.link, client.store, err), 0);
    return client;
}

/* What the one call said and took; text is its value. */
static int ask_nodes(char text[64], struct err *err)
{
    int rc;
    start_nodes();
    struct client client = open_client(err);
    const long long begun = test_now_ms();
    rc = client_get(&client, "U1", text, err);
    assert_true(!nodes.short_of_time ||
                test_now_ms() - begun < 2 * TIMEOUT_MS + SLACK_MS); /* connecting and asking */
    if (rc == 0) { /* a value by the other way, a call on one slot */
        char name[STORE_GENERATION_MAX];
        const int live = store_live(client.link, name, err);
        if (live < 0)
            fail_msg("%s", err->message);
        assert_string_equal(name, text);
    }
    client_close(&client);
    stop_nodes();
    return rc;
}

static void await_value(int at_a, int at_b)
{
    char text[64];
    struct err err = ERR_INIT;
    if (ask_nodes(text, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(text, "U1");
    assert_int_equal(nodes.asked[A], at_a);
    assert_int_equal(nodes.asked[B], at_b);
}

static void await_failure(const char *says)
{
    char text[64];
    struct err err = ERR_INIT;
    assert_int_equal(ask_nodes(text, &err), -ERR_UNAVAILABLE);
    if (!strstr(err.message, says))
        fail_msg("\"%s\" is not in \"%s\"", says, err.message);
}

static void test_redirections(void **state)
{
    (void)state;
    nodes = (struct nodes){.says = {"$2\r\nU1\r\n", NULL}};
    await_value(2, 0);
    nodes = (struct nodes){.says = {"-MOVED 1 127.0.0.1:@\r\n", "$2\r\nU1\r\n"}};
    await_value(2, 2);
    nodes = (struct nodes){.says = {"-MOVED 1 :@\r\n", "$2\r\nU1\r\n"}};
    await_value(2, 2);
    nodes = (struct nodes){.says = {"-ASK 1 127.0.0.1:@\r\n", "$2\r\nU1\r\n"}, .wants_asking = true};
    await_value(2, 2);
    nodes = (struct nodes){.says = {"$2\r\nU1\r\n", NULL}, .tryagain = 3};
    await_value(5, 0);
    nodes = (struct nodes){
        .says = {"-ASK 1 127.0.0.1:@\r\n", "$2\r\nU1\r\n"}, .wants_asking = true, .tryagain = 3};
    await_value(5, 2);
}

/* A script is asked for like a value; what its confirmation asks is no matter of slots. */
static void test_redirected_lock(void **state)
{
    (void)state;
    static const char *const ways[] = {"-ASK 1 127.0.0.1:@\r\n", "-MOVED 1 127.0.0.1:@\r\n"};
    for (size_t i = 0; i < 2; i++) {
        nodes = (struct nodes){.says = {ways[i], "$1\r\n7\r\n"}, .wants_asking = i == 0};
        start_nodes();
        struct err err = ERR_INIT;
        struct client client = open_client(&err);
        uint64_t token = 0;
        ok(store_lock(client.link, 1000, &token, &err));
        assert_int_equal(token, 7);
        client_close(&client);
        stop_nodes();
    }
}

static void test_ways_that_lead_nowhere(void **state)
{
    (void)state;
    nodes = (struct nodes){.says = {"-MOVED 1 127.0.0.1:@\r\n", "-MOVED 1 127.0.0.1:@\r\n"}};
    await_failure("from node to node");
    assert_true(nodes.asked[A] + nodes.asked[B] <= 18);
    nodes =
        (struct nodes){.says = {"-ASK 1 127.0.0.1:@\r\n", "-ASK 1 127.0.0.1:@\r\n"}, .wants_asking = true};
    await_failure("from node to node");
    nodes = (struct nodes){.says = {"-TRYAGAIN later\r\n", NULL}, .short_of_time = true};
    await_failure("within 150 ms");
    nodes = (struct nodes){.says = {"-CLUSTERDOWN The cluster is down\r\n", NULL}};
    await_failure("CLUSTERDOWN");
    nodes = (struct nodes){.says = {"-MOVED 1 127.0.0.1:1\r\n", NULL}};
    await_failure("127.0.0.1:1: connect: Connection refused");
    nodes = (struct nodes){.says = {"-MOVED 1 nonsense\r\n", NULL}};
    await_failure("MOVED 1 nonsense");
    nodes = (struct nodes){.says = {"+OK\r\n", NULL}};
    await_failure("an answer to GET");
    nodes = (struct nodes){.says = {"", NULL}, .short_of_time = true};
    await_failure("no answer within 150 ms");
}

static void test_maps(void **state)
{
    (void)state;
    static const char *const nonsense[] = {"+OK\r\n", "*1\r\n+OK\r\n", "*1\r\n*2\r\n:0\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n", "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:0\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:65536\r\n", "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n:1\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\na\r\n"};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        nodes = (struct nodes){.map = nonsense[i], .says = {"$2\r\nU1\r\n", NULL}};
        await_failure("an answer to CLUSTER SLOTS");
    }
    nodes = (struct nodes){.map = "*0\r\n"};
    await_failure("in no cluster");
    nodes = (struct nodes){.map = "-ERR This instance has cluster support disabled\r\n"};
    await_failure("cluster support disabled");
    nodes = (struct nodes){.map = "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$-1\r\n:1\r\n"};
    await_failure("is known to have slot");
    nodes = (struct nodes){.map = "", .short_of_time = true};
    await_failure("no answer within");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_redirections),
        cmocka_unit_test(test_redirected_lock),
        cmocka_unit_test(test_ways_that_lead_nowhere),
        cmocka_unit_test(test_maps),
    };
    return cmocka_run_group_tests_name("slots and redirections", tests, NULL, NULL);
}

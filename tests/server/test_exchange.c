/* A request piece by piece, without a socket: limits, when a refusal is said, paths, what is kept. */
#include "server/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct exchange_account bodies = {.max = 1500};
static const struct exchange_limits limits = {.body_max = 1000, .header_max = 200, .bodies = &bodies};

static struct exchange *begin(
    struct exchange_pool *pool, const char *target, const char *length, bool *going_on)
{
    uint64_t ids = 1;
    struct exchange *exchange = exchange_take(pool);
    assert_non_null(exchange);
    exchange_target(exchange, target);
    exchange_field(exchange, "Host", 4, "x", 1);
    if (length)
        exchange_field(exchange, "Content-Length", 14, length, strlen(length));
    *going_on = exchange_begin(exchange, "HTTP/1.1", 100, &limits, &ids);
    return exchange;
}

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *target, *path, *query;
    } rows[] = {
        {"/rank", "/rank", NULL},
        {"/rank?", "/rank", ""},
        {"/rank?a=1&b=?", "/rank", "a=1&b=?"},
        {"/users/http://x/y", "/users/http://x/y", NULL},
        {"http://host/rank?a", "/rank", "a"},
        {"http://host:80", "/", NULL},
        {"http://host?a=/rank", "/", "a=/rank"},
        {"http://", "/", NULL},
        {"rank?a=http://x/y", "rank", "a=http://x/y"},
        {"://x/y", "://x/y", NULL},
        {"*", "*", NULL},
        {"/?http://x/y", "/", "http://x/y"},
    };
    struct exchange_pool pool = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool going_on;
        struct exchange *exchange = begin(&pool, rows[i].target, NULL, &going_on);
        assert_true(going_on);
        assert_true(exchange_finish(exchange, "GET"));
        assert_string_equal(exchange->call.request.path, rows[i].path);
        if (rows[i].query)
            assert_string_equal(exchange->call.request.query, rows[i].query);
        else
            assert_null(exchange->call.request.query);
        assert_false(exchange->call.request.framed);
        exchange_give(&pool, exchange);
    }
    assert_int_equal(pool.spares.count, 1); /* always the same one */
    exchange_pool_done(&pool);
}

static void test_body(void **state)
{
    (void)state;
    struct exchange_pool pool = {0};
    for (int round = 0; round < 3; round++) {
        bool going_on;
        struct exchange *exchange = begin(&pool, "/rank", "6", &going_on);
        assert_true(going_on);
        assert_true(exchange_receive(exchange, "abc", 3, &limits));
        assert_true(exchange_receive(exchange, "def", 3, &limits));
        assert_true(exchange_finish(exchange, "POST"));
        assert_int_equal(exchange->call.request.body_len, 6);
        assert_memory_equal(exchange->call.request.body, "abcdef", 6);
        assert_true(exchange->call.request.framed);
        assert_int_equal(strlen(exchange->call.request.id), 16);
        exchange_give(&pool, exchange);
    }
    exchange_pool_done(&pool);
}

/* A body that is a little too long is read to its end before it is refused; a huge one is refused at once. */
static void test_too_long(void **state)
{
    (void)state;
    struct exchange_pool pool = {0};
    bool going_on;
    char bytes[1001] = "";
    struct exchange *exchange = begin(&pool, "/rank", "1000", &going_on);
    assert_true(going_on);
    assert_true(exchange_receive(exchange, bytes, 1000, &limits));
    assert_true(exchange_finish(exchange, "POST"));
    exchange_give(&pool, exchange);

    exchange = begin(&pool, "/rank", "1001", &going_on);
    assert_true(going_on);
    assert_true(exchange_receive(exchange, bytes, 1001, &limits));
    assert_int_equal(exchange->body.used, 0);
    assert_false(exchange_finish(exchange, "POST"));
    assert_int_equal(exchange->refusal, 413);
    exchange_give(&pool, exchange);

    exchange = begin(&pool, "/rank", "2000000", &going_on);
    assert_false(going_on);
    assert_int_equal(exchange->refusal, 413);
    exchange_give(&pool, exchange);

    exchange = begin(&pool, "/rank", NULL, &going_on); /* chunks */
    for (size_t sent = 1000; sent <= 1000 + EXCHANGE_DISCARD_MAX; sent += 1000) {
        assert_true(exchange_receive(exchange, bytes, 1000, &limits));
        assert_int_equal(exchange->refusal, sent > 1000 ? 413 : 0);
    }
    assert_false(exchange_receive(exchange, bytes, 1000, &limits));
    exchange_give(&pool, exchange);
    exchange_pool_done(&pool);
}

/* Bodies together: who comes when the account is full is refused, what is given back can be used again. */
static void test_account(void **state)
{
    (void)state;
    struct exchange_pool pool = {0};
    bool going_on;
    char bytes[1000] = "";
    for (int round = 0; round < 3; round++) {
        struct exchange *first = begin(&pool, "/rank", "1000", &going_on);
        struct exchange *second = begin(&pool, "/rank", "900", &going_on);
        assert_true(exchange_receive(first, bytes, 1000, &limits));
        assert_true(exchange_receive(second, bytes, 400, &limits));
        assert_int_equal(bodies.used, 1400);
        assert_true(exchange_receive(
            second, bytes, 500, &limits)); /* to its end, for the client to read the answer */
        assert_int_equal(bodies.used, 1400);
        assert_true(exchange_finish(first, "POST"));
        assert_false(exchange_finish(second, "POST"));
        assert_int_equal(second->refusal, 503);
        exchange_give(&pool, first);
        exchange_give(&pool, second);
        assert_int_equal(bodies.used, 0);
    }
    exchange_pool_done(&pool);
}

static void test_refusals(void **state)
{
    (void)state;
    struct exchange_pool pool = {0};
    bool going_on;
    uint64_t ids = 1;
    char target[150];
    memset(target, 'a', sizeof target);
    target[sizeof target - 1] = '\0';
    struct exchange *exchange = begin(&pool, target, NULL, &going_on);
    assert_false(going_on);
    assert_int_equal(exchange->refusal, 414);
    exchange_give(&pool, exchange);

    exchange = exchange_take(&pool);
    exchange_target(exchange, "/");
    exchange_field(exchange, "Host", 4, "x", 1);
    exchange_field(exchange, "x-request-id", 12, "mine", 4);
    exchange_field(exchange, "X-Request-Id", 12, "other", 5);
    assert_false(exchange_begin(exchange, "HTTP/1.1", 201, &limits, &ids));
    assert_int_equal(exchange->refusal, 431);
    exchange_refuse(exchange);
    assert_int_equal(exchange->call.response.status, 431);
    writer_raw(&exchange->call.response.body, "", 1);
    assert_non_null(strstr(exchange->call.response.body.data, "\"request_id\":\"mine\""));
    exchange_give(&pool, exchange);

    exchange = exchange_take(&pool);
    exchange_target(exchange, "/");
    assert_false(exchange_begin(exchange, "HTTP/1.1", 100, &limits, &ids));
    assert_int_equal(exchange->refusal, 400);
    exchange_give(&pool, exchange);
    exchange_pool_done(&pool);
}

/* One traceparent that is valid is taken, with an operation of our own; of two nobody knows which is right. */
static void test_trace(void **state)
{
    (void)state;
    static const char first[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                      second[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", wrong[] = "00-x";
    static const struct {
        const char *values[2];
        bool traced;
    } rows[] = {{{first, NULL}, true}, {{second, NULL}, true}, {{wrong, NULL}, false}, {{NULL, NULL}, false},
        {{first, second}, false}, {{first, first}, false}, {{wrong, first}, false}};
    struct exchange_pool pool = {0};
    uint64_t ids = 1;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct exchange *exchange = exchange_take(&pool);
        exchange_target(exchange, "/");
        exchange_field(exchange, "Host", 4, "x", 1);
        for (size_t k = 0; k < 2 && rows[i].values[k]; k++)
            exchange_field(exchange, k ? "TraceParent" : "traceparent", 11, rows[i].values[k],
                strlen(rows[i].values[k]));
        assert_true(exchange_begin(exchange, "HTTP/1.1", 100, &limits, &ids));
        assert_int_equal(exchange->traced, rows[i].traced);
        if (rows[i].traced) {
            assert_memory_equal(exchange->trace.trace_id, rows[i].values[0] + 3, 32);
            assert_int_equal(strspn(exchange->trace.span_id, "0123456789abcdef"), 16);
            assert_string_not_equal(exchange->trace.span_id, exchange->trace.parent_id);
        }
        exchange_give(&pool, exchange);
    }
    exchange_pool_done(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_account),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Plain requests and responses: what the guard refuses, percent-decoding, ids, errors. */
#include "server/http_guard.h"
#include "server/http_message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* fields: "Name: value\n" each. The message, or "" if the guard lets it pass. */
static const char *guard(const char *version, const char *target, const char *fields)
{
    struct http_guard state = {0};
    while (*fields) {
        const char *colon = strchr(fields, ':'), *end = strchr(fields, '\n');
        http_guard_field(&state, fields, (size_t)(colon - fields), colon + 2, (size_t)(end - colon - 2));
        fields = end + 1;
    }
    const char *message = "";
    const unsigned status = http_guard_verdict(&state, version, target, &message);
    assert_int_equal(status, *message ? 400 : 0);
    return message;
}

static void test_guard(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *message;
    } rows[] = {
        {"Host: x\n", ""},
        {"hOsT: [::1]:8080\nContent-Length: 17\n", ""},
        {"Host: x\nTransfer-Encoding: chunked\n", ""},
        {"Host: x\nTransfer-Encoding: Chunked\nX: a\tb \xC3\xBC\n", ""},
        {"X: y\n", "exactly one Host header is expected"},
        {"Host: x\nHOST: x\n", "exactly one Host header is expected"},
        {"Host: \n", "the Host header is not a host"},
        {"Host: a b\n", "the Host header is not a host"},
        {"Host: a/b\n", "the Host header is not a host"},
        {"Host: a@b\n", "the Host header is not a host"},
        {"Host: a,b\n", "the Host header is not a host"},
        {"Host: x\nContent-Length: 1\nContent-Length: 1\n", "more than one Content-Length"},
        {"Host: x\nContent-Length: 1\nTransfer-Encoding: chunked\n",
            "Transfer-Encoding beside Content-Length"},
        {"Host: x\nTransfer-Encoding: chunked\ntransfer-encoding: chunked\n",
            "more than one Transfer-Encoding"},
        {"Host: x\nTransfer-Encoding: identity\n",
            "the only Transfer-Encoding that is understood is chunked"},
        {"Host: x\nTransfer-Encoding: gzip, chunked\n",
            "the only Transfer-Encoding that is understood is chunked"},
        {"Host: x\nTransfer-Encoding: chunked \n",
            "the only Transfer-Encoding that is understood is chunked"},
        {"Host: x\nContent-Length: \n", "Content-Length is not a number"},
        {"Host: x\nContent-Length: -1\n", "Content-Length is not a number"},
        {"Host: x\nContent-Length: 0x10\n", "Content-Length is not a number"},
        {"Host: x\nContent-Length: 1, 1\n", "Content-Length is not a number"},
        {"Host: x\nContent-Length: 9999999999999999999\n", "Content-Length is not a number"},
        {"Host: x\nBad Name: y\n", "a header field's name is not a token"},
        {"Host: x\n: y\n", "a header field's name is not a token"},
        {"Host: x\nX: a\rb\n", "a header field holds a control character"},
        {"Host: x\nX: a\x7f\n", "a header field holds a control character"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(guard("HTTP/1.1", "/rank?user=%C3%BC\xC3\xBC", rows[i].fields), rows[i].message);
    assert_string_equal(guard("HTTP/1.0", "/", ""), "");
    assert_string_equal(guard("HTTP/1.0", "/", "Host: x\nHost: y\n"), "exactly one Host header is expected");
    assert_string_equal(
        guard("HTTP/1.0", "/", "Transfer-Encoding: chunked\n"), "Transfer-Encoding in HTTP/1.0");
    assert_string_equal(guard("HTTP/2.0", "/", "Host: x\n"), "the HTTP version is neither 1.0 nor 1.1");
    assert_string_equal(
        guard("HTTP/1.1", "/a b", "Host: x\n"), "the request target holds a space or a control character");
    assert_string_equal(
        guard("HTTP/1.1", "/a\x1f", "Host: x\n"), "the request target holds a space or a control character");
}

static void test_percent_decode(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to; /* NULL: refused */
    } rows[] = {{"", ""}, {"abc", "abc"}, {"%41b%63", "Abc"}, {"a+b", "a+b"}, {"%C3%bc", "\xC3\xBC"},
        {"%", NULL}, {"%4", NULL}, {"ab%4", NULL}, {"%g0", NULL}, {"%0g", NULL}, {"%%41", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        strcpy(text, rows[i].from);
        const ptrdiff_t len = http_percent_decode(text, text, strlen(text)); /* in place */
        assert_int_equal(len, rows[i].to ? (ptrdiff_t)strlen(rows[i].to) : -ERR_INVALID);
        if (rows[i].to)
            assert_string_equal(text, rows[i].to);
    }
    char nul[4];
    assert_int_equal(http_percent_decode(nul, "a%00", 4), 2);
    assert_memory_equal(nul, "a\0\0", 3);
}

static void test_ids(void **state)
{
    (void)state;
    char longest[HTTP_ID_MAX + 2];
    memset(longest, 'x', sizeof longest);
    longest[HTTP_ID_MAX] = '\0';
    assert_true(http_id_valid(longest));
    longest[HTTP_ID_MAX] = 'x';
    longest[HTTP_ID_MAX + 1] = '\0';
    assert_false(http_id_valid(longest));
    assert_false(http_id_valid(""));
    assert_false(http_id_valid("a b"));
    assert_false(http_id_valid("a\xC3\xBC"));
    assert_true(http_id_valid("{\"a\":~}"));
    uint64_t seed;
    char one[HTTP_ID_MAX + 1], two[HTTP_ID_MAX + 1];
    http_id_seed(&seed);
    http_id_make(one, &seed);
    http_id_make(two, &seed);
    assert_int_equal(strlen(one), 16);
    assert_string_not_equal(one, two);
}

static void test_errors(void **state)
{
    (void)state;
    struct http_response response = {0};
    const struct http_request request = {.id = "i\"d"};
    http_response_reset(&response);
    writer_text(&response.body, "half an answer");
    http_response_header(&response, "X", "y");
    http_fail(&response, &request, 503, "away \"now\"");
    writer_raw(&response.body, "", 1);
    assert_string_equal(response.body.data,
        "{\"error\":{\"code\":\"unavailable\",\"message\":\"away \\\"now\\\"\",\"request_id\":\"i\\\"d\"}}");
    assert_int_equal(response.header_count, 1);
    assert_string_equal(response.headers[0].name, "Retry-After");
    writer_done(&response.body);
    char bytes[1024];
    const size_t len = http_refusal(bytes, sizeof bytes, 503, "too many", "abc");
    bytes[len] = '\0';
    assert_string_equal(bytes,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        "Content-Length: 72\r\nCache-Control: no-store\r\nX-Request-Id: abc\r\nRetry-After: 1\r\nConnection: "
        "close\r\n\r\n"
        "{\"error\":{\"code\":\"unavailable\",\"message\":\"too many\",\"request_id\":\"abc\"}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_percent_decode),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

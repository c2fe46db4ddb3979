/* Good and bad requests, each bad one with the exact message that its sender reads. */
#include "server/rank_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct rank_limits limits = {.candidates_max = 5, .users_max = 3};

/* "user=U1 candidates=N1,N2 top_k=2 explain" for what was understood. */
static void describe(char *out, size_t size, const struct rank_request *request)
{
    size_t used = (size_t)snprintf(out, size, "%s=", request->several ? "users" : "user");
    for (size_t i = 0; i < request->user_count; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? "," : "", request->users[i].id);
    if (!request->whole_catalogue) {
        used += (size_t)snprintf(out + used, size - used, " candidates=");
        for (size_t i = 0; i < request->candidate_count; i++) {
            assert_int_equal(strlen(request->candidates[i].id), request->candidates[i].len);
            used +=
                (size_t)snprintf(out + used, size - used, "%s%s", i ? "," : "", request->candidates[i].id);
        }
    }
    if (request->top_k)
        used += (size_t)snprintf(out + used, size - used, " top_k=%zu", request->top_k);
    snprintf(out + used, size - used, "%s", request->explain ? " explain" : "");
}

typedef int parse_fn(struct rank_request *request, struct arena *arena, const char *text, struct err *err);

static int parse_json(struct rank_request *request, struct arena *arena, const char *text, struct err *err)
{
    /* A copy without anything behind it: reading past the end is seen by the sanitizer. */
    const size_t len = strlen(text);
    char *body = malloc(len ? len : 1);
    assert_non_null(body);
    memcpy(body, text, len);
    const int code = rank_request_parse_json(request, arena, &limits, body, len, err);
    free(body);
    return code;
}

static int parse_query(struct rank_request *request, struct arena *arena, const char *text, struct err *err)
{
    return rank_request_parse_query(request, arena, &limits, text, err);
}

struct row {
    const char *text, *result;
};

static void check(parse_fn *parse, const struct row *rows, size_t count, bool good)
{
    struct arena arena = {0};
    for (size_t i = 0; i < count; i++) {
        struct err err = ERR_INIT;
        struct rank_request request;
        memset(&request, 0x5A, sizeof request);
        const struct rank_request before = request;
        char seen[1024];
        const int code = parse(&request, &arena, rows[i].text, &err);
        if (code == 0) {
            describe(seen, sizeof seen, &request);
        } else {
            assert_int_equal(code, -ERR_INVALID);
            assert_memory_equal(&request, &before, sizeof request); /* untouched on failure */
            snprintf(seen, sizeof seen, "%s", err.message);
        }
        if (good != (code == 0) || strcmp(seen, rows[i].result) != 0)
            fail_msg("%s\n     gives %s\n     not   %s", rows[i].text, seen, rows[i].result);
        arena_reset(&arena);
    }
    arena_done(&arena);
}

#define CHECK(parse, rows, good) check(parse, rows, sizeof(rows) / sizeof *(rows), good)

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define ID_512 HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED "abcdefghijkl"

static void test_good_bodies(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\"]}", "user=U1 candidates=N1,N2"},
        {" \n{ \"candidates\" : [ ] , \"user\" : \"U1\" }\t", "user=U1 candidates="},
        {"{\"user\":\"U1\",\"candidates\":[\"b\",\"a\",\"b\",\"a\",\"c\"]}", "user=U1 candidates=b,a,c"},
        {"{\"user\":\"U1\",\"top_k\":3}", "user=U1 top_k=3"},
        {"{\"user\":\"U1\",\"top_k\":5,\"explain\":true}", "user=U1 top_k=5 explain"},
        {"{\"user\":\"U1\",\"candidates\":[\"x\"],\"top_k\":9999999999,\"explain\":false}",
            "user=U1 candidates=x top_k=9999999999"},
        {"{\"users\":[\"a\",\"b\",\"a\"],\"candidates\":[\"x\"]}", "users=a,b candidates=x"},
        {"{\"users\":[\"a\"],\"top_k\":1}", "users=a top_k=1"},
        {"{\"user\":\"\\u65b0\\u805e-\\ud83d\\ude00\",\"candidates\":[\"\\\"\\\\/\"]}",
            "user=\xE6\x96\xB0\xE8\x81\x9E-\xF0\x9F\x98\x80 candidates=\"\\/"},
        {"{\"user\":\"u\",\"candidates\":[\"" ID_512 "\"]}", "user=u candidates=" ID_512},
    };
    CHECK(parse_json, rows, true);
}

static void test_bad_bodies(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"", "the body is empty; a JSON object is expected"},
        {"[]", "the body: an object is expected, not an array"},
        {"[1,{\"a\":null}]", "the body: an object is expected, not an array"},
        {"{}", "user is missing"},
        {"{\"candidates\":[\"N1\"]}", "user is missing"},
        {"{\"user\":\"U1\"}", "top_k is required where no candidates are given"},
        {"{\"user\":\"U1\",\"top_k\":6}", "top_k: at most 5 where no candidates are given"},
        {"{\"user\":1,\"candidates\":[]}", "user: a string is expected, not a number"},
        {"{\"user\":null,\"candidates\":[]}", "user: a string is expected, not null"},
        {"{\"user\":\"\",\"candidates\":[]}", "user: an id must not be empty"},
        {"{\"user\":\"a b\",\"candidates\":[]}",
            "user: an id holds the byte 0x20 at offset 1; spaces and control characters are not allowed"},
        {"{\"user\":\"a\\u0000b\",\"candidates\":[]}",
            "user: an id holds the byte 0x00 at offset 1; spaces and control characters are not allowed"},
        {"{\"user\":\"U1\",\"candidates\":\"N1\"}",
            "candidates: an array of strings is expected, not a string"},
        {"{\"user\":\"U1\",\"candidates\":{}}", "candidates: an array of strings is expected, not an object"},
        {"{\"user\":\"U1\",\"candidates\":[\"a\",\"b\",\"c\",\"\"]}",
            "candidates[3]: an id must not be empty"},
        {"{\"user\":\"U1\",\"candidates\":[\"a\",true]}",
            "candidates[1]: a string is expected, not a boolean"},
        {"{\"user\":\"U1\",\"candidates\":[[]]}", "candidates[0]: a string is expected, not an array"},
        {"{\"user\":\"U1\",\"candidates\":[\"" ID_512 "x\"]}",
            "candidates[0]: an id has 513 bytes; at most 512 are allowed"},
        {"{\"user\":\"U1\",\"candidates\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]}",
            "candidates: 6 are given; at most 5 are allowed"},
        {"{\"user\":\"U1\",\"candidates\":[],\"top_k\":0}",
            "top_k: a whole number of at least 1 is expected"},
        {"{\"user\":\"U1\",\"candidates\":[],\"top_k\":-1}",
            "top_k: a whole number of at least 1 is expected"},
        {"{\"user\":\"U1\",\"candidates\":[],\"top_k\":1.5}",
            "top_k: a whole number of at least 1 is expected"},
        {"{\"user\":\"U1\",\"candidates\":[],\"top_k\":\"1\"}",
            "top_k: a whole number is expected, not a string"},
        {"{\"user\":\"U1\",\"candidates\":[],\"explain\":1}",
            "explain: true or false is expected, not a number"},
        {"{\"user\":\"U1\",\"candidates\":[],\"topk\":1}", "\"topk\" is not a key of this request"},
        {"{\"user\":\"U1\",\"users\":[\"U2\"],\"candidates\":[]}", "user and users exclude each other"},
        {"{\"users\":[\"U1\"],\"user\":\"U2\",\"candidates\":[]}", "user and users exclude each other"},
        {"{\"users\":[],\"candidates\":[]}", "users: at least one is expected"},
        {"{\"users\":[\"a\",\"b\",\"c\",\"d\"],\"candidates\":[]}",
            "users: 4 are given; at most 3 are allowed"},
        {"{\"users\":[\"a\",\"\"],\"candidates\":[]}", "users[1]: an id must not be empty"},
    };
    CHECK(parse_json, rows, false);
}

/* What is not JSON at all: the parser's own words follow, the beginning is ours. */
static void test_broken_json(void **state)
{
    (void)state;
    static const char *const rows[] = {"{", "{\"user\"", "{\"user\":\"U1\",}", "123", "123 00", "null", "nul",
        "{}{}", "{\"user\":\"U1\",\"user\":\"U2\"}", "{\"user\":\"\\ud800\"}", "{\"user\":\"\xff\"}",
        "{\"user\":\"\xc0\x80\"}", "{'user':1}", "{\"top_k\":01}", "{\"top_k\":99999999999999999999}",
        "{\"top_k\":1e999}", "{\"a\":\"\n\"}", "\xEF\xBB\xBF{}", "{\"a\\u0000\":1}"};
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = ERR_INIT;
        struct rank_request request;
        assert_int_equal(parse_json(&request, &arena, rows[i], &err), -ERR_INVALID);
        static const char start[] = "the body is not valid JSON: line ";
        if (strncmp(err.message, start, sizeof start - 1) != 0)
            fail_msg("%s gives %s", rows[i], err.message);
    }
    char deep[20000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    struct err err = ERR_INIT;
    struct rank_request request;
    assert_int_equal(parse_json(&request, &arena, deep, &err), -ERR_INVALID);
    arena_done(&arena);
}

/* Every prefix of a good body is bad, and none is read past its end. */
static void test_truncated(void **state)
{
    (void)state;
    static const char body[] =
        "{\"user\":\"U\\u0031\",\"candidates\":[\"N1\",\"\xE6\x96\xB0\"],\"top_k\":10,\"explain\":true}";
    struct arena arena = {0};
    for (size_t len = 0; len < sizeof body - 1; len++) {
        struct err err = ERR_INIT;
        struct rank_request request;
        char part[sizeof body];
        memcpy(part, body, len);
        part[len] = '\0';
        assert_int_equal(parse_json(&request, &arena, part, &err), -ERR_INVALID);
    }
    arena_done(&arena);
}

static void test_good_queries(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"user=U1&candidates=N1,N2", "user=U1 candidates=N1,N2"},
        {"candidates=N1&user=U1&top_k=2&explain=true", "user=U1 candidates=N1 top_k=2 explain"},
        {"user=U1&top_k=5&explain=false", "user=U1 top_k=5"},
        {"user=%55%31&candidates=a%2Cb,c", "user=U1 candidates=a,b,c"},
        {"user=a+b=c&candidates=x&", "user=a+b=c candidates=x"},
        {"user=\xE6\x96\xB0&candidates=%e6%96%B0,x,x", "user=\xE6\x96\xB0 candidates=\xE6\x96\xB0,x"},
    };
    CHECK(parse_query, rows, true);
}

static void test_bad_queries(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"", "user is missing"},
        {"user=U1", "top_k is required where no candidates are given"},
        {"user=U1&candidates=", "candidates[0]: an id must not be empty"},
        {"user=U1&candidates=a,,b", "candidates[1]: an id must not be empty"},
        {"user=U1&candidates=a,b,", "candidates[2]: an id must not be empty"},
        {"user=U1&candidates=a,b,c,d,e,f", "candidates: 6 are given; at most 5 are allowed"},
        {"user=&candidates=a", "user: an id must not be empty"},
        {"user&candidates=a", "user: an id must not be empty"},
        {"user=%00&candidates=a",
            "user: an id holds the byte 0x00 at offset 0; spaces and control characters are not allowed"},
        {"user=a%20b&candidates=a",
            "user: an id holds the byte 0x20 at offset 1; spaces and control characters are not allowed"},
        {"user=%ff&candidates=a", "user: an id is not valid UTF-8"},
        {"user=%4&candidates=a", "user: a % is not followed by two hexadecimal digits"},
        {"user=a&candidates=%", "candidates: a % is not followed by two hexadecimal digits"},
        {"user=a&candidates=%zz", "candidates: a % is not followed by two hexadecimal digits"},
        {"user=a&user=b&candidates=x", "user is given twice"},
        {"user=a&candidates=x&candidates=y", "candidates is given twice"},
        {"user=a&candidates=x&&top_k=1", "\"\" is not a parameter of this request"},
        {"user=a&candidates=x&users=b", "\"users\" is not a parameter of this request"},
        {"User=a", "\"User\" is not a parameter of this request"},
        {"user=a&candidates=x&top_k=", "top_k: a whole number of at least 1 is expected"},
        {"user=a&candidates=x&top_k=0", "top_k: a whole number of at least 1 is expected"},
        {"user=a&candidates=x&top_k=1x", "top_k: a whole number of at least 1 is expected"},
        {"user=a&candidates=x&top_k=%31", "top_k: a whole number of at least 1 is expected"},
        {"user=a&candidates=x&top_k=99999999999999999999", "top_k: a whole number of at least 1 is expected"},
        {"user=a&candidates=x&explain=1", "explain: true or false is expected"},
        {"user=a&top_k=6", "top_k: at most 5 where no candidates are given"},
    };
    CHECK(parse_query, rows, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_bodies),
        cmocka_unit_test(test_bad_bodies),
        cmocka_unit_test(test_broken_json),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_good_queries),
        cmocka_unit_test(test_bad_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

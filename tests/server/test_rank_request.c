/* Good and bad requests, each bad one with the exact message that its sender reads. */
#include "server/hot.h"
#include "server/rank_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct rank_limits limits = {.candidates_max = 5, .users_max = 3};

/* " key=a,b,c" behind what is there. */
static size_t describe_list(char *out, size_t size, size_t used, const char *key, const struct store_id *ids,
    const uint64_t *hashes, size_t count)
{
    used += (size_t)snprintf(out + used, size - used, "%s=", key);
    for (size_t i = 0; i < count; i++) {
        assert_true(hashes[i] == hot_hash(ids[i].id, ids[i].len));
        used += (size_t)snprintf(out + used, size - used, "%s%.*s", i ? "," : "", (int)ids[i].len, ids[i].id);
    }
    return used;
}

/* "user=U1 candidates=N1,N2 top_k=2 explain" for what was understood. */
static void describe(char *out, size_t size, const struct rank_request *request)
{
    size_t used = describe_list(out, size, 0, request->several ? "users" : "user", request->users,
        request->user_hashes, request->user_count);
    assert_int_equal(request->whole_catalogue, !request->candidates);
    if (!request->whole_catalogue)
        used = describe_list(
            out, size, used, " candidates", request->candidates, request->hashes, request->candidate_count);
    if (request->category.len)
        used += (size_t)snprintf(
            out + used, size - used, " category=%.*s", (int)request->category.len, request->category.id);
    if (request->exclude)
        used = describe_list(
            out, size, used, " exclude", request->exclude, request->exclude_hashes, request->exclude_count);
    if (request->top_k)
        used += (size_t)snprintf(out + used, size - used, " top_k=%zu", request->top_k);
    snprintf(out + used, size - used, "%s%s", request->explain ? " explain" : "",
        request->titles ? " titles" : "");
}

typedef int parse_fn(struct rank_request *request, struct arena *arena, const char *text, struct err *err);

static char *body_in_use; /* it lives as long as its request */

/* A copy without anything behind it: reading past the end is seen by the sanitizer. */
static int parse_json(struct rank_request *request, struct arena *arena, const char *text, struct err *err)
{
    const size_t len = strlen(text);
    free(body_in_use);
    body_in_use = malloc(len ? len : 1);
    assert_non_null(body_in_use);
    memcpy(body_in_use, text, len);
    return rank_request_parse_json(request, arena, &limits, body_in_use, len, err);
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
        {"{\"titles\":true,\"user\":\"U1\",\"top_k\":5,\"explain\":true}", "user=U1 top_k=5 explain titles"},
        {"{\"user\":\"U1\",\"top_k\":5,\"titles\":false}", "user=U1 top_k=5"},
        {"{\"user\":\"U1\",\"candidates\":[\"x\"],\"top_k\":9999999999,\"explain\":false}",
            "user=U1 candidates=x top_k=9999999999"},
        {"{\"users\":[\"a\",\"b\",\"a\"],\"candidates\":[\"x\"]}", "users=a,b candidates=x"},
        {"{\"users\":[\"a\"],\"top_k\":1}", "users=a top_k=1"},
        {"{\"user\":\"\\u65b0\\u805e-\\ud83d\\ude00\",\"candidates\":[\"\\\"\\\\/\"]}",
            "user=\xE6\x96\xB0\xE8\x81\x9E-\xF0\x9F\x98\x80 candidates=\"\\/"},
        {"{\"user\":\"u\",\"candidates\":[\"" ID_512 "\"]}", "user=u candidates=" ID_512},
        {"{\"us\\u0065r\":\"u\",\"candidates\":[\"\\u0061\",\"a\",\"\\u00FC\",\"\xC3\xBC\"]}",
            "user=u candidates=a,\xC3\xBC"},
        {"{\"user\":\"u\",\"top_k\":1,\"category\":\"world news\",\"exclude\":[\"b\",\"a\",\"b\"]}",
            "user=u category=world news exclude=b,a top_k=1"},
        {"{\"user\":\"u\",\"exclude\":[],\"top_k\":1}", "user=u exclude= top_k=1"},
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
        {"{\"user\":\"U1\",\"candidates\":[],\"titles\":\"true\"}",
            "titles: true or false is expected, not a string"},
        {"{\"titles\":true,\"titles\":true}",
            "the body is not valid JSON: line 1, column 16: a key is given twice"},
        {"{\"user\":\"U1\",\"candidates\":[],\"topk\":1}", "\"topk\" is not a key of this request"},
        {"{\"user\":\"U1\",\"users\":[\"U2\"],\"candidates\":[]}", "user and users exclude each other"},
        {"{\"users\":[\"U1\"],\"user\":\"U2\",\"candidates\":[]}", "user and users exclude each other"},
        {"{\"users\":[],\"candidates\":[]}", "users: at least one is expected"},
        {"{\"users\":[\"a\",\"b\",\"c\",\"d\"],\"candidates\":[]}",
            "users: 4 are given; at most 3 are allowed"},
        {"{\"users\":[\"a\",\"\"],\"candidates\":[]}", "users[1]: an id must not be empty"},
        {"123", "the body: an object is expected, not a number"},
        {" null", "the body: an object is expected, not null"},
        {"{\"user\":\"U1\",\"top_k\":9223372036854775808}",
            "top_k: a whole number of at most 9223372036854775807 is expected"},
        {"{\"user\":\"U1\",\"top_k\":1e2}", "top_k: a whole number of at least 1 is expected"},
        {"{\"user\":\"U1\",\"top_k\":1e999}", "top_k: a whole number of at least 1 is expected"},
        {"{\"user\":\"U1\",\"top_k\":01}", "top_k: a whole number of at least 1 is expected"},
        {"{\"user\":\"U1\",\"top_k\":-0}", "top_k: a whole number of at least 1 is expected"},
        {"{\"a\\u0000\":1}", "\"a\" is not a key of this request"},
        {"{\"user\":\"U1\",\"top_k\":1,\"category\":7}", "category: a string is expected, not a number"},
        {"{\"user\":\"U1\",\"top_k\":1,\"category\":\"\"}", "category: a category must not be empty"},
        {"{\"user\":\"U1\",\"top_k\":1,\"category\":\"" ID_512 "x\"}",
            "category: a category has 513 bytes; at most 512 are allowed"},
        {"{\"user\":\"U1\",\"top_k\":1,\"category\":\"a b\\n\"}",
            "category: a category holds the byte 0x0a at offset 3; control characters are not allowed"},
        {"{\"user\":\"U1\",\"top_k\":1,\"exclude\":{}}",
            "exclude: an array of strings is expected, not an object"},
        {"{\"user\":\"U1\",\"top_k\":1,\"exclude\":[\"a\",\"a b\"]}",
            "exclude[1]: an id holds the byte 0x20 at offset 1; spaces and control characters are not "
            "allowed"},
        {"{\"user\":\"U1\",\"top_k\":1,\"exclude\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]}",
            "exclude: 6 are given; at most 5 are allowed"},
        {"{\"user\":\"U1\",\"candidates\":[\"a\"],\"category\":\"news\"}",
            "category: allowed only where no candidates are given"},
        {"{\"user\":\"U1\",\"exclude\":[],\"candidates\":[]}",
            "exclude: allowed only where no candidates are given"},
    };
    CHECK(parse_json, rows, false);
}

/* What is not JSON, and where. */
static void test_broken_json(void **state)
{
    (void)state;
#define AT(line, column, what) "the body is not valid JSON: line " #line ", column " #column ": " what
    static const struct row rows[] = {
        {" ", AT(1, 2, "a value is expected, but the body ends")},
        {"{", AT(1, 2, "a key in quotes is expected, but the body ends")},
        {"{\"user\"", AT(1, 8, "a colon is expected, but the body ends")},
        {"{\"user", AT(1, 7, "a closing quote is expected, but the body ends")},
        {"{\"user\":", AT(1, 9, "a value is expected, but the body ends")},
        {"{\"user\":\"U1\",}", AT(1, 14, "a key in quotes is expected")},
        {"{\"user\":\"U1\" \"top_k\":1}", AT(1, 14, "a comma or a closing brace is expected")},
        {"{\"user\":\"U1\",\"candidates\":[\"a\",]}", AT(1, 32, "a value is expected")},
        {"{\"candidates\":[\"a\"\"b\"]}", AT(1, 19, "a comma or a closing bracket is expected")},
        {"{\n \"\xC3\xBC\xE6\x96\xB0\"= 1}", AT(2, 6, "a colon is expected")},
        {"nul", AT(1, 1, "a value is expected")},
        {"{\"user\":tru}", AT(1, 9, "a value is expected")},
        {"{}{}", AT(1, 3, "the end of the body is expected")},
        {"{\"user\":\"U1\",\r\n\"user\":\"U2\"}", AT(2, 1, "a key is given twice")},
        {"{\"user\":\"U1\",\"us\\u0065r\":\"U2\"}", AT(1, 14, "a key is given twice")},
        {"{\"user\":\"a\\ud800\"}", AT(1, 11, "an escape is expected that JSON knows, surrogates in pairs")},
        {"{\"user\":\"\\udc00\\ud800\"}",
            AT(1, 10, "an escape is expected that JSON knows, surrogates in pairs")},
        {"{\"user\":\"\\x\"}", AT(1, 10, "an escape is expected that JSON knows, surrogates in pairs")},
        {"{\"user\":\"\xff\"}", AT(1, 10, "a string is not valid UTF-8")},
        {"{\"user\":\"\xc0\x80\"}", AT(1, 10, "a string is not valid UTF-8")},
        {"{'user':1}", AT(1, 2, "a key in quotes is expected")},
        {"{\"top_k\":1x}", AT(1, 11, "a comma or a closing brace is expected")},
        {"{\"top_k\":-}", AT(1, 11, "a digit is expected")},
        {"{\"top_k\":1.}", AT(1, 12, "a digit is expected")},
        {"{\"a\n\":1}", AT(1, 4, "a control character must be escaped")},
        {"\xEF\xBB\xBF{}", AT(1, 1, "a value is expected")},
    };
    CHECK(parse_json, rows, false);
    char deep[20000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    const struct row row = {deep, "the body: an object is expected, not an array"};
    check(parse_json, &row, 1, false);
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
        {"titles=true&user=U1&top_k=5", "user=U1 top_k=5 titles"},
        {"user=U1&top_k=5&category=world%20news&exclude=a,b%2C,a",
            "user=U1 category=world news exclude=a,b, top_k=5"},
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
        {"user=a&candidates=x&titles=", "titles: true or false is expected"},
        {"user=a&titles=true&titles=true", "titles is given twice"},
        {"user=a&top_k=1&category=", "category: a category must not be empty"},
        {"user=a&top_k=1&category=%0", "category: a % is not followed by two hexadecimal digits"},
        {"user=a&top_k=1&category=%ff", "category: a category is not valid UTF-8"},
        {"user=a&top_k=1&exclude=", "exclude[0]: an id must not be empty"},
        {"user=a&top_k=1&exclude=a,b,c,d,e,f", "exclude: 6 are given; at most 5 are allowed"},
        {"user=a&candidates=x&category=b", "category: allowed only where no candidates are given"},
        {"user=a&candidates=x&exclude=b", "exclude: allowed only where no candidates are given"},
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
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(body_in_use);
    return failed;
}

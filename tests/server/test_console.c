/* The console's files with their headers, and GET /hot, without a socket. */
#include "tests/server/bench.h"

#include <sys/stat.h>

static const char *header(const struct bench *bench, const char *name)
{
    const struct http_response *response = &bench->call.response;
    for (size_t i = 0; i < response->header_count; i++)
        if (strcmp(response->headers[i].name, name) == 0)
            return response->headers[i].value;
    return "";
}

static const struct http_response *get(struct bench *bench, const char *path, const char *if_none_match)
{
    const struct http_request request = {
        .method = "GET", .path = path, .if_none_match = if_none_match, .id = "x"};
    send_request(bench, &request);
    return &bench->call.response;
}

/* ---- the console ---- */

static void test_files(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *path, *type, *begin;
    } rows[] = {{"/", "text/html; charset=utf-8", "<!doctype html>\n"},
        {"/console.css", "text/css; charset=utf-8", "/* "},
        {"/console.js", "text/javascript; charset=utf-8", "\"use strict\";\n"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct http_response *response = get(bench, rows[i].path, NULL);
        assert_true(bench->at_once);
        assert_int_equal(response->status, 200);
        assert_string_equal(response->content_type, rows[i].type);
        assert_string_equal(response->cache_control, "no-cache");
        assert_memory_equal(response->body.data, rows[i].begin, strlen(rows[i].begin));
        assert_int_equal(response->body.data[response->body.used - 1], '\n');
        assert_null(memchr(response->body.data, '\0', response->body.used));
        assert_string_equal(header(bench, "Content-Security-Policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' "
            "data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
        assert_string_equal(header(bench, "X-Content-Type-Options"), "nosniff");
        assert_string_equal(header(bench, "Referrer-Policy"), "no-referrer");
        assert_int_equal(strlen(header(bench, "ETag")), 18);
    }
}

/* What the policy forbids is not in the page. */
static void test_markup(void **state)
{
    struct bench *bench = *state;
    struct writer *page = &bench->call.response.body;
    get(bench, "/", NULL);
    writer_raw(page, "", 1);
    static const char *const forbidden[] = {
        " style=", "<style", "javascript:", "http://", "https://", " onclick"};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++) {
        const char *found = strstr(page->data, forbidden[i]);
        /* An icon in the page has to name SVG, which nobody fetches. */
        if (found && strncmp(found, "http://www.w3.org/2000/svg", 26) == 0)
            found = strstr(found + 1, forbidden[i]);
        if (found)
            fail_msg("%s is in the page", forbidden[i]);
    }
    assert_ptr_equal(
        strstr(page->data, "<script "), strstr(page->data, "<script src=\"console.js\"></script>"));
}

static void test_etag(void **state)
{
    struct bench *bench = *state;
    char page[HTTP_HEADER_MAX], style[HTTP_HEADER_MAX], list[3 * HTTP_HEADER_MAX];
    get(bench, "/", NULL);
    strcpy(page, header(bench, "ETag"));
    get(bench, "/console.css", NULL);
    strcpy(style, header(bench, "ETag"));
    assert_string_not_equal(page, style);
    snprintf(list, sizeof list, "\"0\", W/%s, %s", page, page);
    const struct {
        unsigned status;
        const char *path, *known;
    } rows[] = {{304, "/", page}, {304, "/", list}, {304, "/", "*"}, {200, "/", style}, {200, "/", "\"\""},
        {200, "/", ""}, {304, "/console.css", style}, {200, "/console.js", page}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(get(bench, rows[i].path, rows[i].known)->status, rows[i].status);
        assert_string_equal(bench->call.response.cache_control, "no-cache");
        assert_int_equal(strlen(header(bench, "ETag")), 18);
        assert_true(header(bench, "Content-Security-Policy")[0]);
    }
}

static void test_console_methods(void **state)
{
    struct bench *bench = *state;
    static const char *const paths[] = {"/", "/console.css", "/console.js", "/hot"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        json_decref(ask(bench, 405, "POST", paths[i], NULL, "{}"));
        assert_string_equal(header(bench, "Allow"), "GET, HEAD");
        assert_string_equal(bench->call.response.cache_control, "no-store");
    }
    json_decref(ask(bench, 404, "GET", "/console.map", NULL, NULL));
}

/* ---- ids in memory ---- */

static void check_ids(
    struct bench *bench, const char *query, const char *kind, bool complete, const char *ids)
{
    json_t *answer = ask(bench, 200, "GET", "/hot", query, NULL);
    assert_false(bench->at_once);
    assert_string_equal(text_of(answer, "kind"), kind);
    assert_int_equal(json_is_true(json_object_get(answer, "complete")), complete);
    char got[4096] = "";
    const json_t *list = json_object_get(answer, "ids");
    for (size_t i = 0; i < json_array_size(list); i++) {
        strcat(got, i ? " " : "");
        strcat(got, json_string_value(json_array_get(list, i)));
    }
    assert_string_equal(got, ids);
    json_decref(answer);
}

static void test_hot_ids(void **state)
{
    struct bench *bench = *state;
    check_ids(bench, "kind=content", "content", true, "");
    json_decref(rank(bench, 200,
        "{\"user\":\"U1\",\"candidates\":[\"N3\",\"N1\",\"N12\",\"N10\",\"N2\",\"N\",\"X\",\"N39\"]}"));
    json_decref(rank(bench, 200, "{\"user\":\"U3\",\"candidates\":[\"N3\"]}"));
    check_ids(bench, "kind=content", "content", true, "N1 N10 N12 N2 N3 N39"); /* those that were read */
    check_ids(bench, "kind=user", "user", true, "U1 U3");
    check_ids(bench, "kind=content&prefix=N1", "content", true, "N1 N10 N12");
    check_ids(bench, "prefix=%4e%33&kind=content&limit=100", "content", true, "N3 N39");
    check_ids(bench, "kind=content&prefix=", "content", true, "N1 N10 N12 N2 N3 N39");
    check_ids(bench, "kind=content&prefix=n", "content", true, "");
    check_ids(bench, "kind=user&prefix=U3", "user", true, "U3");
    json_t *answer = ask(bench, 200, "GET", "/hot", "kind=content&limit=2", NULL);
    assert_int_equal(json_array_size(json_object_get(answer, "ids")), 2);
    assert_true(json_is_false(json_object_get(answer, "complete")));
    json_decref(answer);
}

static void test_hot_refusals(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *query, *message;
    } rows[] = {
        {NULL, "kind is missing"},
        {"prefix=N", "kind is missing"},
        {"kind=", "kind: content or user is expected"},
        {"kind=users", "kind: content or user is expected"},
        {"kind=user&kind=user", "kind is given twice"},
        {"kind=user&what=1", "\"what\" is not a parameter of this request"},
        {"kind=user&limit=0", "limit: a whole number from 1 to 100 is expected"},
        {"kind=user&limit=101", "limit: a whole number from 1 to 100 is expected"},
        {"kind=user&limit=", "limit: a whole number from 1 to 100 is expected"},
        {"kind=user&limit=1e1", "limit: a whole number from 1 to 100 is expected"},
        {"kind=user&prefix=%4", "prefix: a % is not followed by two hexadecimal digits"},
        {"kind=user&prefix=%ff", "an id is not valid UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *answer = ask(bench, 400, "GET", "/hot", rows[i].query, NULL);
        assert_string_equal(text_of(json_object_get(answer, "error"), "message"), rows[i].message);
        json_decref(answer);
    }
}

static void test_hot_not_ready(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char url[272];
    snprintf(url, sizeof url, "lmdb:%s/empty", bench->folder);
    service_done(&bench->service);
    require(config_set(&bench->config, "store.url", url, &err), &err);
    start(bench);
    json_decref(ask(bench, 503, "GET", "/hot", "kind=user", NULL));
    assert_int_equal(get(bench, "/", NULL)->status, 200);
}

/* The page tells nothing of anybody, the ids do. */
static void test_guard(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char path[272];
    snprintf(path, sizeof path, "%s/tokens", bench->folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("0123456789abcdef\n", file);
    fclose(file);
    assert_int_equal(chmod(path, 0600), 0);
    service_done(&bench->service);
    require(config_set(&bench->config, "server.token_file", path, &err), &err);
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    assert_int_equal(get(bench, "/", NULL)->status, 200);
    assert_int_equal(get(bench, "/console.js", NULL)->status, 200);
    json_decref(ask(bench, 401, "GET", "/hot", "kind=user", NULL));
    const struct http_request request = {.method = "GET",
        .path = "/hot",
        .query = "kind=user",
        .authorization = "Bearer 0123456789abcdef",
        .id = "x"};
    send_request(bench, &request);
    assert_int_equal(bench->call.response.status, 200);
}

int main(void)
{
    struct err err = ERR_INIT;
    if (gemm_init(&err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_files),
        TEST(test_markup),
        TEST(test_etag),
        TEST(test_console_methods),
        TEST(test_hot_ids),
        TEST(test_hot_refusals),
        TEST(test_hot_not_ready),
        TEST(test_guard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

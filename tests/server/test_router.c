/* Paths, methods and pages, and what generation answers them, without a socket. */
#include "tests/server/bench.h"

static void test_generations(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    struct world two = one;
    two.seed = 2;
    two.m = 2;
    two.n = 1;
    two.d = 40;
    struct live_generation *old = live_acquire(bench->service.live); /* a request in flight */
    char name[STORE_GENERATION_MAX];
    require(world_publish(&two, bench->store, BLOB_F32, name, &err), &err);
    require(live_poll(bench->service.live, &err), &err);
    json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\"]}");
    assert_string_equal(text_of(answer, "generation"), name);
    check_ranking(json_object_get(answer, "ranking"), &two, "U1", 2);
    json_decref(answer);
    assert_string_equal(old->name, bench->generation);
    assert_int_equal(old->manifest.d, 24); /* still whole */
    live_release(old);
    require(generation_rollback(bench->store, name, &err), &err);
    assert_string_equal(name, bench->generation);
    require(live_poll(bench->service.live, &err), &err);
    answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\"]}");
    check_ranking(json_object_get(answer, "ranking"), &one, "U1", 2);
    json_decref(answer);
}

/* One that is damaged is refused by name, and the old one goes on. */
static void test_refused_generation(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    struct world two = one;
    two.seed = 2;
    char before[STORE_GENERATION_MAX], name[STORE_GENERATION_MAX];
    memcpy(before, bench->generation, sizeof before);
    require(world_publish(&two, bench->store, BLOB_F32, name, &err), &err);
    memcpy(bench->generation, name, sizeof name);
    put(bench, STORE_SCORE_PROJ, "", "EMBS", 4);
    for (int i = 0; i < 3; i++)
        assert_int_equal(live_poll(bench->service.live, &err), -ERR_CORRUPT);
    struct live_stats stats;
    live_stats(bench->service.live, &stats);
    assert_int_equal(stats.refusals, 1);
    assert_int_equal(stats.loads, 1);
    json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\"]}");
    assert_string_equal(text_of(answer, "generation"), before);
    json_decref(answer);
}

static void test_not_ready(void **state)
{
    struct bench *bench = *state;
    struct err err = ERR_INIT;
    char url[272];
    snprintf(url, sizeof url, "lmdb:%s/empty", bench->folder);
    service_done(&bench->service);
    require(config_set(&bench->config, "store.url", url, &err), &err);
    start(bench);
    assert_int_equal(live_poll(bench->service.live, &err), -ERR_NOT_FOUND);
    check_message(
        bench, 503, "{\"user\":\"U1\",\"candidates\":[\"N1\"]}", "no verified generation is in memory");
    json_decref(ask(bench, 503, "GET", "/readyz", NULL, NULL));
    json_decref(ask(bench, 503, "GET", "/users/U1", NULL, NULL));
    json_decref(ask(bench, 200, "GET", "/livez", NULL, NULL));
}

static void test_paths(void **state)
{
    struct bench *bench = *state;
    json_t *answer = ask(bench, 200, "GET", "/users/%55%32", NULL, NULL);
    assert_string_equal(text_of(answer, "user"), "U2");
    assert_string_equal(text_of(answer, "summary"), "Reads \"news\" number 2.");
    assert_int_equal(json_integer_value(json_object_get(answer, "m")), one.m);
    assert_int_equal(json_integer_value(json_object_get(answer, "n")), one.n);
    assert_int_equal(json_integer_value(json_object_get(answer, "d")), one.d);
    assert_in_range(json_integer_value(json_object_get(answer, "age_s")), 0, 600);
    json_decref(answer);
    answer = ask(bench, 200, "GET", "/users/U1", NULL, NULL);
    assert_true(json_is_null(json_object_get(answer, "summary")));
    json_decref(answer);
    static const struct {
        unsigned status;
        const char *method, *path;
    } rows[] = {
        {404, "GET", "/users/nobody"},
        {404, "GET", "/users/"},
        {404, "GET", "/openapi.json/"},
        {404, "GET", "/rank/"},
        {404, "GET", "/ran"},
        {404, "GET", "/console"},
        {404, "GET", "/hot/"},
        {400, "GET", "/users/%zz"},
        {400, "GET", "/users/a%20b"},
        {400, "GET", "/users/%00"},
        {405, "DELETE", "/rank"},
        {405, "POST", "/livez"},
        {405, "PUT", "/users/U1"},
        {411, "POST", "/rank"},
        {200, "HEAD", "/readyz"},
        {200, "GET", "/version"},
        {200, "GET", "/openapi.json"},
        {200, "GET", "/readyz"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_decref(ask(bench, rows[i].status, rows[i].method, rows[i].path, NULL, NULL));
    json_decref(ask(bench, 405, "PATCH", "/rank", NULL, NULL));
    assert_string_equal(bench->call.response.headers[0].name, "Allow");
    assert_string_equal(bench->call.response.headers[0].value, "GET, HEAD, POST");
}

/* Who has the text already is told so. */
static void test_description(void **state)
{
    struct bench *bench = *state;
    char tag[HTTP_HEADER_MAX], list[HTTP_HEADER_MAX + 32];
    struct http_request request = {.method = "GET", .path = "/openapi.json", .body = "", .id = "x"};
    send_request(bench, &request);
    const struct http_response *response = &bench->call.response;
    assert_int_equal(response->status, 200);
    assert_string_equal(response->cache_control, "no-cache");
    assert_string_equal(response->headers[0].name, "ETag");
    snprintf(tag, sizeof tag, "%s", response->headers[0].value);
    snprintf(list, sizeof list, "\"another\", W/%s", tag);
    const struct {
        unsigned status;
        const char *known;
    } rows[] = {{304, tag}, {304, list}, {304, "*"}, {200, "\"another\""}, {200, ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        request.if_none_match = rows[i].known;
        send_request(bench, &request);
        assert_int_equal(response->status, rows[i].status);
        assert_string_equal(response->headers[0].value, tag);
    }
}

static void test_content_type(void **state)
{
    struct bench *bench = *state;
    static const struct {
        unsigned status;
        const char *type;
    } rows[] = {{200, "application/json"}, {200, "Application/JSON;charset=UTF-8"},
        {200, "application/json ; x=y"}, {415, "text/plain"}, {415, "application/jsonx"}, {415, ""},
        {415, NULL}};
    const char *body = "{\"user\":\"U1\",\"candidates\":[\"N1\"]}";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct http_request request = {.method = "POST",
            .path = "/rank",
            .content_type = rows[i].type,
            .framed = true,
            .body = body,
            .body_len = strlen(body),
            .id = "x"};
        send_request(bench, &request);
        assert_int_equal(bench->call.response.status, rows[i].status);
    }
}

static void test_query(void **state)
{
    struct bench *bench = *state;
    json_t *answer =
        ask(bench, 200, "GET", "/rank", "user=U1&candidates=N1,N2,%4E3&top_k=2&explain=true", NULL);
    check_ranking(json_object_get(answer, "ranking"), &one, "U1", 2);
    assert_non_null(json_object_get(json_array_get(json_object_get(answer, "ranking"), 0), "weights"));
    json_decref(answer);
    json_decref(ask(bench, 400, "GET", "/rank", "user=U1&candidates=N1&user=U2", NULL));
    json_decref(ask(bench, 400, "GET", "/rank", NULL, NULL));
}

static void test_metrics(void **state)
{
    struct bench *bench = *state;
    json_decref(rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\",\"X\"]}"));
    json_decref(rank(bench, 400, "{}"));
    put(bench, STORE_USER, "U2", "EMBS", 4);
    json_decref(rank(bench, 200, "{\"users\":[\"U2\",\"nobody\"],\"candidates\":[\"N1\"]}"));
    const struct http_request request = {.method = "GET", .path = "/metrics", .id = "x"};
    send_request(bench, &request);
    assert_int_equal(bench->call.response.status, 200);
    writer_raw(&bench->call.response.body, "", 1);
    static const char *const lines[] = {
        "\nembsum_http_requests_total{route=\"/rank\",code=\"200\"} 2\n",
        "\nembsum_http_requests_total{route=\"/rank\",code=\"400\"} 1\n",
        "\nembsum_http_request_duration_seconds_count{route=\"/rank\",code=\"200\"} 2\n",
        "\nembsum_http_request_duration_seconds_count{route=\"/rank\",code=\"400\"} 1\n",
        "\nembsum_http_request_duration_seconds_bucket{route=\"/rank\",code=\"200\",le=\"+Inf\"} 2\n",
        "\nembsum_rank_stage_seconds_count{stage=\"parse\"} 3\n",
        "\nembsum_rank_stage_seconds_count{stage=\"score\"} 2\n",
        "\nembsum_ranked_users_total{status=\"present\"} 1\n",
        "\nembsum_ranked_users_total{status=\"default\"} 2\n",
        "\nembsum_degraded_total{reason=\"store_unavailable\"} 0\n",
        "\nembsum_degraded_total{reason=\"user_corrupt\"} 1\n",
        "\nembsum_blobs_refused_total{reason=\"length\"} 1\n",
        "\nembsum_rank_queue_seconds_bucket{le=\"+Inf\"} 0\n",
        "\nembsum_scored_total 4\n",
        "\nembsum_missing_total{reason=\"not_found\"} 1\n",
        "\nembsum_hot_entries{kind=\"content\"} 2\n",
        "\nembsum_ready 1\n",
        "\nembsum_generation_contents 40\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(bench->call.response.body.data, lines[i]))
            fail_msg("no%sin\n%s", lines[i], bench->call.response.body.data);
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
        TEST(test_generations),
        TEST(test_refused_generation),
        TEST(test_not_ready),
        TEST(test_paths),
        TEST(test_description),
        TEST(test_content_type),
        TEST(test_query),
        TEST(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

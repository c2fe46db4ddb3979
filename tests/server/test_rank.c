/* Ranking without a socket: order, scores, ties, duplicates, damage, users, catalogue, explanations. */
#include "tests/server/bench.h"

/* ---- tests ---- */

static void test_order_and_scores(void **state)
{
    struct bench *bench = *state;
    char body[1024] = "{\"user\":\"U1\",\"candidates\":[";
    for (int i = 0; i < 40; i++)
        sprintf(body + strlen(body), "%s\"N%d\"", i ? "," : "", i);
    strcat(body, "]}");
    for (int round = 0; round < 2; round++) { /* from the store, then from hot memory */
        json_t *answer = rank(bench, 200, body);
        check_ranking(json_object_get(answer, "ranking"), &one, "U1", 40);
        assert_string_equal(text_of(answer, "user"), "U1");
        assert_string_equal(text_of(answer, "user_status"), "present");
        assert_string_equal(text_of(answer, "generation"), bench->generation);
        assert_int_equal(json_array_size(json_object_get(answer, "missing")), 0);
        assert_null(json_object_get(answer, "degraded"));
        json_decref(answer);
    }
    struct live_generation *generation = live_acquire(bench->service.live);
    struct hot_stats stats;
    hot_stats(matrices_hot(generation->contents), &stats);
    live_release(generation);
    assert_int_equal(stats.hits, 40);
    assert_int_equal(stats.misses, 40);
    assert_int_equal(stats.entries, 40);
}

static void test_top_k_and_duplicates(void **state)
{
    struct bench *bench = *state;
    json_t *answer = rank(bench, 200,
        "{\"user\":\"U0\",\"top_k\":2,\"candidates\":[\"N3\",\"N4\",\"N3\",\"N9\",\"N4\",\"N4\"]}");
    check_ranking(json_object_get(answer, "ranking"), &one, "U0", 2);
    json_t *all =
        rank(bench, 200, "{\"user\":\"U0\",\"candidates\":[\"N3\",\"N4\",\"N3\",\"N9\",\"X\",\"X\"]}");
    check_ranking(json_object_get(all, "ranking"), &one, "U0", 3);
    assert_int_equal(json_array_size(json_object_get(all, "missing")), 1);
    assert_string_equal(reason_of(all, "X"), "not_found");
    for (size_t i = 0; i < 2; i++)
        assert_true(json_equal(json_array_get(json_object_get(answer, "ranking"), i),
            json_array_get(json_object_get(all, "ranking"), i)));
    json_decref(answer);
    json_decref(all);
    answer = rank(bench, 200, "{\"user\":\"U0\",\"candidates\":[]}");
    assert_int_equal(json_array_size(json_object_get(answer, "ranking")), 0);
    json_decref(answer);
}

/* A task that keeps its worker busy until it is told to end. */
struct blocker {
    struct pool_task task;
    sem_t begun, end;
};

static void block(struct pool_task *task, struct worker *worker)
{
    struct blocker *blocker = POOL_OWNER(task, struct blocker, task);
    (void)worker;
    sem_post(&blocker->begun);
    while (sem_wait(&blocker->end) < 0)
        ;
}

static void block_workers(struct bench *bench, struct blocker *blockers)
{
    for (size_t i = 0; i < bench->service.worker_count; i++) {
        sem_init(&blockers[i].begun, 0, 0);
        sem_init(&blockers[i].end, 0, 0);
        blockers[i].task.run = block;
        pool_put(bench->service.worker_pool, &blockers[i].task);
        while (sem_wait(&blockers[i].begun) < 0)
            ;
    }
}

/* A request that is begun too late is refused, as is one that finds the queue full, at once. */
static void test_too_busy(void **state)
{
    struct bench *bench = *state;
    static const char body[] =
        "{\"user\":\"U1\",\"candidates\":[\"N1\"],\"explain\":true}"; /* not for a loop */
    struct blocker blockers[64];
    struct bench late = *bench; /* an asker of its own */
    struct http_request request = rank_post(body);
    assert_in_range(bench->service.worker_count, 1, 64);
    sem_init(&late.answered, 0, 0);
    block_workers(bench, blockers);

    request.timeout_ms = 20;
    http_response_reset(&late.call.response);
    late.call.request = request;
    late.call.since_ns = clock_ns();
    late.call.defer = deferred;
    late.call.answer = answered;
    late.call.response.body = (struct writer){0};
    assert_false(router_handle(bench->service.loops, &late.call));

    bench->config.server.queue_max = 1;
    request.timeout_ms = 0;
    send_request(bench, &request);
    assert_true(bench->at_once);
    assert_int_equal(bench->call.response.status, 503);
    bench->config.server.queue_max = 1024;

    nanosleep(&(struct timespec){.tv_nsec = 30 * 1000 * 1000}, NULL);
    for (size_t i = 0; i < bench->service.worker_count; i++)
        sem_post(&blockers[i].end);
    while (sem_wait(&late.answered) < 0)
        ;
    assert_int_equal(late.call.response.status, 503);
    writer_done(&late.call.response.body);
    sem_destroy(&late.answered);

    send_request(bench, &request);
    assert_int_equal(bench->call.response.status, 200);
    const metrics_counter *shed = bench->service.loops->metrics.shed;
    assert_int_equal(shed[METRICS_SHED_QUEUE], 1);
    for (size_t i = 0; i < bench->service.worker_count; i++) {
        sem_destroy(&blockers[i].begun);
        sem_destroy(&blockers[i].end);
    }
}

/* The same matrix under several ids: the order asked decides. */
static void test_ties(void **state)
{
    struct bench *bench = *state;
    static const char *const ids[] = {"T2", "T0", "T3", "T1"};
    float matrix[3 * 24];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    world_matrix(matrix, &one, 'c', "tie", 3, 24);
    for (size_t i = 0; i < 4; i++)
        put(bench, STORE_CONTENT, ids[i], blob, encode(blob, bench, BLOB_CONTENT, ids[i], matrix, 3, 24));
    json_t *answer = rank(bench, 200, "{\"user\":\"U2\",\"candidates\":[\"T2\",\"T0\",\"T3\",\"T1\"]}");
    const json_t *ranking = json_object_get(answer, "ranking");
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(text_of(json_array_get(ranking, i), "id"), ids[i]);
    json_decref(answer);
    answer = rank(bench, 200, "{\"user\":\"U2\",\"top_k\":2,\"candidates\":[\"T1\",\"T3\",\"T0\",\"T2\"]}");
    ranking = json_object_get(answer, "ranking");
    assert_string_equal(text_of(json_array_get(ranking, 0), "id"), "T1");
    assert_string_equal(text_of(json_array_get(ranking, 1), "id"), "T3");
    json_decref(answer);
}

/* Seal a blob again after a field was changed, as a writer with a bug would. */
static void reseal(unsigned char *blob, size_t len)
{
    memset(blob + 32, 0, 8);
    const uint64_t check = XXH3_64bits(blob, len);
    memcpy(blob + 32, &check, sizeof check); /* little-endian machines only, like the rest of this test */
}

static void damage(unsigned char *blob, size_t *len, enum blob_reason reason)
{
    const float nan = NAN, limit = BLOB_LIMIT;
    switch (reason) {
    case BLOB_BAD_MAGIC:
        blob[0] = 'X';
        break;
    case BLOB_BAD_VERSION:
        blob[4] = 2;
        break;
    case BLOB_BAD_KIND:
        blob[5] = 'u';
        break;
    case BLOB_BAD_DTYPE:
        blob[6] = 9;
        break;
    case BLOB_BAD_DIMENSIONS:
        blob[8] = 4;
        break;
    case BLOB_BAD_LENGTH:
        *len -= 4;
        return;
    case BLOB_BAD_OWNER:
        blob[16] ^= 1;
        break;
    case BLOB_BAD_CHECK:
        blob[*len - 1] ^= 1;
        return;
    case BLOB_NOT_FINITE:
        memcpy(blob + BLOB_HEADER, &nan, sizeof nan);
        break;
    case BLOB_BAD_RANGE:
        memcpy(blob + BLOB_HEADER, &limit, sizeof limit);
        break;
    case BLOB_OK:
    case BLOB_REASONS:
        return;
    }
    reseal(blob, *len);
}

static uint64_t blobs_refused(const struct bench *bench, int reason)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < bench->service.reader_count; i++)
        sum += atomic_load(&bench->service.readers[i].metrics.blobs[reason]);
    return sum;
}

static void test_damaged_contents(void **state)
{
    struct bench *bench = *state;
    float matrix[3 * 24];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    for (int reason = BLOB_OK + 1; reason < BLOB_REASONS; reason++) {
        char id[16], body[80];
        snprintf(id, sizeof id, "D%d", reason);
        snprintf(body, sizeof body, "{\"user\":\"U0\",\"candidates\":[\"%s\",\"N1\"]}", id);
        world_matrix(matrix, &one, 'c', id, 3, 24);
        size_t len = encode(blob, bench, BLOB_CONTENT, id, matrix, 3, 24);
        damage(blob, &len, (enum blob_reason)reason);
        put(bench, STORE_CONTENT, id, blob, len);
        json_t *answer = rank(bench, 200, body);
        assert_string_equal(reason_of(answer, id), "corrupt");
        check_ranking(json_object_get(answer, "ranking"), &one, "U0", 1);
        json_decref(answer);
        assert_int_equal(blobs_refused(bench, reason), 1);
    }
    /* Another content's blob under this id, whole and sealed. */
    world_matrix(matrix, &one, 'c', "N2", 3, 24);
    put(bench, STORE_CONTENT, "foreign", blob, encode(blob, bench, BLOB_CONTENT, "N2", matrix, 3, 24));
    put(bench, STORE_CONTENT, "empty", "", 0);
    json_t *answer = rank(bench, 200, "{\"user\":\"U0\",\"candidates\":[\"foreign\",\"empty\"]}");
    assert_string_equal(reason_of(answer, "foreign"), "corrupt");
    assert_string_equal(reason_of(answer, "empty"), "corrupt");
    json_decref(answer);
}

/* A matrix whose products would not be finite spoils nothing for those that are asked for beside it. */
static void test_huge(void **state)
{
    struct bench *bench = *state;
    float matrix[7 * 24];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    for (size_t i = 0; i < 7 * 24; i++)
        matrix[i] = 1;
    for (enum blob_kind kind = BLOB_CONTENT; kind; kind = kind == BLOB_CONTENT ? BLOB_USER : 0) {
        const size_t rows = kind == BLOB_USER ? one.m : one.n;
        const size_t len = encode(blob, bench, kind, "huge", matrix, rows, 24);
        memset(blob + BLOB_HEADER, 0x7E, len - BLOB_HEADER); /* 8e37 everywhere */
        reseal(blob, len);
        put(bench, (enum store_kind)kind, "huge", blob, len);
    }
    json_t *answer =
        rank(bench, 200, "{\"users\":[\"U0\",\"huge\",\"U1\"],\"candidates\":[\"N2\",\"huge\",\"N1\"]}");
    const json_t *results = json_object_get(answer, "results");
    static const char *const whose[] = {"U0", "", "U1"};
    for (size_t u = 0; u < 3; u++)
        check_ranking(json_object_get(json_array_get(results, u), "ranking"), &one, whose[u], 2);
    assert_string_equal(text_of(json_array_get(results, 1), "user_status"), "default");
    assert_string_equal(reason_of(answer, "huge"), "corrupt");
    json_decref(answer);
}

static void test_users(void **state)
{
    struct bench *bench = *state;
    json_t *answer = rank(bench, 200, "{\"user\":\"nobody\",\"candidates\":[\"N1\",\"N2\"]}");
    assert_string_equal(text_of(answer, "user_status"), "default");
    check_ranking(json_object_get(answer, "ranking"), &one, "", 2);
    json_decref(answer);

    answer = rank(
        bench, 200, "{\"users\":[\"U1\",\"nobody\",\"U3\",\"U1\"],\"candidates\":[\"N1\",\"X\",\"N2\"]}");
    const json_t *results = json_object_get(answer, "results");
    assert_int_equal(json_array_size(results), 3);
    static const char *const ids[] = {"U1", "nobody", "U3"}, *const whose[] = {"U1", "", "U3"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *result = json_array_get(results, i);
        assert_string_equal(text_of(result, "user"), ids[i]);
        assert_string_equal(text_of(result, "user_status"), i == 1 ? "default" : "present");
        check_ranking(json_object_get(result, "ranking"), &one, whose[i], 2);
    }
    assert_string_equal(reason_of(answer, "X"), "not_found");
    json_decref(answer);

    bench->config.rank.default_user = false;
    char message[160];
    snprintf(message, sizeof message, "no such user is in generation %s", bench->generation);
    check_message(bench, 404, "{\"user\":\"nobody\",\"candidates\":[\"N1\"]}", message);
    answer = rank(bench, 200, "{\"users\":[\"nobody\",\"U1\"],\"candidates\":[\"N1\"]}");
    results = json_object_get(answer, "results");
    assert_string_equal(text_of(json_array_get(results, 0), "user_status"), "not_found");
    assert_int_equal(json_array_size(json_object_get(json_array_get(results, 0), "ranking")), 0);
    check_ranking(json_object_get(json_array_get(results, 1), "ranking"), &one, "U1", 1);
    json_decref(answer);
}

static void test_damaged_user(void **state)
{
    struct bench *bench = *state;
    put(bench, STORE_USER, "U1", "EMBS", 4);
    json_t *answer = rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\"]}");
    assert_string_equal(text_of(answer, "user_status"), "default");
    assert_true(contains(json_object_get(answer, "degraded"), "user_corrupt"));
    check_ranking(json_object_get(answer, "ranking"), &one, "", 2);
    json_decref(answer);
    answer = ask(bench, 200, "GET", "/users/U1", NULL, NULL);
    assert_string_equal(text_of(answer, "user_status"), "corrupt");
    json_decref(answer);
    bench->config.rank.default_user = false;
    check_message(bench, 503, "{\"user\":\"U1\",\"candidates\":[\"N1\"]}",
        "the user could not be read: the stored matrix is damaged");
    assert_string_equal(bench->call.response.headers[0].name, "Retry-After");
}

static void test_catalogue(void **state)
{
    struct bench *bench = *state;
    char body[1024] = "{\"user\":\"U2\",\"candidates\":[";
    for (int i = 0; i < 40; i++)
        sprintf(body + strlen(body), "%s\"N%d\"", i ? "," : "", i);
    strcat(body, "]}");
    json_t *listed = rank(bench, 200, body), *whole = rank(bench, 200, "{\"user\":\"U2\",\"top_k\":7}");
    const json_t *ranking = json_object_get(whole, "ranking");
    check_ranking(ranking, &one, "U2", 7);
    for (size_t i = 0; i < 7; i++)
        assert_string_equal(text_of(json_array_get(ranking, i), "id"),
            text_of(json_array_get(json_object_get(listed, "ranking"), i), "id"));
    assert_int_equal(json_integer_value(json_object_get(whole, "missing_count")), 0);
    json_decref(listed);
    json_decref(whole);
    whole = rank(bench, 200, "{\"users\":[\"U0\",\"U1\"],\"top_k\":1000}");
    for (size_t i = 0; i < 2; i++)
        check_ranking(json_object_get(json_array_get(json_object_get(whole, "results"), i), "ranking"), &one,
            i ? "U1" : "U0", 40);
    json_decref(whole);
}

static json_t *ranked_in(struct bench *bench, const char *dtype, const char *body)
{
    struct err err = ERR_INIT;
    service_done(&bench->service);
    require(config_set(&bench->config, "scoring.dtype", dtype, &err), &err);
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    json_decref(rank(bench, 200, body)); /* from the store, then from memory */
    json_t *answer = rank(bench, 200, body);
    json_object_del(answer, "generation");
    return answer;
}

/* Rounded numbers give rounded scores; float32 with int8 beside it gives float32's answer to the last bit. */
static void test_dtypes(void **state)
{
    struct bench *bench = *state;
    static const size_t ks[] = {1, 5, 39, 40, 100};
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
        char body[1024] = "{\"user\":\"U1\",\"candidates\":[";
        for (int i = 0; i < 40; i++)
            sprintf(body + strlen(body), "%s\"N%d\"", i ? "," : "", i);
        sprintf(body + strlen(body), "],\"top_k\":%zu}", ks[k]);
        json_t *right = ranked_in(bench, "float32", body), *same = ranked_in(bench, "float32+int8", body);
        assert_true(json_equal(right, same));
        const char *timing = bench->call.response.headers[0].value;
        if (!strstr(timing, "rescored;desc=\""))
            fail_msg("%s", timing);
        json_decref(same);
        static const struct {
            const char *name;
            double bound; /* of a score whose deviation is about 1 */
        } rounded[] = {{"bfloat16", 0.02}, {"int8", 0.1}};
        for (size_t i = 0; i < 2; i++) {
            json_t *answer = ranked_in(bench, rounded[i].name, body);
            const json_t *ranking = json_object_get(answer, "ranking");
            assert_int_equal(json_array_size(ranking), json_array_size(json_object_get(right, "ranking")));
            for (size_t at = 0; at < json_array_size(ranking); at++) {
                const json_t *item = json_array_get(ranking, at);
                const double score = json_number_value(json_object_get(item, "score"));
                const double wanted = world_score(&one, "U1", text_of(item, "id"));
                if (!(fabs(score - wanted) <= rounded[i].bound))
                    fail_msg("%s: %.9g, not %.9g", rounded[i].name, score, wanted);
            }
            json_decref(answer);
        }
        json_decref(right);
    }
}

static void test_explain(void **state)
{
    struct bench *bench = *state;
    json_t *answer =
        rank(bench, 200, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\",\"N3\"],\"explain\":true}");
    const json_t *ranking = json_object_get(answer, "ranking");
    check_ranking(ranking, &one, "U1", 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *item = json_array_get(ranking, i), *weights = json_object_get(item, "weights");
        const json_t *similarities = json_object_get(item, "similarities");
        double sum = 0, score = 0, largest = 0;
        assert_int_equal(json_array_size(weights), one.m);
        for (size_t r = 0; r < one.m; r++) {
            assert_int_equal(json_array_size(json_array_get(weights, r)), one.n);
            for (size_t c = 0; c < one.n; c++) {
                const double weight = json_number_value(json_array_get(json_array_get(weights, r), c));
                sum += weight;
                largest = fmax(largest, weight);
                score += weight * json_number_value(json_array_get(json_array_get(similarities, r), c));
            }
        }
        assert_true(fabs(sum - 1) < 1e-5);
        assert_true(fabs(score - json_number_value(json_object_get(item, "score"))) < 1e-5);
        const json_t *pairs = json_object_get(item, "top_pairs"), *first = json_array_get(pairs, 0);
        assert_int_equal(json_array_size(pairs), 5);
        assert_true(fabs(json_number_value(json_object_get(first, "weight")) - largest) < 1e-6);
        const size_t r = (size_t)json_integer_value(json_object_get(first, "user_code"));
        const size_t c = (size_t)json_integer_value(json_object_get(first, "content_code"));
        assert_true(json_equal(
            json_object_get(first, "similarity"), json_array_get(json_array_get(similarities, r), c)));
    }
    json_decref(answer);
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
        TEST(test_order_and_scores),
        TEST(test_too_busy),
        TEST(test_top_k_and_duplicates),
        TEST(test_ties),
        TEST(test_damaged_contents),
        TEST(test_huge),
        TEST(test_users),
        TEST(test_damaged_user),
        TEST(test_catalogue),
        TEST(test_dtypes),
        TEST(test_explain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

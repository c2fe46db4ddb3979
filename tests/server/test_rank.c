/* The handlers without a socket, on an embedded store in a temporary folder: order, scores, ties, duplicates,
 * damage, users, catalogue, explanations, the switch of generations. */
#include "core/gemm.h"
#include "server/rank.h"
#include "server/router.h"
#include "server/worker.h"
#include "tests/server/world.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct world one = {.m = 5, .n = 3, .d = 24, .users = 4, .contents = 40, .seed = 1};

struct bench {
    char folder[64], url[80], generation[STORE_GENERATION_MAX];
    struct config config;
    struct log log;
    struct store *store; /* for writing */
    struct service service;
    struct worker *worker;
    struct http_response response;
};

static void require(int code, const struct err *err)
{
    if (code < 0)
        fail_msg("%s: %s", err_name(code), err->message);
}

static int setup(void **state)
{
    struct err err = ERR_INIT;
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    strcpy(bench->folder, "/tmp/embsum-test-rank-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    snprintf(bench->url, sizeof bench->url, "lmdb:%s/store", bench->folder);
    require(store_open(&bench->store, bench->url, NULL, &err), &err);
    require(world_publish(&one, bench->store, BLOB_F32, bench->generation, &err), &err);
    config_init(&bench->config);
    require(config_set(&bench->config, "store.url", bench->url, &err), &err);
    bench->log = (struct log){.fd = -1, .level = LOG_ERROR};
    require(service_init(&bench->service, &bench->config, &bench->log, 1, &err), &err);
    require(live_poll(bench->service.live, &err), &err);
    bench->worker = &bench->service.workers[0];
    *state = bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    service_done(&bench->service);
    store_close(bench->store);
    writer_done(&bench->response.body);
    world_remove(bench->folder);
    free(bench);
    return 0;
}

/* ---- asking ---- */

/* The answer to a request as a tree that the caller gives back. */
static json_t *ask(struct bench *bench, unsigned status, const char *method, const char *path,
    const char *query, const char *body)
{
    const struct http_request request = {
        .method = method,
        .path = path,
        .query = query,
        .content_type = body ? "application/json; charset=utf-8" : NULL,
        .framed = body != NULL,
        .body = body ? body : "",
        .body_len = body ? strlen(body) : 0,
        .id = "test-1",
    };
    http_response_reset(&bench->response);
    router_handle(bench->worker, &request, &bench->response);
    const struct writer *text = &bench->response.body;
    assert_false(text->failed);
    json_error_t where;
    json_t *answer = json_loadb(text->data, text->used, JSON_REJECT_DUPLICATES, &where);
    if (!answer)
        fail_msg("%s in %.*s", where.text, (int)text->used, text->data);
    if (bench->response.status != status)
        fail_msg("status %u, not %u: %.*s", bench->response.status, status, (int)text->used, text->data);
    if (status != 200) {
        const json_t *error = json_object_get(answer, "error");
        assert_string_equal(json_string_value(json_object_get(error, "request_id")), "test-1");
        assert_string_equal(json_string_value(json_object_get(error, "code")), http_error_code(status));
    }
    return answer;
}

static json_t *rank(struct bench *bench, unsigned status, const char *body)
{
    return ask(bench, status, "POST", "/rank", NULL, body);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "(none)";
}

static void check_message(struct bench *bench, unsigned status, const char *body, const char *message)
{
    json_t *answer = rank(bench, status, body);
    assert_string_equal(text_of(json_object_get(answer, "error"), "message"), message);
    json_decref(answer);
}

/* Every item's score is the definition's, and the order is right. */
static void check_ranking(const json_t *ranking, const struct world *world, const char *user, size_t count)
{
    assert_int_equal(json_array_size(ranking), count);
    double before = INFINITY;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(ranking, i);
        const double score = json_number_value(json_object_get(item, "score"));
        const double right = world_score(world, user, text_of(item, "id"));
        if (!(fabs(score - right) <= 1e-5 * fmax(1, fabs(right))))
            fail_msg("%s: %.9g, not %.9g", text_of(item, "id"), score, right);
        assert_true(score <= before);
        before = score;
    }
}

static bool contains(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return true;
    return false;
}

/* "not_found", "corrupt", ... for an id in missing. */
static const char *reason_of(const json_t *answer, const char *id)
{
    const json_t *missing = json_object_get(answer, "missing");
    for (size_t i = 0; i < json_array_size(missing); i++)
        if (strcmp(text_of(json_array_get(missing, i), "id"), id) == 0)
            return text_of(json_array_get(missing, i), "reason");
    return "(not missing)";
}

/* ---- writing past the writer, as accidents do ---- */

static void put(struct bench *bench, enum store_kind kind, const char *id, const void *data, size_t len)
{
    struct err err = ERR_INIT;
    struct store_link *link;
    require(store_connect(&link, bench->store, &err), &err);
    const struct store_entry entry = {{id, strlen(id)}, data, len};
    require(store_put(link, bench->generation, kind, &entry, 1, &err), &err);
    store_disconnect(link);
}

/* A blob of a matrix whose owner is owner_id. */
static size_t encode(unsigned char *out, const struct bench *bench, enum blob_kind kind, const char *owner_id,
    const float *matrix, size_t rows, size_t cols)
{
    struct err err = ERR_INIT;
    const struct blob_spec spec = {.kind = kind,
        .dtype = BLOB_F32,
        .rows = rows,
        .cols = cols,
        .generation = bench->generation,
        .id = owner_id,
        .id_len = strlen(owner_id)};
    require(blob_encode(out, &spec, 1, matrix, &err), &err);
    return blob_size(BLOB_F32, rows, cols);
}

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
    hot_stats(generation->hot, &stats);
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
    const float nan = NAN;
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
    case BLOB_OK:
    case BLOB_REASONS:
        return;
    }
    reseal(blob, *len);
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
        assert_int_equal(atomic_load(&bench->worker->metrics.blobs[reason]), 1);
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

/* Finite matrices whose products are not: never a NaN in an answer. */
static void test_overflow(void **state)
{
    struct bench *bench = *state;
    float matrix[3 * 24];
    unsigned char blob[BLOB_HEADER + sizeof matrix];
    for (size_t i = 0; i < 3 * 24; i++)
        matrix[i] = i % 2 ? 3e38f : -3e38f;
    put(bench, STORE_CONTENT, "huge", blob, encode(blob, bench, BLOB_CONTENT, "huge", matrix, 3, 24));
    json_t *answer = rank(bench, 200, "{\"users\":[\"U0\",\"U1\"],\"candidates\":[\"huge\",\"N1\"]}");
    const json_t *results = json_object_get(answer, "results");
    const json_t *missing = json_object_get(answer, "missing");
    for (size_t u = 0; u < 2; u++) {
        const size_t ranked = json_array_size(json_object_get(json_array_get(results, u), "ranking"));
        assert_int_equal(ranked + json_array_size(missing), 2);
    }
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
    assert_string_equal(bench->response.headers[0].name, "Retry-After");
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
    char url[96];
    snprintf(url, sizeof url, "lmdb:%s/empty", bench->folder);
    service_done(&bench->service);
    require(config_set(&bench->config, "store.url", url, &err), &err);
    require(service_init(&bench->service, &bench->config, &bench->log, 1, &err), &err);
    bench->worker = &bench->service.workers[0];
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
        {404, "GET", "/"},
        {404, "GET", "/openapi.json"},
        {404, "GET", "/rank/"},
        {404, "GET", "/ran"},
        {400, "GET", "/users/%zz"},
        {400, "GET", "/users/a%20b"},
        {400, "GET", "/users/%00"},
        {405, "DELETE", "/rank"},
        {405, "POST", "/livez"},
        {405, "PUT", "/users/U1"},
        {411, "POST", "/rank"},
        {200, "HEAD", "/readyz"},
        {200, "GET", "/version"},
        {200, "GET", "/readyz"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_decref(ask(bench, rows[i].status, rows[i].method, rows[i].path, NULL, NULL));
    json_decref(ask(bench, 405, "PATCH", "/rank", NULL, NULL));
    assert_string_equal(bench->response.headers[0].name, "Allow");
    assert_string_equal(bench->response.headers[0].value, "GET, HEAD, POST");
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
        http_response_reset(&bench->response);
        router_handle(bench->worker, &request, &bench->response);
        assert_int_equal(bench->response.status, rows[i].status);
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
    const struct http_request request = {.method = "GET", .path = "/metrics", .id = "x"};
    http_response_reset(&bench->response);
    router_handle(bench->worker, &request, &bench->response);
    assert_int_equal(bench->response.status, 200);
    writer_raw(&bench->response.body, "", 1);
    static const char *const lines[] = {
        "\nembsum_http_requests_total{route=\"/rank\",code=\"200\"} 1\n",
        "\nembsum_http_requests_total{route=\"/rank\",code=\"400\"} 1\n",
        "\nembsum_http_request_duration_seconds_count{route=\"/rank\"} 2\n",
        "\nembsum_scored_total 2\n",
        "\nembsum_missing_total{reason=\"not_found\"} 1\n",
        "\nembsum_hot_entries 2\n",
        "\nembsum_ready 1\n",
        "\nembsum_generation_contents 40\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(bench->response.body.data, lines[i]))
            fail_msg("no%sin\n%s", lines[i], bench->response.body.data);
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
        TEST(test_top_k_and_duplicates),
        TEST(test_ties),
        TEST(test_damaged_contents),
        TEST(test_overflow),
        TEST(test_users),
        TEST(test_damaged_user),
        TEST(test_catalogue),
        TEST(test_explain),
        TEST(test_generations),
        TEST(test_refused_generation),
        TEST(test_not_ready),
        TEST(test_paths),
        TEST(test_content_type),
        TEST(test_query),
        TEST(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

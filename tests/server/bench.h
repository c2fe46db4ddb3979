/* A service of one worker on an embedded store in a temporary folder, asked without a socket. */
#ifndef EMBSUM_TESTS_SERVER_BENCH_H
#define EMBSUM_TESTS_SERVER_BENCH_H

#include "core/gemm.h"
#include "server/clock.h"
#include "server/router.h"
#include "server/worker.h"
#include "tests/lib/scratch.h"
#include "tests/server/world.h"

#include <jansson.h>
#include <math.h>
#include <semaphore.h>

static const struct world one = {.m = 5, .n = 3, .d = 24, .users = 4, .contents = 40, .seed = 1};

struct bench {
    char folder[256], url[272], generation[STORE_GENERATION_MAX];
    struct config config;
    struct log log;
    struct store *store; /* for writing */
    struct service service;
    struct http_call call;
    sem_t answered;
    bool at_once; /* the last request was answered without leaving its loop */
};

static inline void require(int code, const struct err *err)
{
    if (code < 0)
        fail_msg("%s: %s", err_name(code), err->message);
}

/* With the configuration as it is now. */
static inline void start(struct bench *bench)
{
    struct err err = ERR_INIT;
    require(service_init(&bench->service, &bench->config, &bench->log, &err), &err);
}

static inline int setup(void **state)
{
    struct err err = ERR_INIT;
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    scratch_make(bench->folder);
    snprintf(bench->url, sizeof bench->url, "lmdb:%s/store", bench->folder);
    require(store_open(&bench->store, bench->url, NULL, &err), &err);
    require(world_publish(&one, bench->store, BLOB_F32, bench->generation, &err), &err);
    sem_init(&bench->answered, 0, 0);
    config_init(&bench->config);
    require(config_set(&bench->config, "store.url", bench->url, &err), &err);
    bench->config.memory.preload = false;
    bench->config.rank.deadline_ms = 60000; /* a slow machine is no fault; deadlines have tests */
    bench->log = (struct log){.fd = -1, .level = LOG_ERROR};
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
    *state = bench;
    return 0;
}

static inline int teardown(void **state)
{
    struct bench *bench = *state;
    service_done(&bench->service);
    store_close(bench->store);
    writer_done(&bench->call.response.body);
    sem_destroy(&bench->answered);
    scratch_remove(bench->folder);
    free(bench);
    return 0;
}

/* ---- asking ---- */

static inline void deferred(struct http_call *call)
{
    (void)call;
}

static inline void answered(struct http_call *call)
{
    sem_post(&((struct bench *)(void *)((char *)call - offsetof(struct bench, call)))->answered);
}

/* The response is in bench->call. */
static inline void send_request(struct bench *bench, const struct http_request *request)
{
    http_response_reset(&bench->call.response);
    bench->call.request = *request;
    bench->call.since_ns = clock_ns();
    bench->call.defer = deferred;
    bench->call.answer = answered;
    bench->at_once = router_handle(bench->service.loops, &bench->call);
    if (!bench->at_once)
        while (sem_wait(&bench->answered) < 0)
            ;
}

static inline struct http_request rank_post(const char *body)
{
    return (struct http_request){.method = "POST",
        .path = "/rank",
        .content_type = "application/json",
        .framed = true,
        .body = body,
        .body_len = strlen(body),
        .id = "x"};
}

/* The answer to a request as a tree that the caller gives back. */
static inline json_t *ask(struct bench *bench, unsigned status, const char *method, const char *path,
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
    send_request(bench, &request);
    const struct writer *text = &bench->call.response.body;
    assert_false(text->failed);
    json_error_t where;
    json_t *answer = json_loadb(text->data, text->used, JSON_REJECT_DUPLICATES, &where);
    if (!answer)
        fail_msg("%s in %.*s", where.text, (int)text->used, text->data);
    if (bench->call.response.status != status)
        fail_msg("status %u, not %u: %.*s", bench->call.response.status, status, (int)text->used, text->data);
    if (status != 200) {
        const json_t *error = json_object_get(answer, "error");
        assert_string_equal(json_string_value(json_object_get(error, "request_id")), "test-1");
        assert_string_equal(json_string_value(json_object_get(error, "code")), http_error_code(status));
    }
    return answer;
}

static inline json_t *rank(struct bench *bench, unsigned status, const char *body)
{
    return ask(bench, status, "POST", "/rank", NULL, body);
}

static inline const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "(none)";
}

static inline void check_message(struct bench *bench, unsigned status, const char *body, const char *message)
{
    json_t *answer = rank(bench, status, body);
    assert_string_equal(text_of(json_object_get(answer, "error"), "message"), message);
    json_decref(answer);
}

/* Every item's score is the definition's, and the order is right. */
static inline void check_ranking(
    const json_t *ranking, const struct world *world, const char *user, size_t count)
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

static inline bool contains(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return true;
    return false;
}

/* "not_found", "corrupt", ... for an id in missing. */
static inline const char *reason_of(const json_t *answer, const char *id)
{
    const json_t *missing = json_object_get(answer, "missing");
    for (size_t i = 0; i < json_array_size(missing); i++)
        if (strcmp(text_of(json_array_get(missing, i), "id"), id) == 0)
            return text_of(json_array_get(missing, i), "reason");
    return "(not missing)";
}

/* ---- writing past the writer, as accidents do ---- */

static inline void put(
    struct bench *bench, enum store_kind kind, const char *id, const void *data, size_t len)
{
    struct err err = ERR_INIT;
    struct store_link *link;
    require(store_connect(&link, bench->store, &err), &err);
    const struct store_entry entry = {{id, strlen(id)}, data, len};
    require(store_put(link, bench->generation, kind, &entry, 1, &err), &err);
    store_disconnect(link);
}

/* Say in the generation's stream that it changed. */
static inline void note_change(struct bench *bench, enum store_kind kind, const char *id)
{
    struct err err = ERR_INIT;
    struct store_link *link;
    const struct store_change change = {kind, {id, strlen(id)}};
    require(store_connect(&link, bench->store, &err), &err);
    require(store_changes_append(link, bench->generation, &change, 1, &err), &err);
    store_disconnect(link);
}

/* A blob of a matrix whose owner is owner_id. */
static inline size_t encode(unsigned char *out, const struct bench *bench, enum blob_kind kind,
    const char *owner_id, const float *matrix, size_t rows, size_t cols)
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

#endif

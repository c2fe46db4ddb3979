/* Memory that runs out in the daemon: while it starts, loads a generation, ranks, answers over a socket. */
#include "server/http.h"
#include "server/router.h"
#include "server/shadow_int.h"
#include "tests/faults/nomem.h"
#include "tests/server/bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct world small = {
    .m = 3, .n = 2, .d = 8, .users = 4, .contents = 40, .categories = 3, .seed = 1};
static const struct world other = {
    .m = 3, .n = 2, .d = 8, .users = 4, .contents = 40, .categories = 3, .seed = 2};

static struct bench bench;
static char second[STORE_GENERATION_MAX];

/* ---- a service, new for each n ---- */

static void open_service(bool preload)
{
    struct err err = ERR_INIT;
    bench.config.memory.preload = preload;
    nomem_require(service_init(&bench.service, &bench.config, &bench.log, &err), &err);
}

static void close_service(void)
{
    service_done(&bench.service);
    writer_done(&bench.call.response.body);
}

static void open_loaded(bool preload)
{
    struct err err = ERR_INIT;
    open_service(preload);
    nomem_require(live_poll(bench.service.live, &err), &err);
}

static void before_warm(void)
{
    open_loaded(true);
}

static void before_cold(void)
{
    open_loaded(false);
}

static void before_empty(void)
{
    open_service(true);
}

/* ---- requests ---- */

/* What run() asks, and what is right to answer: 200 with all of it, or an error of 500 and above in JSON. Buffers that could
 * not grow are a failure that http.c answers with 500, or with the end of the connection. */
static const char *body, *path, *query;
static bool admin;

static int send_one(struct err *err)
{
    const struct http_request request = {
        .method = body ? "POST" : "GET",
        .path = path,
        .query = query,
        .content_type = body ? "application/json" : NULL,
        .framed = body != NULL,
        .body = body ? body : "",
        .body_len = body ? strlen(body) : 0,
        .id = "nomem",
    };
    if (admin) {
        http_response_reset(&bench.call.response);
        bench.call.request = request;
        bench.call.defer = deferred;
        bench.call.answer = answered;
        router_handle_admin(bench.service.admin, &bench.call);
    } else {
        send_request(&bench, &request);
    }
    const struct http_response *response = &bench.call.response;
    if (response->body.failed)
        return err_set(err, ERR_NOMEM, "the answer's buffer could not grow");
    if (response->status == 200)
        return 0;
    if (response->status < 500)
        return 1; /* it is not the client's fault */
    if (!memmem(response->body.data, response->body.used, "\"error\"", 7))
        return 1;
    return err_set(err, response->status == 503 ? ERR_UNAVAILABLE : ERR_NOMEM, "status %u: %.*s",
        response->status, (int)response->body.used, response->body.data);
}

static bool degraded_allowed;
static size_t ranked;

/* Scores are right, and of the generation that the answer names; what is left out is said to be, and why. */
static void answer_is_right(int code)
{
    if (code < 0)
        return;
    const struct writer *text = &bench.call.response.body;
    json_t *answer = json_loadb(text->data, text->used, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(answer);
    if (getenv("EMBSUM_NOMEM"))
        print_message("%.*s\n", (int)text->used, text->data);
    const json_t *results = json_object_get(answer, "results");
    const json_t *result = results ? json_array_get(results, 1) : answer;
    const json_t *ranking = json_object_get(result, "ranking");
    const char *user = text_of(result, "user");
    assert_string_equal(user, results ? "U2" : "U1");
    const struct world *world =
        strcmp(text_of(answer, "generation"), bench.generation) == 0 ? &small : &other;
    const bool degraded = json_object_get(answer, "degraded") || json_object_get(result, "degraded");
    assert_true(degraded_allowed || !degraded);
    if (degraded)
        assert_true(json_array_size(ranking) <= ranked);
    check_ranking(ranking, world, user, degraded ? json_array_size(ranking) : ranked);
    json_decref(answer);
}

static void request_test(const char *name, const char *asked, void (*before)(void), size_t count)
{
    const struct nomem_scenario s = {
        .name = name, .before = before, .after = close_service, .run = send_one, .verify = answer_is_right};
    path = "/rank";
    body = asked;
    query = NULL;
    ranked = count;
    nomem_test(&s);
}

#define SOME "\"candidates\":[\"N1\",\"N2\",\"N3\",\"N5\",\"N8\",\"N13\",\"absent\"]"

static void test_rank_hot(void **state)
{
    (void)state;
    degraded_allowed = true; /* "absent" is asked of the store */
    request_test("rank, all in memory",
        "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\",\"N3\",\"N5\",\"N8\",\"N13\"]}", before_warm, 6);
}

static void test_rank_misses(void **state)
{
    (void)state;
    request_test("rank, nothing in memory", "{\"user\":\"U1\"," SOME "}", before_cold, 6);
}

static void test_explain(void **state)
{
    (void)state;
    request_test("explain", "{\"user\":\"U1\",\"explain\":true," SOME "}", before_cold, 6);
}

static void test_titles(void **state)
{
    (void)state;
    request_test("titles", "{\"user\":\"U1\",\"titles\":true," SOME "}", before_cold, 6);
    request_test(
        "titles and explain", "{\"user\":\"U1\",\"titles\":true,\"explain\":true," SOME "}", before_cold, 6);
}

static void test_catalogue(void **state)
{
    (void)state;
    request_test("the whole catalogue", "{\"user\":\"U1\",\"top_k\":40}", before_cold, 40);
}

static void test_category(void **state)
{
    (void)state;
    request_test("a category", "{\"user\":\"U1\",\"top_k\":40,\"category\":\"topic 0\",\"exclude\":[\"N3\"]}",
        before_cold, 13);
}

static void test_users(void **state)
{
    (void)state;
    request_test("several users", "{\"users\":[\"U1\",\"U2\",\"U3\"]," SOME "}", before_cold, 6);
}

/* ---- ranked on another generation as well ---- */

static void before_shadow(void)
{
    struct err err = ERR_INIT;
    open_loaded(false);
    nomem_require(shadow_poll(bench.service.shadow, &err), &err);
}

/* The answer, and what comes after it. */
static int send_sampled(struct err *err)
{
    const int code = send_one(err);
    for (size_t i = 0; i < SHADOW_QUEUE; i++)
        while (atomic_load(&bench.service.shadow->samples[i].state) != SHADOW_FREE)
            usleep(100);
    return code;
}

static void shadow_test(const char *name, const char *asked, size_t count)
{
    const struct nomem_scenario s = {.name = name,
        .before = before_shadow,
        .after = close_service,
        .run = send_sampled,
        .verify = answer_is_right};
    path = "/rank";
    body = asked;
    query = NULL;
    ranked = count;
    nomem_test(&s);
}

static void test_shadow(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    char name[STORE_GENERATION_MAX];
    degraded_allowed = true;
    bench.config.shadow.share = 1;
    nomem_require(world_write(&other, bench.store, BLOB_F32, false, name, &err), &err);
    shadow_test("candidates, and the shadow's",
        "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\",\"N3\",\"N4\",\"N5\",\"N6\",\"N7\",\"N8\",\"N9\","
        "\"N10\","
        "\"N11\",\"N12\",\"absent\"]}",
        12);
    shadow_test("a catalogue, and the shadow's", "{\"user\":\"U1\",\"top_k\":40,\"exclude\":[\"N3\"]}", 39);
    bench.config.shadow.share = 0;
    nomem_require(generation_drop(bench.store, name, &err), &err);
}

/* ---- pages ---- */

static void page_test(const char *name, const char *page, const char *arguments, bool of_admin)
{
    const struct nomem_scenario s = {
        .name = name, .before = before_cold, .after = close_service, .run = send_one};
    path = page;
    query = arguments;
    body = NULL;
    admin = of_admin;
    nomem_test(&s);
    admin = false;
}

static void test_pages(void **state)
{
    (void)state;
    page_test("/metrics", "/metrics", NULL, false);
    page_test("/users/U0", "/users/U0", NULL, false);
    page_test("/contents/N1", "/contents/N1", NULL, false);
    page_test("/readyz", "/readyz", NULL, false);
    page_test("/version", "/version", NULL, false);
    page_test("/hot", "/hot", "kind=content&prefix=N%31", false);
    page_test("the console", "/console.js", NULL, false);
    page_test("GET /rank", "/rank", "user=U1&candidates=N1%2CN2,N3&top_k=2", false);
    page_test("admin: /generations", "/generations", NULL, true);
}

/* ---- starting ---- */

static int start_service(struct err *err)
{
    const int code = service_init(&bench.service, &bench.config, &bench.log, err);
    if (code < 0)
        service_done(&bench.service);
    return code;
}

static void service_started(int code)
{
    if (code == 0)
        service_done(&bench.service);
}

static void test_start(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "start the daemon's parts", .run = start_service, .verify = service_started};
    nomem_test(&s);
}

/* ---- loading ---- */

static int load(struct err *err)
{
    return live_poll(bench.service.live, err);
}

/* What was in memory before still ranks; what is in memory now ranks right. */
static void loaded(int code)
{
    struct live_generation *generation = live_acquire(bench.service.live);
    assert_true(code < 0 || generation);
    live_release(generation);
    if (!generation)
        return;
    struct err err = ERR_INIT;
    path = "/rank";
    body = "{\"user\":\"U1\"," SOME "}";
    ranked = 6;
    nomem_require(send_one(&err), &err);
    answer_is_right(0);
}

static void test_load(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "load a generation",
        .before = before_empty,
        .after = close_service,
        .run = load,
        .verify = loaded};
    nomem_test(&s);
}

/* The live pointer moves on: the one before stays in memory until the next is whole. */
static void before_switch(void)
{
    struct err err = ERR_INIT;
    nomem_require(generation_promote(bench.store, bench.generation, &err), &err);
    open_loaded(true);
    nomem_require(generation_promote(bench.store, second, &err), &err);
}

static void switched(int code)
{
    struct live_generation *generation = live_acquire(bench.service.live);
    assert_non_null(generation);
    assert_string_equal(
        generation->name, code < 0 && strcmp(generation->name, second) ? bench.generation : second);
    live_release(generation);
    loaded(code);
}

static void test_switch(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "switch to a generation",
        .before = before_switch,
        .after = close_service,
        .run = load,
        .verify = switched};
    struct err err = ERR_INIT;
    nomem_require(world_publish(&other, bench.store, BLOB_F32, second, &err), &err);
    nomem_test(&s);
    nomem_require(generation_promote(bench.store, bench.generation, &err), &err);
}

static void before_change(void)
{
    before_warm();
    for (size_t i = 0; i < 6; i++)
        note_change(&bench, i % 2 ? STORE_USER : STORE_CONTENT, i % 2 ? "U1" : "N2");
    note_change(&bench, STORE_CATEGORY, "topic 1");
}

static void test_changes(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "follow changes",
        .before = before_change,
        .after = close_service,
        .run = load,
        .verify = loaded};
    nomem_test(&s);
}

/* ---- over a socket ---- */

static struct http *http;

static bool handle(void *loop, struct http_call *call)
{
    return router_handle(loop, call);
}

static void count_refused(void *loop, struct http_call *call)
{
    (void)loop;
    (void)call;
}

static int open_http(struct err *err)
{
    void *loops[] = {&bench.service.loops[0]};
    const struct http_options options = {
        .listen = "127.0.0.1:0",
        .loops = loops,
        .loop_count = 1,
        .handle = handle,
        .refused = count_refused,
        .connections_max = 16,
        .body_max = 65536,
        .header_max = 16384,
        .bodies_max = 1 << 20,
        .idle_timeout_ms = 5000,
        .header_timeout_ms = 5000,
        .body_timeout_ms = 5000,
        .write_timeout_ms = 5000,
    };
    struct http *fresh;
    int code = http_open(&fresh, &options, err);
    if (code < 0)
        return code;
    code = http_start(fresh, err);
    if (code < 0)
        http_free(fresh);
    else
        http = fresh;
    return code;
}

static void close_http(void)
{
    http_drain(http, 5000);
    http_stop(http);
    http_free(http);
}

static void http_opened(int code)
{
    if (code == 0)
        close_http();
}

static void test_listen(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {.name = "listen",
        .before = before_warm,
        .after = close_service,
        .run = open_http,
        .verify = http_opened};
    nomem_test(&s);
}

/* A request and its answer: 200, 5xx, or the connection's end. */
static int ask_once(struct err *err)
{
    static const char request[] =
        "POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: 45\r\n\r\n{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\",\"N100\"]}";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)atoi(strrchr(http_address(http), ':') + 1));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = 20};
    char answer[8192];
    size_t used = 0;
    ssize_t got = -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1)
        while (used < sizeof answer - 1 && (got = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0)
            used += (size_t)got;
    const bool late = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    close(fd);
    answer[used] = '\0';
    if (late)
        return 1;
    if (strncmp(answer, "HTTP/1.1 200", 12) == 0)
        return strstr(answer, "\"ranking\"") ? 0 : 1;
    if (used && strncmp(answer, "HTTP/1.1 5", 10) != 0)
        return 1;
    return err_set(err, ERR_NOMEM, "%.12s", used ? answer : "closed");
}

static void before_socket(void)
{
    struct err err = ERR_INIT;
    before_warm();
    nomem_require(open_http(&err), &err);
}

static void after_socket(void)
{
    close_http();
    close_service();
}

static void test_socket(void **state)
{
    (void)state;
    static const struct nomem_scenario s = {
        .name = "a request over a socket", .before = before_socket, .after = after_socket, .run = ask_once};
    nomem_test(&s);
}

/* ---- */

static int prepare_bench(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    nomem_folder(bench.folder);
    snprintf(bench.url, sizeof bench.url, "lmdb:%s/store", bench.folder);
    nomem_require(store_open(&bench.store, bench.url, NULL, &err), &err);
    nomem_require(world_publish(&small, bench.store, BLOB_F32, bench.generation, &err), &err);
    sem_init(&bench.answered, 0, 0);
    config_init(&bench.config);
    nomem_require(config_set(&bench.config, "store.url", bench.url, &err), &err);
    bench.config.server.workers = bench.config.server.io_threads = 1;
    bench.config.store.retry_min_ms = bench.config.store.retry_max_ms = 1;
    bench.config.rank.deadline_ms = 20000; /* a busy machine is no fault */
    bench.log = (struct log){.fd = -1, .level = LOG_ERROR};
    return 0;
}

static int remove_bench(void **state)
{
    (void)state;
    store_close(bench.store);
    scratch_remove(bench.folder);
    return 0;
}

int main(void)
{
    if (!nomem_possible())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_rank_hot),
        cmocka_unit_test(test_rank_misses),
        cmocka_unit_test(test_shadow),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_titles),
        cmocka_unit_test(test_catalogue),
        cmocka_unit_test(test_category),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_switch),
        cmocka_unit_test(test_listen),
        cmocka_unit_test(test_socket),
    };
    return cmocka_run_group_tests(tests, prepare_bench, remove_bench);
}

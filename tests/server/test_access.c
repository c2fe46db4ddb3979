/* The access log: what a line says and what it does not, hostile texts, how many errors, a reader that does not read, a file
 * that is renamed, and the ring between the threads. */
#include "tests/server/bench.h"

#include "server/access_ring.h"
#include "server/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bench once more, with an access log. */
static void restart(struct bench *bench, const char *where, bool users)
{
    struct err err = ERR_INIT;
    service_done(&bench->service);
    require(config_set(&bench->config, "log.access", where, &err), &err);
    bench->config.log.access_users = users;
    start(bench);
    require(live_poll(bench->service.live, &err), &err);
}

static const char *log_path(const struct bench *bench)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/access.log", bench->folder);
    return path;
}

static json_t *parse_lines(char *text)
{
    json_t *lines = json_array();
    for (char *at = text, *end; *at; at = end + 1) {
        end = strchr(at, '\n');
        if (!end)
            fail_msg("a line without its end: %s", at);
        for (const char *c = at; c < end; c++)
            assert_true((unsigned char)*c >= ' ' && *c != 0x7F);
        json_error_t where;
        json_t *line = json_loadb(at, (size_t)(end - at), JSON_REJECT_DUPLICATES, &where);
        if (!line)
            fail_msg("%s: %.*s", where.text, (int)(end - at), at);
        json_array_append_new(lines, line);
    }
    return lines;
}

static char *read_all(const char *path)
{
    struct stat about;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &about) == 0);
    char *text = calloc(1, (size_t)about.st_size + 1);
    assert_non_null(text);
    assert_int_equal(read(fd, text, (size_t)about.st_size), about.st_size);
    close(fd);
    return text;
}

/* Stop the service, which writes what is left, and read what is there. */
static json_t *end_and_read(struct bench *bench)
{
    service_done(&bench->service);
    char *text = read_all(log_path(bench));
    json_t *lines = parse_lines(text);
    free(text);
    return lines;
}

static json_int_t number_of(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Lines of different threads are in no order. */
static const json_t *line_of(const json_t *lines, const char *id)
{
    for (size_t i = 0; i < json_array_size(lines); i++)
        if (strcmp(text_of(json_array_get(lines, i), "request_id"), id) == 0)
            return json_array_get(lines, i);
    fail_msg("no line of request %s", id);
    return NULL;
}

static void ask_as(struct bench *bench, unsigned status, const char *id, const char *method, const char *path,
    const char *query, const char *body)
{
    const struct http_request request = {.method = method,
        .path = path,
        .query = query,
        .content_type = body ? "application/json" : NULL,
        .framed = body != NULL,
        .body = body ? body : "",
        .body_len = body ? strlen(body) : 0,
        .id = id};
    send_request(bench, &request);
    assert_int_equal(bench->call.response.status, status);
}

static void check_keys(const json_t *line, const char *const *keys)
{
    size_t count = 0;
    for (; keys[count]; count++)
        if (!json_object_get(line, keys[count]))
            fail_msg("no %s in %s", keys[count], json_dumps(line, 0));
    if (json_object_size(line) != count)
        fail_msg("more than expected in %s", json_dumps(line, 0));
}

static void test_fields(void **state)
{
    static const char *const plain[] = {
        "ts", "level", "msg", "request_id", "method", "path", "route", "status", "bytes", "us", NULL};
    static const char *const ranked[] = {"ts", "level", "msg", "request_id", "method", "path", "route",
        "status", "bytes", "us", "generation", "users", "present", "candidates", "missing", "parse_us",
        "fetch_us", "score_us", "write_us", NULL};
    static const char *const traced[] = {"ts", "level", "msg", "request_id", "client", "method", "path",
        "route", "status", "bytes", "us", "trace_id", "parent_id", "span_id", NULL};
    struct bench *bench = *state;
    restart(bench, log_path(bench), false);
    ask_as(
        bench, 200, "one", "POST", "/rank", NULL, "{\"user\":\"U1\",\"candidates\":[\"N1\",\"N2\",\"X\"]}");
    const size_t bytes = bench->call.response.body.used;
    ask_as(bench, 200, "several", "POST", "/rank", NULL,
        "{\"users\":[\"U1\",\"secret\",\"U2\"],\"candidates\":[\"N1\"]}");
    ask_as(bench, 200, "query", "GET", "/rank", "user=U3&candidates=N1&top_k=1", NULL);
    ask_as(bench, 200, "summary", "GET", "/users/U2", NULL, NULL);
    ask_as(bench, 404, "mistyped", "GET", "/user/U2/x", NULL, NULL);
    ask_as(bench, 400, "wrong", "POST", "/rank", NULL, "{\"user\":\"U1\"}");
    const struct trace trace = {
        "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331", true};
    const struct http_request request = {
        .method = "HEAD", .path = "/livez", .id = "traced", .trace = &trace, .client = "::1"};
    send_request(bench, &request);
    const char *const generation = bench->generation;
    json_t *lines = end_and_read(bench);
    assert_int_equal(json_array_size(lines), 7);

    const json_t *line = line_of(lines, "one");
    check_keys(line, ranked);
    assert_string_equal(text_of(line, "msg"), "request");
    assert_string_equal(text_of(line, "level"), "info");
    assert_string_equal(text_of(line, "request_id"), "one");
    assert_string_equal(text_of(line, "method"), "POST");
    assert_string_equal(text_of(line, "path"), "/rank");
    assert_string_equal(text_of(line, "route"), "/rank");
    assert_string_equal(text_of(line, "generation"), generation);
    assert_int_equal(number_of(line, "status"), 200);
    assert_int_equal(number_of(line, "bytes"), bytes);
    assert_int_equal(number_of(line, "users"), 1);
    assert_int_equal(number_of(line, "present"), 1);
    assert_int_equal(number_of(line, "candidates"), 3);
    assert_int_equal(number_of(line, "missing"), 1);
    assert_true(number_of(line, "us") >= number_of(line, "score_us"));
    assert_int_equal(strlen(text_of(line, "ts")), strlen("2026-11-24T03:00:00.123Z"));

    line = line_of(lines, "several");
    assert_int_equal(number_of(line, "users"), 3);
    assert_int_equal(number_of(line, "present"), 2);
    assert_string_equal(text_of(line_of(lines, "query"), "path"), "/rank");
    check_keys(line_of(lines, "summary"), plain);
    assert_string_equal(text_of(line_of(lines, "summary"), "path"), "/users/{id}");
    assert_string_equal(text_of(line_of(lines, "mistyped"), "path"), "/user");
    assert_string_equal(text_of(line_of(lines, "mistyped"), "route"), "other");
    check_keys(line_of(lines, "wrong"), plain);
    line = line_of(lines, "traced");
    check_keys(line, traced);
    assert_int_equal(number_of(line, "bytes"), 0);
    assert_string_equal(text_of(line, "client"), "::1");
    assert_string_equal(text_of(line, "trace_id"), trace.trace_id);
    assert_string_equal(text_of(line, "parent_id"), trace.parent_id);
    assert_string_equal(text_of(line, "span_id"), trace.span_id);

    char *text = json_dumps(lines, 0); /* nothing says who */
    for (const char *const *id = (const char *const[]){"U1", "U2", "U3", "secret", "top_k", NULL}; *id; id++)
        assert_null(strstr(text, *id));
    free(text);
    json_decref(lines);
    start(bench);
}

static void test_users_where_asked_for(void **state)
{
    static const char *const ids[] = {
        "U1", "a\"b", "back\\slash", "\",\"level\":\"fatal", "\xc3\xa9\xe2\x82\xac", "%s%n", "{}"};
    enum { COUNT = sizeof ids / sizeof *ids };
    struct bench *bench = *state;
    restart(bench, log_path(bench), true);
    for (size_t i = 0; i < COUNT; i++) {
        json_t *asked = json_pack("{s:s, s:[s]}", "user", ids[i], "candidates", "N1");
        char *body = json_dumps(asked, 0);
        char id[2] = {(char)('a' + i)};
        ask_as(bench, 200, id, "POST", "/rank", NULL, body);
        free(body);
        json_decref(asked);
    }
    ask_as(bench, 200, "summary", "GET", "/users/U2", NULL, NULL);
    json_t *lines = end_and_read(bench);
    assert_int_equal(json_array_size(lines), COUNT + 1);
    for (size_t i = 0; i < COUNT; i++) {
        const json_t *line = line_of(lines, (char[2]){(char)('a' + i)});
        assert_string_equal(text_of(line, "user"), ids[i]);
        assert_string_equal(text_of(line, "level"), "info");
        assert_int_equal(number_of(line, "present"), i == 0);
    }
    assert_string_equal(text_of(line_of(lines, "summary"), "path"), "/users/U2");
    json_decref(lines);
    start(bench);
}

/* Whatever a client sends where texts stand: one line, with the other fields as they are; the longest fit. */
static void test_hostile_texts(void **state)
{
    struct bench *bench = *state;
    char any[256], path[1024], method[600], id[HTTP_ID_MAX + 1];
    restart(bench, log_path(bench), true);
    for (unsigned i = 1; i < 256; i++)
        any[i - 1] = (char)i;
    any[255] = '\0';
    memset(path, '"', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    memset(method, 1, sizeof method - 1);
    method[sizeof method - 1] = '\0';
    memset(id, '\\', HTTP_ID_MAX);
    id[HTTP_ID_MAX] = '\0';
    const struct http_request requests[] = {
        {.method = "GET", .path = any, .id = "1", .client = "10.0.0.1"},
        {.method = method, .path = path, .id = id, .client = "10.0.0.1"},
        {.method = "GET", .path = "", .id = "3", .client = "10.0.0.1"},
        {.method = "G\"}\n{\"", .path = "/\",\"status\":200,\"x\":\"", .id = "4\"", .client = "10.0.0.1"},
    };
    for (size_t i = 0; i < 4; i++)
        send_request(bench, &requests[i]);
    json_t *lines = end_and_read(bench);
    assert_int_equal(json_array_size(lines), 4);
    for (size_t i = 0; i < 4; i++) {
        const json_t *line = json_array_get(lines, i);
        assert_int_equal(number_of(line, "status"), 404);
        assert_string_equal(text_of(line, "client"), "10.0.0.1");
        assert_string_equal(text_of(line, "request_id"), requests[i].id);
    }
    assert_string_equal(text_of(json_array_get(lines, 3), "path"), requests[3].path);
    json_decref(lines);
    start(bench);
}

/* Ten a second in each thread; the next line tells how many there were. */
static void test_errors_are_few(void **state)
{
    enum { ERRORS = 300 };
    struct bench *bench = *state;
    struct worker *loop;
    restart(bench, log_path(bench), false);
    loop = bench->service.loops;
    for (size_t i = 0; i < ERRORS; i++)
        json_decref(ask(bench, 404, "GET", "/nothing", NULL, NULL));
    for (size_t i = 0; i < 20; i++) /* those that are none are all there */
        json_decref(ask(bench, 200, "GET", "/livez", NULL, NULL));
    usleep(1100000);
    json_decref(ask(bench, 404, "GET", "/nothing", NULL, NULL));
    const size_t limited = (size_t)atomic_load(&loop->metrics.unlogged[METRICS_LOG_LIMITED]);
    json_t *lines = end_and_read(bench);
    size_t errors = 0, fine = 0, left_out = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        errors += number_of(line, "status") == 404;
        fine += number_of(line, "status") == 200;
        left_out += number_of(line, "left_out") > 0 ? (size_t)number_of(line, "left_out") : 0;
    }
    assert_int_equal(fine, 20);
    assert_int_equal(errors + limited, ERRORS + 1);
    assert_int_equal(left_out, limited);
    assert_true(limited >= ERRORS - 40 && limited > 0); /* a machine that takes four seconds for it */
    json_decref(lines);
    start(bench);
}

/* Nobody reads: requests are answered all the same, and what is left out is counted; what is there is whole. */
static void test_reader_that_does_not_read(void **state)
{
    enum { REQUESTS = 6000 };
    struct bench *bench = *state;
    int ends[2];
    char where[32];
    assert_int_equal(pipe(ends), 0);
    snprintf(where, sizeof where, "fd:%d", ends[1]);
    restart(bench, where, false);
    struct worker *loop = bench->service.loops;
    for (size_t i = 0; i < REQUESTS; i++)
        json_decref(ask(bench, 200, "GET", "/livez", NULL, NULL));
    const size_t dropped = (size_t)atomic_load(&loop->metrics.unlogged[METRICS_LOG_FULL]);
    assert_true(dropped > 0 && dropped < REQUESTS);

    char *text = calloc(1, REQUESTS * 512);
    size_t used = 0;
    assert_non_null(text);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    const uint64_t until = clock_ms() + 60000;
    for (bool all = false; !all && clock_ms() < until;) { /* now somebody does */
        all = access_lines(bench->service.access) + dropped == REQUESTS;
        for (ssize_t got; (got = read(ends[0], text + used, REQUESTS * 512 - used - 1)) > 0;)
            used += (size_t)got;
        if (!all)
            usleep(10000);
    }
    assert_int_equal(access_lines(bench->service.access) + dropped, REQUESTS);
    json_t *lines = parse_lines(text);
    assert_int_equal(json_array_size(lines), REQUESTS - dropped);
    json_decref(lines);
    free(text);

    for (size_t i = 0; i < REQUESTS; i++) /* and the end does not wait for who has gone to sleep again */
        json_decref(ask(bench, 200, "GET", "/livez", NULL, NULL));
    const uint64_t before = clock_ms();
    service_done(&bench->service);
    assert_true(clock_ms() - before < 20000);
    close(ends[0]);
    close(ends[1]);
    require(config_set(&bench->config, "log.access", "", &(struct err)ERR_INIT), &(struct err)ERR_INIT);
    start(bench);
}

static bool holds(const char *path, const char *what)
{
    if (access(path, F_OK) < 0)
        return false;
    char *text = read_all(path);
    const bool there = strstr(text, what) != NULL;
    free(text);
    return there;
}

/* Renamed, its name stands for a new file soon, and nothing is lost between. */
static void test_renamed(void **state)
{
    struct bench *bench = *state;
    char old[310];
    restart(bench, log_path(bench), false);
    snprintf(old, sizeof old, "%s.1", log_path(bench));
    ask_as(bench, 200, "first", "GET", "/livez", NULL, NULL);
    assert_int_equal(rename(log_path(bench), old), 0);
    size_t asked = 1;
    for (; asked < 3000 && !holds(log_path(bench), "later"); asked++) {
        ask_as(bench, 200, "later", "GET", "/livez", NULL, NULL);
        usleep(10000);
    }
    json_t *lines = end_and_read(bench);
    char *text = read_all(old);
    json_t *before = parse_lines(text);
    assert_string_equal(text_of(json_array_get(before, 0), "request_id"), "first");
    assert_true(json_array_size(lines) > 0);
    assert_int_equal(json_array_size(before) + json_array_size(lines), asked);
    json_decref(before);
    json_decref(lines);
    free(text);
    start(bench);
}

/* A disk that is full is said once, and harms nobody but the log. */
static void test_full_disk(void **state)
{
    enum { REQUESTS = 3000 };
    struct bench *bench = *state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    bench->log = (struct log){.fd = ends[1], .level = LOG_ERROR};
    restart(bench, "/dev/full", false);
    for (size_t i = 0; i < REQUESTS; i++)
        json_decref(ask(bench, 200, "GET", "/livez", NULL, NULL));
    assert_int_equal(access_lines(bench->service.access), 0);
    assert_true(atomic_load(&bench->service.loops->metrics.unlogged[METRICS_LOG_FULL]) > 0);
    service_done(&bench->service);
    bench->log.fd = -1;
    close(ends[1]);
    char text[4096] = "";
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    json_t *lines = parse_lines(text);
    assert_int_equal(json_array_size(lines), 1);
    assert_string_equal(text_of(json_array_get(lines, 0), "detail"), "log.access: No space left on device");
    json_decref(lines);
    close(ends[0]);
    start(bench);
}

static void test_where(void **state)
{
    struct bench *bench = *state;
    static const char *const refused[] = {
        "stdout", "access.log", "fd:", "fd:x", "fd:-1", "fd:12345", "/", "/var/log/", "FD:2"};
    struct config config;
    struct err err = ERR_INIT;
    config_init(&config);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(config_set(&config, "log.access", refused[i], &err), -ERR_INVALID);
    struct access *access = NULL;
    assert_int_equal(access_open(&access, &config, &bench->log, 1, &err), 0);
    assert_null(access);
    for (const char *const *bad = (const char *const[]){"fd:987", "/nonexistent/access.log", NULL}; *bad;
         bad++) {
        require(config_set(&config, "log.access", *bad, &err), &err);
        assert_true(access_open(&access, &config, &bench->log, 1, &err) < 0);
        assert_null(access);
        assert_non_null(strstr(err.message, *bad));
    }
}

/* ---- the ring ---- */

enum { RING = 1024, RECORDS = 200000 };

static uint64_t next(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

struct record {
    unsigned char bytes[200];
    size_t len;
};

static void make(struct record *record, uint64_t *x)
{
    record->len = 1 + next(x) % sizeof record->bytes;
    for (size_t i = 0; i < record->len; i++)
        record->bytes[i] = (unsigned char)(record->len + i);
}

static void *put_all(void *ctx)
{
    struct access_ring *ring = ctx;
    struct record record;
    uint64_t x = 7;
    for (size_t i = 0; i < RECORDS; i++) {
        make(&record, &x);
        const size_t half = record.len / 2;
        const struct access_piece pieces[] = {
            {record.bytes, half}, {NULL, 0}, {record.bytes + half, record.len - half}};
        while (!access_ring_put(ring, pieces, 3))
            sched_yield();
    }
    return NULL;
}

static void test_ring(void **state)
{
    (void)state;
    struct access_ring ring;
    struct record record;
    pthread_t thread;
    unsigned char got[256];
    uint64_t x = 7;
    assert_true(access_ring_init(&ring, RING));
    assert_int_equal(access_ring_take(&ring, got, sizeof got), 0);
    assert_int_equal(pthread_create(&thread, NULL, put_all, &ring), 0);
    for (size_t i = 0; i < RECORDS; i++) {
        size_t len;
        make(&record, &x);
        while (!(len = access_ring_take(&ring, got, sizeof got)))
            sched_yield();
        assert_int_equal(len, record.len);
        assert_memory_equal(got, record.bytes, len);
    }
    pthread_join(thread, NULL);
    assert_int_equal(access_ring_take(&ring, got, sizeof got), 0);

    /* To the last byte, and not one more. */
    unsigned char whole[RING] = {0};
    assert_false(
        access_ring_put(&ring, (const struct access_piece[]){{whole, RING - sizeof(size_t) + 1}}, 1));
    assert_false(access_ring_is_half_full(&ring));
    assert_true(access_ring_put(&ring, (const struct access_piece[]){{whole, RING - sizeof(size_t)}}, 1));
    assert_true(access_ring_is_half_full(&ring));
    assert_false(access_ring_put(&ring, (const struct access_piece[]){{whole, 0}}, 1));
    access_ring_done(&ring);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_fields),
        TEST(test_users_where_asked_for),
        TEST(test_hostile_texts),
        TEST(test_errors_are_few),
        TEST(test_reader_that_does_not_read),
        TEST(test_renamed),
        TEST(test_full_disk),
        TEST(test_where),
        cmocka_unit_test(test_ring),
    };
    struct err err = ERR_INIT;
    require(gemm_init(&err), &err);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

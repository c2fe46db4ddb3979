#include "server/http.h"

#include "server/acceptor.h"
#include "server/clock.h"
#include "server/http_guard.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a client may send beyond the body limit and still read our 413: a socket closed with unread bytes
 * resets the connection, and the reset may overtake the answer. */
enum { DISCARD_MAX = 1024 * 1024 };
/* Buffers above this are not kept for the next request; exchanges above that are not kept at all. */
enum { KEEP_BYTES = 256 * 1024, KEEP_EXCHANGES = 64 };
/* How long nothing must happen before the last idle connections are closed at a stop. */
enum { QUIET_MS = 200 };

struct http_worker {
    struct http *http;
    void *ctx;
    struct MHD_Daemon *daemon;
    struct exchange *spare; /* used by the worker's own thread */
    size_t spare_count;
    uint64_t id_state;
    atomic_size_t connections;
    atomic_uint_fast64_t taken, started, finished; /* connections ever; exchanges ever */
};

struct http {
    struct http_options options;
    struct acceptor *acceptor;
    struct http_worker *workers;
    size_t turn; /* where the search for the idlest worker starts; the acceptor's thread alone uses it */
    atomic_bool draining;
};

/* One request and its answer, from the request line to the last byte sent. */
struct exchange {
    struct exchange *next;
    struct http_worker *worker;
    struct writer target, body;
    struct http_guard guard;
    const char *content_type, *wanted_id;
    char id[HTTP_ID_MAX + 1];
    bool begun;
    unsigned refusal; /* decided at the head, said when the body has been read; 0: none */
    const char *message;
    size_t received; /* of the body */
    uint64_t since_ms;
    struct http_response response;
};

/* ---- exchanges ---- */

static void exchange_free(struct exchange *exchange)
{
    writer_done(&exchange->target);
    writer_done(&exchange->body);
    writer_done(&exchange->response.body);
    free(exchange);
}

static void trim(struct writer *w)
{
    writer_clear(w);
    if (w->size > KEEP_BYTES)
        writer_done(w);
}

static struct exchange *exchange_take(struct http_worker *worker)
{
    struct exchange *exchange = worker->spare;
    if (exchange) {
        worker->spare = exchange->next;
        worker->spare_count--;
    } else {
        exchange = calloc(1, sizeof *exchange);
    }
    if (exchange) {
        exchange->worker = worker;
        atomic_fetch_add_explicit(&worker->started, 1, memory_order_relaxed);
    }
    return exchange;
}

static void exchange_give(struct exchange *exchange)
{
    struct http_worker *worker = exchange->worker;
    atomic_fetch_add_explicit(&worker->finished, 1, memory_order_release);
    if (worker->spare_count == KEEP_EXCHANGES) {
        exchange_free(exchange);
        return;
    }
    struct writer target = exchange->target, body = exchange->body, answer = exchange->response.body;
    trim(&target);
    trim(&body);
    trim(&answer);
    memset(exchange, 0, offsetof(struct exchange, response));
    exchange->target = target;
    exchange->body = body;
    exchange->response.body = answer;
    exchange->next = worker->spare;
    worker->spare = exchange;
    worker->spare_count++;
}

/* ---- the head of a request ---- */

/* Called by the library with the request line's target, before it takes it apart in place. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    (void)connection;
    struct exchange *exchange = exchange_take(cls);
    if (exchange)
        writer_raw(&exchange->target, target, strlen(target) + 1);
    return exchange;
}

/* The library would decode the path; ours is decoded after it has been split. */
static size_t keep_encoded(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
    const char *value, size_t value_len)
{
    (void)kind;
    struct exchange *exchange = cls;
    http_guard_field(&exchange->guard, name, name_len, value ? value : "", value_len);
    if (!value)
        return MHD_YES;
    if (!exchange->content_type && strcasecmp(name, "Content-Type") == 0)
        exchange->content_type = value;
    if (!exchange->wanted_id && strcasecmp(name, "X-Request-Id") == 0)
        exchange->wanted_id = value;
    return MHD_YES;
}

static bool is_too_long(const struct exchange *exchange, struct MHD_Connection *connection, unsigned *status,
    const char **message)
{
    const size_t limit = exchange->worker->http->options.header_max;
    const union MHD_ConnectionInfo *head =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (exchange->target.used > limit / 2) {
        *status = 414;
        *message = "the request target is longer than half of server.header_max_bytes";
    } else if (head && head->header_size > limit) {
        *status = 431;
        *message = "the header is longer than server.header_max_bytes";
    }
    return *status != 0;
}

/* ---- answers ---- */

static enum MHD_Result answer(struct exchange *exchange, struct MHD_Connection *connection)
{
    struct http_response *from = &exchange->response;
    if (from->body.failed) {
        const struct http_request request = {.id = exchange->id};
        http_fail(from, &request, 500, "out of memory");
        if (from->body.failed)
            return MHD_NO;
    }
    /* The exchange outlives the sending, so the body need not be copied. */
    struct MHD_Response *to =
        MHD_create_response_from_buffer(from->body.used, from->body.data, MHD_RESPMEM_PERSISTENT);
    if (!to)
        return MHD_NO;
    bool complete = MHD_add_response_header(to, "Content-Type", from->content_type) == MHD_YES &&
                    MHD_add_response_header(to, "Cache-Control", "no-store") == MHD_YES &&
                    MHD_add_response_header(to, "X-Request-Id", exchange->id) == MHD_YES;
    for (size_t i = 0; i < from->header_count; i++)
        complete &= MHD_add_response_header(to, from->headers[i].name, from->headers[i].value) == MHD_YES;
    if (atomic_load_explicit(&exchange->worker->http->draining, memory_order_relaxed))
        complete &= MHD_add_response_header(to, "Connection", "close") == MHD_YES;
    const enum MHD_Result queued = complete ? MHD_queue_response(connection, from->status, to) : MHD_NO;
    MHD_destroy_response(to);
    return queued;
}

static enum MHD_Result refuse(
    struct exchange *exchange, struct MHD_Connection *connection, unsigned status, const char *message)
{
    struct http_worker *worker = exchange->worker;
    const struct http_request request = {.id = exchange->id};
    http_fail(&exchange->response, &request, status, message);
    worker->http->options.refused(worker->ctx, status);
    return answer(exchange, connection);
}

/* In the middle of a body the library takes no response. Nothing of one has been sent, so the bytes can go to
 * the socket directly; then the connection is closed. */
static enum MHD_Result refuse_midway(
    struct exchange *exchange, struct MHD_Connection *connection, unsigned status, const char *message)
{
    char bytes[1024];
    const size_t len = http_refusal(bytes, sizeof bytes, status, message, exchange->id);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info && send(info->connect_fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len)
        shutdown(info->connect_fd, SHUT_WR);
    exchange->worker->http->options.refused(exchange->worker->ctx, status);
    return MHD_NO;
}

/* ---- the stages of a request ---- */

/* The head is complete. A response queued now closes the connection: right for a request whose end is in
 * doubt, wrong for all others, which are answered by finish(). */
static enum MHD_Result begin(
    struct exchange *exchange, struct MHD_Connection *connection, const char *version)
{
    struct http_worker *worker = exchange->worker;
    exchange->begun = true;
    exchange->since_ms = clock_ms();
    http_response_reset(&exchange->response);
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_field, exchange);
    if (exchange->wanted_id && http_id_valid(exchange->wanted_id))
        memcpy(exchange->id, exchange->wanted_id, strlen(exchange->wanted_id) + 1);
    else
        http_id_make(exchange->id, &worker->id_state);
    if (exchange->target.failed)
        return refuse(exchange, connection, 500, "out of memory");
    const char *message;
    unsigned status = http_guard_verdict(&exchange->guard, version, exchange->target.data, &message);
    if (status || is_too_long(exchange, connection, &status, &message))
        return refuse(exchange, connection, status, message);
    const size_t body_max = worker->http->options.body_max;
    if (exchange->guard.length > body_max) {
        exchange->refusal = 413;
        exchange->message = "the body is longer than server.body_max_bytes";
        if (exchange->guard.length > body_max + DISCARD_MAX)
            return refuse(exchange, connection, 413, exchange->message);
    }
    return MHD_YES;
}

static enum MHD_Result receive(
    struct exchange *exchange, struct MHD_Connection *connection, const char *data, size_t len)
{
    const struct http_options *options = &exchange->worker->http->options;
    exchange->received += len;
    if (exchange->received > options->body_max) {
        exchange->refusal = 413;
        exchange->message = "the body is longer than server.body_max_bytes";
        if (exchange->received > options->body_max + DISCARD_MAX)
            return refuse_midway(exchange, connection, 413, exchange->message);
    }
    if (clock_ms() - exchange->since_ms > (uint64_t)options->idle_timeout_ms)
        return refuse_midway(exchange, connection, 408, "the body took too long to arrive");
    if (!exchange->refusal)
        writer_raw(&exchange->body, data, len);
    return MHD_YES;
}

/* The path of a target in origin form (/rank?x) or absolute form (http://host/rank?x). */
static char *find_path(char *target)
{
    char *scheme = strstr(target, "://"), *path = strchr(target, '/');
    if (!scheme || path != scheme + 1)
        return target;
    path = strchr(scheme + 3, '/');
    if (!path) {
        memcpy(target, "/", 2);
        path = target;
    }
    return path;
}

static enum MHD_Result finish(
    struct exchange *exchange, struct MHD_Connection *connection, const char *method)
{
    struct http_worker *worker = exchange->worker;
    if (exchange->refusal)
        return refuse(exchange, connection, exchange->refusal, exchange->message);
    if (exchange->body.failed)
        return refuse(exchange, connection, 500, "out of memory");
    char *path = find_path(exchange->target.data), *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    const struct http_request request = {
        .method = method,
        .path = path,
        .query = query,
        .content_type = exchange->content_type,
        .framed = exchange->guard.lengths || exchange->guard.encodings,
        .body = exchange->body.used ? exchange->body.data : "",
        .body_len = exchange->body.used,
        .id = exchange->id,
    };
    worker->http->options.handle(worker->ctx, &request, &exchange->response);
    return answer(exchange, connection);
}

/* Called once when the head is there, once for each piece of the body, and once at the end. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *data_len, void **state)
{
    (void)cls;
    (void)url;
    struct exchange *exchange = *state;
    if (!exchange)
        return MHD_NO; /* on_target had no memory */
    if (!exchange->begun)
        return begin(exchange, connection, version);
    if (*data_len) {
        const size_t len = *data_len;
        *data_len = 0;
        return receive(exchange, connection, data, len);
    }
    return finish(exchange, connection, method);
}

static void on_completed(
    void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)cls;
    (void)connection;
    (void)code;
    if (*state)
        exchange_give(*state);
    *state = NULL;
}

/* ---- connections ---- */

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
    enum MHD_ConnectionNotificationCode code)
{
    (void)connection;
    (void)socket_context;
    struct http_worker *worker = cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED)
        atomic_fetch_sub_explicit(&worker->connections, 1, memory_order_relaxed);
}

/* The worker with the fewest connections gets the new one; among equals they take turns. */
static int take_connection(void *ctx, int fd, const struct sockaddr *address, socklen_t len)
{
    struct http *http = ctx;
    const size_t count = http->options.worker_count;
    struct http_worker *idlest = NULL;
    size_t fewest = SIZE_MAX, total = 0;
    for (size_t i = 0; i < count; i++) {
        struct http_worker *worker = &http->workers[(http->turn + i) % count];
        const size_t connections = atomic_load_explicit(&worker->connections, memory_order_relaxed);
        total += connections;
        if (connections < fewest) {
            fewest = connections;
            idlest = worker;
        }
    }
    if (total >= http->options.connections_max)
        return -ERR_BUSY;
    http->turn++;
    atomic_fetch_add_explicit(&idlest->connections, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&idlest->taken, 1, memory_order_relaxed);
    /* The library closes a socket that it does not take. */
    if (MHD_add_connection(idlest->daemon, fd, address, len) != MHD_YES)
        atomic_fetch_sub_explicit(&idlest->connections, 1, memory_order_relaxed);
    return 0;
}

/* ---- life ---- */

static int worker_open(struct http_worker *worker, struct http *http, void *ctx, struct err *err)
{
    const struct http_options *options = &http->options;
    worker->http = http;
    worker->ctx = ctx;
    http_id_seed(&worker->id_state);
    /* The library's own strictness is off: it would find a missing Host or a space in the target before
     * http_guard does, and version 0.9.75 sends the head of its own error answers twice.
     * Room for twice the largest header we accept, so that one too long is refused by us, in our words. */
    const size_t memory = 2 * options->header_max + 16 * 1024;
    const unsigned timeout = (unsigned)((options->idle_timeout_ms + 999) / 1000);
    worker->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET,
        0, NULL, NULL, on_request, worker, MHD_OPTION_URI_LOG_CALLBACK, on_target, worker,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, worker, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)options->connections_max + 1, MHD_OPTION_CONNECTION_TIMEOUT, timeout, MHD_OPTION_END);
    return worker->daemon ? 0 : err_set(err, ERR_IO, "start an HTTP worker: the library refused");
}

int http_open(struct http **out, const struct http_options *options, struct err *err)
{
    struct http *http = calloc(1, sizeof *http);
    if (!http)
        return err_set(err, ERR_NOMEM, "no memory for the HTTP front");
    http->options = *options;
    http->options.workers = NULL;
    int code = acceptor_open(&http->acceptor, options->listen, err);
    http->workers = calloc(options->worker_count, sizeof *http->workers);
    if (code == 0 && !http->workers)
        code = err_set(err, ERR_NOMEM, "no memory for the HTTP workers");
    for (size_t i = 0; code == 0 && i < options->worker_count; i++)
        code = worker_open(&http->workers[i], http, options->workers[i], err);
    if (code < 0) {
        http_free(http);
        return code;
    }
    *out = http;
    return 0;
}

int http_start(struct http *http, struct err *err)
{
    return acceptor_start(http->acceptor, take_connection, http, err);
}

const char *http_address(const struct http *http)
{
    return acceptor_address(http->acceptor);
}

struct progress {
    size_t connections;
    uint64_t started, finished;
};

static struct progress progress_now(const struct http *http)
{
    struct progress sum = {0};
    for (size_t i = 0; i < http->options.worker_count; i++) {
        const struct http_worker *worker = &http->workers[i];
        sum.finished += atomic_load_explicit(&worker->finished, memory_order_acquire);
        sum.started += atomic_load_explicit(&worker->started, memory_order_relaxed);
        sum.connections += atomic_load_explicit(&worker->connections, memory_order_relaxed);
    }
    return sum;
}

/* Until every connection has closed (each answer now asks for it), or nothing has happened for QUIET_MS: what
 * is open then has not sent a request. */
static void drain(const struct http *http, uint64_t deadline)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    uint64_t seen = 0, quiet_since = clock_ms();
    for (;;) {
        const struct progress now = progress_now(http);
        const uint64_t time = clock_ms();
        if (now.started != now.finished || now.finished != seen)
            quiet_since = time;
        seen = now.finished;
        if (now.connections == 0 || time >= deadline || time - quiet_since >= QUIET_MS)
            return;
        nanosleep(&pause, NULL);
    }
}

size_t http_stop(struct http *http, long timeout_ms)
{
    const uint64_t deadline = clock_ms() + (uint64_t)timeout_ms;
    acceptor_stop(http->acceptor);
    atomic_store(&http->draining, true);
    drain(http, deadline);
    const struct progress end = progress_now(http);
    for (size_t i = 0; i < http->options.worker_count; i++) {
        if (http->workers[i].daemon)
            MHD_stop_daemon(http->workers[i].daemon);
        http->workers[i].daemon = NULL;
    }
    return (size_t)(end.started - end.finished);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    if (http->acceptor)
        acceptor_stop(http->acceptor);
    for (size_t i = 0; http->workers && i < http->options.worker_count; i++) {
        struct http_worker *worker = &http->workers[i];
        if (worker->daemon)
            MHD_stop_daemon(worker->daemon);
        while (worker->spare) {
            struct exchange *next = worker->spare->next;
            exchange_free(worker->spare);
            worker->spare = next;
        }
    }
    acceptor_free(http->acceptor);
    free(http->workers);
    free(http);
}

void http_stats(const struct http *http, struct http_stats *out)
{
    *out = (struct http_stats){
        .workers = http->options.worker_count,
        .connections = progress_now(http).connections,
        .refused = acceptor_refused(http->acceptor),
    };
}

uint64_t http_worker_connections(const struct http *http, size_t worker)
{
    return atomic_load_explicit(&http->workers[worker].taken, memory_order_relaxed);
}

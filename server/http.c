#include "server/http.h"

#include "server/acceptor.h"
#include "server/clock.h"
#include "server/exchange.h"
#include "server/http_conns.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How long nothing must happen before the last idle connections are closed at a stop. */
enum { QUIET_MS = 200 };

/* Connections beyond the limit, so that a full daemon can still be asked how it is. */
enum { SPARE_CONNECTIONS = 16 };

struct http_loop {
    struct http *http;
    void *ctx;
    struct MHD_Daemon *daemon;
    struct exchange_pool pool; /* this and the next are used by the loop's own thread */
    uint64_t id_state;
    bool in_place; /* the library leaves the pieces of a head where they came in */
    atomic_size_t connections, deferred;
    atomic_uint_fast64_t started, finished; /* exchanges ever */
};

struct http {
    struct http_options options;
    struct exchange_limits limits;
    struct acceptor *acceptor;
    struct http_conns *conns;
    struct exchange_account bodies;
    atomic_uint_fast64_t refused; /* requests on spare connections */
    struct http_loop *loops;
    size_t turn; /* where the search for the idlest loop starts; the acceptor's thread alone uses it */
    atomic_bool draining;
};

/* ---- one request, step by step ---- */

static struct http_conn *conn_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* Called by the library with the request line's target, before it takes it apart in place. */
static void *on_target(void *cls, const char *target, struct MHD_Connection *connection)
{
    struct http_loop *loop = cls;
    struct http_conn *conn = conn_of(connection);
    struct exchange *exchange =
        conn && http_conn_enter(conn, HTTP_PHASE_HEADER) ? exchange_take(&loop->pool) : NULL;
    if (!exchange)
        return NULL;
    exchange->conn = conn;
    exchange->client = conn->client;
    atomic_fetch_add_explicit(&loop->started, 1, memory_order_relaxed);
    exchange->owner = loop;
    exchange_target(exchange, target);
    if (loop->in_place)
        exchange->guard.end = target; /* until begin() knows where the method ends */
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
    struct http_guard *guard = &((struct exchange *)cls)->guard;
    if (guard->end && value)
        http_guard_place_field(
            guard, (struct http_piece){name, name + name_len}, (struct http_piece){value, value + value_len});
    exchange_field(cls, name, name_len, value ? value : "", value_len);
    return MHD_YES;
}

static enum MHD_Result answer(struct exchange *exchange, struct MHD_Connection *connection)
{
    const struct http_loop *loop = exchange->owner;
    struct http_response *from = &exchange->call.response;
    if (exchange->conn->spare && from->close)
        atomic_fetch_add_explicit(&loop->http->refused, 1, memory_order_relaxed);
    if (from->body.failed) {
        exchange->refusal = 500;
        exchange->message = "out of memory";
        exchange_refuse(exchange);
        if (from->body.failed)
            return MHD_NO;
    }
    /* The exchange outlives the sending, so the body need not be copied. */
    struct MHD_Response *to =
        MHD_create_response_from_buffer(from->body.used, from->body.data, MHD_RESPMEM_PERSISTENT);
    if (!to)
        return MHD_NO;
    bool complete = MHD_add_response_header(to, "Content-Type", from->content_type) == MHD_YES &&
                    MHD_add_response_header(to, "Cache-Control", from->cache_control) == MHD_YES &&
                    MHD_add_response_header(to, "X-Request-Id", exchange->id) == MHD_YES;
    if (exchange->traced) {
        char trace[TRACE_TEXT];
        trace_format(trace, &exchange->trace);
        complete &= MHD_add_response_header(to, "traceresponse", trace) == MHD_YES;
    }
    for (size_t i = 0; i < from->header_count; i++)
        complete &= MHD_add_response_header(to, from->headers[i].name, from->headers[i].value) == MHD_YES;
    if (from->close || atomic_load_explicit(&loop->http->draining, memory_order_relaxed))
        complete &= MHD_add_response_header(to, "Connection", "close") == MHD_YES;
    complete &= http_conn_enter(exchange->conn, HTTP_PHASE_WRITE);
    const enum MHD_Result queued = complete ? MHD_queue_response(connection, from->status, to) : MHD_NO;
    MHD_destroy_response(to);
    return queued;
}

static void tell_refused(struct exchange *exchange)
{
    const struct http_loop *loop = exchange->owner;
    exchange_refuse(exchange);
    exchange_describe(exchange);
    loop->http->options.refused(loop->ctx, &exchange->call);
}

static enum MHD_Result refuse(struct exchange *exchange, struct MHD_Connection *connection)
{
    tell_refused(exchange);
    return answer(exchange, connection);
}

/* In the middle of a body the library takes no response. Nothing of one has been sent, so the bytes can go to
 * the socket directly; then the connection is closed. */
static enum MHD_Result refuse_midway(struct exchange *exchange, struct MHD_Connection *connection)
{
    char bytes[1024];
    const size_t len = http_refusal(bytes, sizeof bytes, exchange->refusal, exchange->message, exchange->id);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info && send(info->connect_fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len)
        shutdown(info->connect_fd, SHUT_WR);
    tell_refused(exchange);
    return MHD_NO;
}

/* The head is complete. A response queued now closes the connection: right for a request whose end is in
 * doubt, wrong for all others, which are answered by finish(). */
static enum MHD_Result begin(
    struct exchange *exchange, struct MHD_Connection *connection, const char *method, const char *version)
{
    struct http_loop *loop = exchange->owner;
    if (!http_conn_enter(exchange->conn, HTTP_PHASE_BODY))
        return MHD_NO;
    const union MHD_ConnectionInfo *head =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    struct http_guard *guard = &exchange->guard;
    if (guard->end && exchange->target.used) {
        const struct http_piece target = {guard->end, guard->end + exchange->target.used - 1};
        guard->end = method + strlen(method);
        http_guard_place(guard, HTTP_GAP_SPACE, target);
        http_guard_place(guard, HTTP_GAP_SPACE, (struct http_piece){version, version + strlen(version)});
    }
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, on_field, exchange);
    if (guard->end && head)
        http_guard_place(guard, HTTP_GAP_LINE, (struct http_piece){method + head->header_size - 2, NULL});
    if (!exchange_begin(
            exchange, version, head ? head->header_size : 0, &loop->http->limits, &loop->id_state))
        return refuse(exchange, connection);
    return MHD_YES;
}

static struct exchange *exchange_of(struct http_call *call)
{
    return POOL_OWNER(call, struct exchange, call);
}

/* The library forgets the connection until it is resumed; this must have been said before another thread can
 * resume it. */
static void defer(struct http_call *call)
{
    struct exchange *exchange = exchange_of(call);
    struct http_loop *loop = exchange->owner;
    atomic_fetch_add_explicit(&loop->deferred, 1, memory_order_relaxed);
    MHD_suspend_connection(exchange->connection);
}

static void answer_deferred(struct http_call *call)
{
    struct exchange *exchange = exchange_of(call);
    struct http_loop *loop = exchange->owner;
    exchange->answered = true;
    MHD_resume_connection(exchange->connection);
    atomic_fetch_sub_explicit(&loop->deferred, 1, memory_order_release);
}

/* A connection that was deferred comes here a second time, when it has been resumed. */
static enum MHD_Result finish(
    struct exchange *exchange, struct MHD_Connection *connection, const char *method)
{
    const struct http_loop *loop = exchange->owner;
    if (!exchange->answered) {
        if (!exchange_finish(exchange, method))
            return refuse(exchange, connection);
        if (!http_conn_enter(exchange->conn, HTTP_PHASE_WORK))
            return MHD_NO;
        exchange->connection = connection;
        exchange->call.request.spare = exchange->conn->spare;
        exchange->call.defer = defer;
        exchange->call.answer = answer_deferred;
        if (!loop->http->options.handle(loop->ctx, &exchange->call))
            return MHD_YES;
    }
    return answer(exchange, connection);
}

/* Called once when the head is there, once for each piece of the body, and once at the end. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *data, size_t *data_len, void **state)
{
    (void)url;
    const struct http_loop *loop = cls;
    struct exchange *exchange = *state;
    if (!exchange)
        return MHD_NO; /* on_target had no memory */
    if (!exchange->begun)
        return begin(exchange, connection, method, version);
    if (*data_len == 0)
        return finish(exchange, connection, method);
    const size_t len = *data_len;
    *data_len = 0;
    return exchange_receive(exchange, data, len, &loop->http->limits) ? MHD_YES
                                                                      : refuse_midway(exchange, connection);
}

static void on_completed(
    void *cls, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    struct http_loop *loop = cls;
    struct exchange *exchange = *state;
    if (!exchange)
        return;
    http_conn_enter(exchange->conn, HTTP_PHASE_IDLE);
    exchange_give(&loop->pool, *state);
    *state = NULL;
    atomic_fetch_add_explicit(&loop->finished, 1, memory_order_release);
}

/* ---- connections ---- */

static void note_client(struct http_conn *conn, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    if (!conn || !address)
        return;
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, conn->client,
            sizeof conn->client);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, conn->client,
            sizeof conn->client);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
    enum MHD_ConnectionNotificationCode code)
{
    struct http_loop *loop = cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        http_conns_remove(loop->http->conns, *socket_context);
        atomic_fetch_sub_explicit(&loop->connections, 1, memory_order_relaxed);
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *socket_context = info ? http_conns_add(loop->http->conns, info->connect_fd) : NULL;
    note_client(*socket_context, connection);
}

/* The loop with the fewest connections gets the new one; among equals they take turns. */
static int take_connection(void *ctx, int fd, const struct sockaddr *address, socklen_t len)
{
    struct http *http = ctx;
    const size_t count = http->options.loop_count;
    struct http_loop *idlest = NULL;
    size_t fewest = SIZE_MAX, total = 0;
    for (size_t i = 0; i < count; i++) {
        struct http_loop *loop = &http->loops[(http->turn + i) % count];
        const size_t connections = atomic_load_explicit(&loop->connections, memory_order_relaxed);
        total += connections;
        if (connections < fewest) {
            fewest = connections;
            idlest = loop;
        }
    }
    if (total >= http->options.connections_max + SPARE_CONNECTIONS)
        return -ERR_BUSY;
    http->turn++;
    atomic_fetch_add_explicit(&idlest->connections, 1, memory_order_relaxed);
    /* The library closes a socket that it does not take. */
    if (MHD_add_connection(idlest->daemon, fd, address, len) != MHD_YES)
        atomic_fetch_sub_explicit(&idlest->connections, 1, memory_order_relaxed);
    return 0;
}

/* ---- life ---- */

static int loop_open(struct http_loop *loop, struct http *http, void *ctx, struct err *err)
{
    const struct http_options *options = &http->options;
    loop->http = http;
    loop->ctx = ctx;
    http_id_seed(&loop->id_state);
    /* Measured with 0.9.75, which counts the head's bytes on that condition itself; its successors are stricter. */
    loop->in_place = strncmp(MHD_get_version(), "0.9.75", 6) == 0;
    /* The library's own strictness is off: it would find a missing Host or a space in the target before
     * http_guard does, and version 0.9.75 sends the head of its own error answers twice.
     * Room for twice the largest header we accept, so that one too long is refused by us, in our words. */
    const size_t memory = 2 * options->header_max + 16 * 1024;
    const unsigned timeout = (unsigned)((options->idle_timeout_ms + 999) / 1000);
    loop->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
        on_request, loop, MHD_OPTION_URI_LOG_CALLBACK, on_target, loop, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_encoded, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, loop, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, loop, MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->connections_max + SPARE_CONNECTIONS + 1,
        MHD_OPTION_CONNECTION_TIMEOUT, timeout, MHD_OPTION_END);
    return loop->daemon ? 0 : err_set(err, ERR_IO, "start an HTTP loop: the library refused");
}

int http_open(struct http **out, const struct http_options *options, struct err *err)
{
    struct http *http = calloc(1, sizeof *http);
    if (!http)
        return err_set(err, ERR_NOMEM, "no memory for the HTTP front");
    http->options = *options;
    http->options.loops = NULL; /* the caller's */
    http->limits = (struct exchange_limits){
        .body_max = options->body_max,
        .header_max = options->header_max,
        .bodies = &http->bodies,
    };
    http->bodies.max = options->bodies_max;
    const struct http_conns_options conns = {
        .max = options->connections_max,
        .ms = {[HTTP_PHASE_HEADER] = (uint64_t)options->header_timeout_ms,
            [HTTP_PHASE_BODY] = (uint64_t)options->body_timeout_ms,
            [HTTP_PHASE_WRITE] = (uint64_t)options->write_timeout_ms},
    };
    int code = acceptor_open(&http->acceptor, options->listen, err);
    if (code == 0)
        code = http_conns_new(&http->conns, &conns, err);
    http->loops = calloc(options->loop_count, sizeof *http->loops);
    if (code == 0 && !http->loops)
        code = err_set(err, ERR_NOMEM, "no memory for the HTTP loops");
    for (size_t i = 0; code == 0 && i < options->loop_count; i++)
        code = loop_open(&http->loops[i], http, options->loops[i], err);
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
    for (size_t i = 0; i < http->options.loop_count; i++) {
        const struct http_loop *loop = &http->loops[i];
        sum.finished += atomic_load_explicit(&loop->finished, memory_order_acquire);
        sum.started += atomic_load_explicit(&loop->started, memory_order_relaxed);
        sum.connections += atomic_load_explicit(&loop->connections, memory_order_relaxed);
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

/* The library must not be stopped while a connection is suspended. */
static void await_deferred(const struct http *http)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    for (size_t i = 0; i < http->options.loop_count; i++)
        while (atomic_load_explicit(&http->loops[i].deferred, memory_order_acquire))
            nanosleep(&pause, NULL);
}

void http_drain(struct http *http, long timeout_ms)
{
    acceptor_stop(http->acceptor);
    atomic_store(&http->draining, true);
    drain(http, clock_ms() + (uint64_t)timeout_ms);
}

size_t http_stop(struct http *http)
{
    await_deferred(http);
    const struct progress end = progress_now(http);
    for (size_t i = 0; i < http->options.loop_count; i++) {
        if (http->loops[i].daemon)
            MHD_stop_daemon(http->loops[i].daemon);
        http->loops[i].daemon = NULL;
    }
    return (size_t)(end.started - end.finished);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    if (http->acceptor)
        acceptor_stop(http->acceptor);
    for (size_t i = 0; http->loops && i < http->options.loop_count; i++) {
        struct http_loop *loop = &http->loops[i];
        if (loop->daemon)
            MHD_stop_daemon(loop->daemon);
        exchange_pool_done(&loop->pool);
    }
    acceptor_free(http->acceptor);
    http_conns_free(http->conns);
    free(http->loops);
    free(http);
}

void http_stats(const struct http *http, struct http_stats *out)
{
    *out = (struct http_stats){
        .loops = http->options.loop_count,
        .connections = progress_now(http).connections,
        .refused =
            acceptor_refused(http->acceptor) + atomic_load_explicit(&http->refused, memory_order_relaxed),
        .cut = {http_conns_cut(http->conns, HTTP_PHASE_HEADER), http_conns_cut(http->conns, HTTP_PHASE_BODY),
            http_conns_cut(http->conns, HTTP_PHASE_WRITE)},
        .body_bytes = atomic_load_explicit(&http->bodies.used, memory_order_relaxed),
    };
}

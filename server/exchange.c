#include "server/exchange.h"

#include "server/clock.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEEP_BYTES = 128 * 1024 }; /* larger buffers are not kept for the next request */

static void exchange_free(struct exchange *exchange)
{
    if (!exchange)
        return;
    writer_done(&exchange->target);
    writer_done(&exchange->body);
    writer_done(&exchange->call.response.body);
    free(exchange);
}

struct exchange *exchange_take(struct exchange_pool *pool)
{
    struct exchange *exchange = spares_take(&pool->spares);
    return exchange ? exchange : calloc(1, sizeof *exchange);
}

static struct writer trimmed(struct writer w)
{
    writer_clear(&w);
    if (w.size > KEEP_BYTES)
        writer_done(&w);
    return w;
}

void exchange_give(struct exchange_pool *pool, struct exchange *exchange)
{
    if (exchange->charged)
        atomic_fetch_sub_explicit(&exchange->bodies->used, exchange->charged, memory_order_relaxed);
    const struct writer target = trimmed(exchange->target), body = trimmed(exchange->body);
    const struct writer answer = trimmed(exchange->call.response.body);
    *exchange = (struct exchange){.target = target, .body = body};
    exchange->call.response.body = answer;
    exchange_free(spares_give(&pool->spares, exchange));
}

void exchange_pool_done(struct exchange_pool *pool)
{
    for (struct exchange *exchange; (exchange = spares_take(&pool->spares));)
        exchange_free(exchange);
}

/* ---- the pieces ---- */

static bool refuse(struct exchange *exchange, unsigned status, const char *message)
{
    exchange->refusal = status;
    exchange->message = message;
    return false;
}

void exchange_target(struct exchange *exchange, const char *target)
{
    writer_raw(&exchange->target, target, strlen(target) + 1);
}

void exchange_field(
    struct exchange *exchange, const char *name, size_t name_len, const char *value, size_t value_len)
{
    http_guard_field(&exchange->guard, name, name_len, value, value_len);
    if (!exchange->content_type && strcasecmp(name, "Content-Type") == 0)
        exchange->content_type = value;
    if (!exchange->authorization && strcasecmp(name, "Authorization") == 0)
        exchange->authorization = value;
    if (!exchange->if_none_match && strcasecmp(name, "If-None-Match") == 0)
        exchange->if_none_match = value;
    if (!exchange->wanted_id && strcasecmp(name, "X-Request-Id") == 0)
        exchange->wanted_id = value;
    if (!exchange->timeout && strcasecmp(name, "X-Timeout-Ms") == 0)
        exchange->timeout = value;
    if (strcasecmp(name, "traceparent") == 0) {
        exchange->traceparent = value;
        exchange->traceparents++;
    }
}

/* Of two traceparents nobody knows which is the right one. */
static void note_trace(struct exchange *exchange, uint64_t *id_state)
{
    char id[HTTP_ID_MAX + 1];
    if (exchange->traceparents != 1 || !trace_parse(&exchange->trace, exchange->traceparent))
        return;
    do
        http_id_make(id, id_state);
    while (strspn(id, "0") == sizeof exchange->trace.span_id - 1);
    memcpy(exchange->trace.span_id, id, sizeof exchange->trace.span_id);
    exchange->traced = true;
}

static const char *const body_too_long = "the body is longer than server.body_max_bytes";

bool exchange_begin(struct exchange *exchange, const char *version, size_t header_size,
    const struct exchange_limits *limits, uint64_t *id_state)
{
    exchange->begun = true;
    http_response_reset(&exchange->call.response);
    if (exchange->wanted_id && http_id_valid(exchange->wanted_id))
        memcpy(exchange->id, exchange->wanted_id, strlen(exchange->wanted_id) + 1);
    else
        http_id_make(exchange->id, id_state);
    note_trace(exchange, id_state);
    if (exchange->target.failed)
        return refuse(exchange, 500, "out of memory");
    const char *message;
    const unsigned status = http_guard_verdict(&exchange->guard, version, exchange->target.data, &message);
    if (status)
        return refuse(exchange, status, message);
    if (exchange->target.used > limits->header_max / 2)
        return refuse(exchange, 414, "the request target is longer than half of server.header_max_bytes");
    if (header_size > limits->header_max)
        return refuse(exchange, 431, "the header is longer than server.header_max_bytes");
    if (exchange->guard.length > limits->body_max) {
        refuse(exchange, 413, body_too_long);
        return exchange->guard.length <= limits->body_max + EXCHANGE_DISCARD_MAX;
    }
    return true;
}

/* No number of clients makes bodies take more memory than the account has. */
static bool charge(struct exchange *exchange, struct exchange_account *bodies, size_t len)
{
    if (atomic_fetch_add_explicit(&bodies->used, len, memory_order_relaxed) + len > bodies->max) {
        atomic_fetch_sub_explicit(&bodies->used, len, memory_order_relaxed);
        return false;
    }
    exchange->bodies = bodies;
    exchange->charged += len;
    return true;
}

bool exchange_receive(
    struct exchange *exchange, const char *data, size_t len, const struct exchange_limits *limits)
{
    exchange->received += len;
    if (exchange->received > limits->body_max) {
        refuse(exchange, 413, body_too_long);
        return exchange->received <= limits->body_max + EXCHANGE_DISCARD_MAX;
    }
    if (!exchange->refusal && !charge(exchange, limits->bodies, len))
        refuse(exchange, 503, "too many bodies are under way: server.bodies_max_bytes");
    if (!exchange->refusal)
        writer_raw(&exchange->body, data, len);
    return true;
}

/* Milliseconds; 0 for anything but a whole number from 1 to nine digits. */
static uint64_t read_timeout(const char *text)
{
    const size_t digits = strspn(text, "0123456789");
    return digits && digits <= 9 && !text[digits] ? strtoull(text, NULL, 10) : 0;
}

/* The path of a target in origin form (/rank?x) or absolute form (http://host/rank?x). A host ends at the first / or ?
 * (RFC 3986, section 3.2), so that one without a path cannot borrow one from its query. */
static char *find_path(char *target)
{
    static const char scheme[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.";
    const size_t len = strspn(target, scheme);
    if (len == 0 || strncmp(target + len, "://", 3) != 0)
        return target;
    char *path = target + len + 3;
    path += strcspn(path, "/?");
    if (*path != '/')
        *--path = '/'; /* in place of the host's last byte */
    return path;
}

bool exchange_finish(struct exchange *exchange, const char *method)
{
    if (exchange->refusal)
        return false;
    if (exchange->body.failed)
        return refuse(exchange, 500, "out of memory");
    const uint64_t timeout_ms = exchange->timeout ? read_timeout(exchange->timeout) : 0;
    if (exchange->timeout && !timeout_ms)
        return refuse(exchange, 400, "X-Timeout-Ms: a whole number of milliseconds is expected, at least 1");
    char *path = find_path(exchange->target.data), *query = strchr(path, '?');
    if (query)
        *query++ = '\0';
    exchange->call.since_ns = clock_ns();
    exchange->call.request = (struct http_request){
        .method = method,
        .path = path,
        .query = query,
        .content_type = exchange->content_type,
        .authorization = exchange->authorization,
        .if_none_match = exchange->if_none_match,
        .framed = exchange->guard.lengths || exchange->guard.encodings,
        .body = exchange->body.used ? exchange->body.data : "",
        .body_len = exchange->body.used,
        .id = exchange->id,
        .timeout_ms = timeout_ms,
        .trace = exchange->traced ? &exchange->trace : NULL,
        .client = exchange->client,
    };
    return true;
}

void exchange_describe(struct exchange *exchange)
{
    exchange->call.since_ns = clock_ns();
    exchange->call.request = (struct http_request){
        .id = exchange->id,
        .trace = exchange->traced ? &exchange->trace : NULL,
        .client = exchange->client,
    };
}

void exchange_refuse(struct exchange *exchange)
{
    const struct http_request request = {.id = exchange->id};
    http_fail(&exchange->call.response, &request, exchange->refusal, exchange->message);
}

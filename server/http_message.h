/* A request and its answer as plain structs: what handlers see. No socket and no HTTP library in here, so
 * that a test calls a handler like any function. */
#ifndef EMBSUM_SERVER_HTTP_MESSAGE_H
#define EMBSUM_SERVER_HTTP_MESSAGE_H

#include "core/err.h"
#include "server/pool.h"
#include "server/writer.h"

#include <stdbool.h>
#include <stddef.h>

#define HTTP_ID_MAX 128
#define HTTP_HEADERS_MAX 4
#define HTTP_HEADER_MAX 256

struct access_facts;
struct trace;

struct http_request {
    const char *method;
    const char *path;          /* as it came, still percent-encoded, without the query; NUL-terminated */
    const char *query;         /* behind the '?', still percent-encoded; NULL if there is none */
    const char *content_type;  /* NULL if there is none */
    const char *authorization; /* likewise; holds a secret */
    const char *if_none_match; /* likewise */
    bool framed;               /* a Content-Length or chunks told where the body ends */
    const char *body;
    size_t body_len;
    const char *id;            /* X-Request-Id, checked or made */
    uint64_t timeout_ms;       /* X-Timeout-Ms: the client waits no longer; 0: it did not say */
    const struct trace *trace; /* the trace that it belongs to; NULL: none */
    const char *client;        /* the address it came from; NULL: not known */
    bool spare;                /* there are too many connections: only how the daemon is may be asked */
};

struct http_header {
    const char *name;
    char value[HTTP_HEADER_MAX];
};

struct http_response {
    unsigned status;
    const char *content_type;
    const char *cache_control;
    struct writer body;
    struct http_header headers[HTTP_HEADERS_MAX];
    size_t header_count;
    bool close; /* the connection, behind the answer */
};

/* A request on its way through the daemon, with its answer: from the front, which has read it, over whichever threads
 * work on it, back to the front. One thread at a time has it in hand. */
struct http_call {
    struct http_request request;
    struct http_response response;    /* comes reset */
    uint64_t since_ns;                /* when the request was complete */
    const void *route;                /* the router's */
    const struct access_facts *facts; /* what it was about, for the access log; NULL: nobody has said */
    struct pool_task task;            /* to be put into a pool by whoever has the call in hand */
    /* Before the call goes to another thread, and when the response is complete: the call is gone then. */
    void (*defer)(struct http_call *call);
    void (*answer)(struct http_call *call);
};

/* 200, application/json, no-store, an empty body whose buffer is kept. */
void http_response_reset(struct http_response *response);

/* One more header; the value is cut at HTTP_HEADER_MAX. */
void http_response_header(struct http_response *response, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Make the response an error: {"error": {"code", "message", "request_id"}}, whatever it held before. 503 gets
 * a Retry-After. */
void http_fail(
    struct http_response *response, const struct http_request *request, unsigned status, const char *message);

/* "bad_request", "not_found", ... for the status of an error. */
const char *http_error_code(unsigned status);
const char *http_reason(unsigned status); /* "Bad Request" */

/* Undo percent-encoding of src[0..len) into dst, which has room for len + 1 bytes and may be src itself;
 * a '+' stays a '+'. Returns the new length (a NUL is put behind), or -ERR_INVALID for a broken escape. */
ptrdiff_t http_percent_decode(char *dst, const char *src, size_t len);

/* Is it a request id that may be echoed: 1 to HTTP_ID_MAX printable ASCII characters? */
bool http_id_valid(const char *id);

/* A fresh id of 16 hexadecimal digits; state is seeded once by http_id_seed and belongs to one thread. */
void http_id_seed(uint64_t *state);
void http_id_make(char id[HTTP_ID_MAX + 1], uint64_t *state);

/* A whole refusal as bytes, for a socket that no HTTP library reads: Connection: close. Returns its length.
 */
size_t http_refusal(char *out, size_t size, unsigned status, const char *message, const char *id);

#endif

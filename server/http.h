/* HTTP: bytes to requests, responses to bytes. http.c alone knows the HTTP library (libmicrohttpd).
 *
 *     http_open(&http, &options, &err);          listens, accepts nothing yet
 *     http_start(http, &err);                    now it does
 *     ...
 *     http_stop(http, 5000);                     finishes what is in flight
 *     http_free(http);
 *
 * Each worker is one thread with an event loop of its own. It calls `handle` with its own context, so that
 * what a handler needs (a link to the store, scratch, counters) is never shared. A handler blocks its worker
 * as long as it runs. */
#ifndef EMBSUM_SERVER_HTTP_H
#define EMBSUM_SERVER_HTTP_H

#include "server/http_message.h"

struct http;

/* Fill in the response, which comes reset. */
typedef void http_handle_fn(void *worker, const struct http_request *request, struct http_response *response);
/* A request was refused before it was one: tell whoever counts. */
typedef void http_refused_fn(void *worker, unsigned status);

struct http_options {
    const char *listen; /* ADDR:PORT */
    void **workers;     /* the contexts, one a worker; copied */
    size_t worker_count;
    http_handle_fn *handle;
    http_refused_fn *refused;
    size_t connections_max, body_max, header_max;
    long idle_timeout_ms; /* without a byte, or for a body in total */
};

int http_open(struct http **out, const struct http_options *options, struct err *err);
int http_start(struct http *http, struct err *err);
const char *http_address(const struct http *http); /* ADDR:PORT really listened on */

/* Stop accepting, answer what is in flight with Connection: close, and end the workers, all within
 * timeout_ms. Returns how many requests were left without an answer. */
size_t http_stop(struct http *http, long timeout_ms);
void http_free(struct http *http); /* NULL is allowed */

struct http_stats {
    size_t workers;
    size_t connections; /* open now */
    uint64_t refused;   /* connections answered with 503 so far */
};
void http_stats(const struct http *http, struct http_stats *out);

/* Connections handed to a worker so far. */
uint64_t http_worker_connections(const struct http *http, size_t worker);

#endif

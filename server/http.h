/* HTTP: bytes to requests, responses to bytes. http.c alone knows the HTTP library (libmicrohttpd).
 *
 *     http_open(&http, &options, &err);          listens, accepts nothing yet
 *     http_start(http, &err);                    now it does
 *     ...
 *     http_drain(http, 5000);                    finishes what is in flight
 *     http_stop(http);
 *     http_free(http);
 *
 * Reading and sending is the work of loops, each a thread with the connections that it was given. A loop calls
 * `handle` with its own context once a request is complete. A handler that would take longer than some microseconds
 * defers the call, hands it to a thread of its own and returns; the loop goes on with other connections until the call
 * is answered. */
#ifndef EMBSUM_SERVER_HTTP_H
#define EMBSUM_SERVER_HTTP_H

#include "server/http_message.h"

struct http;

/* True: the response is complete. False: call->defer() was called, then the call was handed on, and call->answer() is
 * going to be called, once, by any thread. */
typedef bool http_handle_fn(void *loop, struct http_call *call);
/* A request was refused before it was one, by the call's response: tell whoever counts and logs. */
typedef void http_refused_fn(void *loop, struct http_call *call);

struct http_options {
    const char *listen; /* ADDR:PORT */
    void *const *loops; /* the contexts, one a loop; copied */
    size_t loop_count;
    http_handle_fn *handle;
    http_refused_fn *refused;
    /* A few connections beyond connections_max are taken, too, for requests marked `spare`. */
    size_t connections_max, body_max, header_max;
    size_t bodies_max;                                         /* bytes of all requests' bodies together */
    long idle_timeout_ms;                                      /* without a byte */
    long header_timeout_ms, body_timeout_ms, write_timeout_ms; /* in total */
};

int http_open(struct http **out, const struct http_options *options, struct err *err);
int http_start(struct http *http, struct err *err);
const char *http_address(const struct http *http); /* ADDR:PORT really listened on */

/* Stop accepting and answer what is in flight with Connection: close, for at most timeout_ms. */
void http_drain(struct http *http, long timeout_ms);
/* End the loops; calls that are deferred are waited for. Returns how many requests were left without an answer. */
size_t http_stop(struct http *http);
void http_free(struct http *http); /* NULL is allowed */

struct http_stats {
    size_t loops;
    size_t connections; /* open now */
    uint64_t refused;   /* connections answered with 503 so far */
    uint64_t cut[3];    /* for want of speed, in the header, in the body, in reading the answer */
    size_t body_bytes;  /* of the requests in flight */
};
void http_stats(const struct http *http, struct http_stats *out);

#endif

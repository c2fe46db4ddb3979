/* One request and its answer, from the request line to the last byte sent: what is decided while the pieces
 * come in. Knows nothing of sockets or of the HTTP library, which http.c puts in front. */
#ifndef EMBSUM_SERVER_EXCHANGE_H
#define EMBSUM_SERVER_EXCHANGE_H

#include "server/http_guard.h"
#include "server/http_message.h"
#include "server/spares.h"
#include "server/trace.h"

#include <stdatomic.h>

/* What a client may send beyond the body limit and still read our 413: a socket closed with unread bytes
 * resets the connection, and the reset may overtake the answer. */
#define EXCHANGE_DISCARD_MAX ((size_t)1 << 20)

/* Bytes of bodies that are kept, of many exchanges together. */
struct exchange_account {
    atomic_size_t used;
    size_t max;
};

struct exchange_limits {
    size_t body_max, header_max;
    struct exchange_account *bodies;
};

struct exchange {
    void *owner; /* whoever takes it from the pool leaves three words of its own here */
    void *connection;
    struct http_conn *conn;
    bool begun;       /* the head is complete */
    unsigned refusal; /* a status, once it is known that the request is refused; 0 so far */
    const char *message;
    const char *client; /* the address it came from; the caller's, until the end */
    char id[HTTP_ID_MAX + 1];
    bool traced; /* traceparent was valid, and is in: */
    struct trace trace;

    /* The parts of the request. Values of header fields are the caller's, valid until the end. */
    struct writer target, body;
    struct http_guard guard;
    const char *content_type, *authorization, *if_none_match, *wanted_id, *timeout, *traceparent;
    size_t traceparents; /* fields of the name */
    size_t received;     /* bytes of the body, kept or not */
    size_t charged;      /* of those to `bodies` */
    struct exchange_account *bodies;

    struct http_call call;
    bool answered; /* the response is complete */
};

/* Exchanges that one thread uses again and again, with their buffers. Zero-initialised is empty and valid. */
struct exchange_pool {
    struct spares spares;
};

struct exchange *exchange_take(struct exchange_pool *pool); /* NULL when memory is short */
void exchange_give(struct exchange_pool *pool, struct exchange *exchange);
void exchange_pool_done(struct exchange_pool *pool);

/* In the order of the wire. exchange_begin and exchange_receive return false if the request has to be refused at
 * once, with refusal and message set; a refusal that can wait is told by exchange_finish. */
void exchange_target(struct exchange *exchange, const char *target);
void exchange_field(
    struct exchange *exchange, const char *name, size_t name_len, const char *value, size_t value_len);
bool exchange_begin(struct exchange *exchange, const char *version, size_t header_size,
    const struct exchange_limits *limits, uint64_t *id_state);
bool exchange_receive(
    struct exchange *exchange, const char *data, size_t len, const struct exchange_limits *limits);

/* What is known of a request that is refused, whatever pieces of it have come, for whoever counts and logs. */
void exchange_describe(struct exchange *exchange);

/* The request is complete. False: refused; else call.request is filled in and points into the exchange. */
bool exchange_finish(struct exchange *exchange, const char *method);

/* Make the response that of the refusal. */
void exchange_refuse(struct exchange *exchange);

#endif

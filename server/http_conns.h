/* The connections of the HTTP front, and how long each may still take for what it is doing.
 *
 * The HTTP library's own timeout counts from the last byte: a client that sends one now and then keeps its connection
 * for ever. Here each phase of a request has a time in total. A thread looks at all connections some times a second and
 * shuts down those that are late, whereupon the library closes them; as long as nothing of an answer has been sent, 408
 * goes before it. It also ends those whose client has left: the library does not notice an end that comes together with
 * the last bytes.
 *
 *     conn = http_conns_add(conns, fd);               a loop has taken the connection
 *     http_conn_enter(conn, HTTP_PHASE_BODY);         ... and so on, from the thread that has the connection in hand
 *     http_conns_remove(conns, conn);                 before the descriptor is closed
 */
#ifndef EMBSUM_SERVER_HTTP_CONNS_H
#define EMBSUM_SERVER_HTTP_CONNS_H

#include "core/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Only header, body and write have a time of their own: an idle connection is the library's, work is the pools'. */
enum http_phase {
    HTTP_PHASE_IDLE,
    HTTP_PHASE_HEADER,
    HTTP_PHASE_BODY,
    HTTP_PHASE_WORK,
    HTTP_PHASE_WRITE,
    HTTP_PHASES
};

struct http_conn {
    struct http_conn *previous, *next;
    int fd;
    char client[46];            /* the address of the other end */
    bool spare;                 /* beyond the limit: there to ask how the daemon is, and for nothing else */
    atomic_uint_fast64_t state; /* since when, how often it has been idle, and the phase */
    uint64_t turn,
        bytes; /* the watching thread's: how many bytes had come when it first saw it idle for this time */
    uint64_t left_state; /* the watching thread's, too: how often it has seen the client gone in this state */
    unsigned left_looks;
};

struct http_conns_options {
    size_t max;               /* connections; those beyond are spare */
    uint64_t ms[HTTP_PHASES]; /* in total; 0: as long as it likes */
};

struct http_conns;

int http_conns_new(struct http_conns **out, const struct http_conns_options *options, struct err *err);
void http_conns_free(struct http_conns *conns); /* ends the thread; NULL is allowed */

/* NULL when memory is short: then the connection has to be closed. */
struct http_conn *http_conns_add(struct http_conns *conns, int fd);
void http_conns_remove(struct http_conns *conns, struct http_conn *conn); /* NULL is allowed */

/* False: the connection has been cut off, and nothing may be sent any more. Entering the header counts from its first
 * byte, if that has been noticed before. */
bool http_conn_enter(struct http_conn *conn, enum http_phase phase);

/* Connections that were cut off in this phase so far. */
uint64_t http_conns_cut(const struct http_conns *conns, enum http_phase phase);

#endif

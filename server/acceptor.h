/* The listening socket and the thread that accepts.
 *
 * It exists because the HTTP library's own thread pool does not balance its threads (of 32 connections 25
 * fell on one of two), and because at its connection limit that library stops accepting, so that clients
 * hang. Here each connection is handed to somebody who chooses the thread, and one too many gets an immediate
 * 503. */
#ifndef EMBSUM_SERVER_ACCEPTOR_H
#define EMBSUM_SERVER_ACCEPTOR_H

#include "core/err.h"

#include <stdint.h>
#include <sys/socket.h>

struct acceptor;

/* Takes the connection over and returns 0, or a negative enum err_code: then the acceptor answers 503. */
typedef int acceptor_take_fn(void *ctx, int fd, const struct sockaddr *address, socklen_t len);

/* Bind and listen. listen is ADDR:PORT or [IPv6]:PORT, see config/address.h. Nothing is accepted yet. */
int acceptor_open(struct acceptor **out, const char *listen, struct err *err);

/* ADDR:PORT really bound: port 0 has been replaced by the system's choice. */
const char *acceptor_address(const struct acceptor *acceptor);

int acceptor_start(struct acceptor *acceptor, acceptor_take_fn *take, void *ctx, struct err *err);

/* Hand over what the kernel has already accepted for us, then close the socket and end the thread. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_free(struct acceptor *acceptor); /* stops first; NULL is allowed */

uint64_t acceptor_refused(const struct acceptor *acceptor); /* connections answered with 503 so far */

#endif

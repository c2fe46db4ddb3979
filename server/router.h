/* Which handler answers which path. */
#ifndef EMBSUM_SERVER_ROUTER_H
#define EMBSUM_SERVER_ROUTER_H

#include "server/http_message.h"

struct worker;

/* Answer the request, whatever it is, and count it: at once (true), or by handing it to a thread that does (false).
 * loop is what belongs to the calling thread. */
bool router_handle(struct worker *loop, struct http_call *call);

/* The same for the operators' listener, always at once. */
bool router_handle_admin(struct worker *admin, struct http_call *call);

/* Whoever answers a call on a loop and then cannot, says so before another thread has it in hand. */
void router_defer(struct worker *worker, struct http_call *call);

/* A request that was refused before anybody has looked at what it asks for: count it. */
void router_refused(struct worker *loop, struct http_call *call);

/* The response is complete: count it, log it and, if the call was deferred, send it off. The call is gone then. */
void router_answer(struct worker *worker, struct http_call *call);

#endif

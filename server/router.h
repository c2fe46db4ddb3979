/* Which handler answers which path. */
#ifndef EMBSUM_SERVER_ROUTER_H
#define EMBSUM_SERVER_ROUTER_H

#include "server/http_message.h"

struct worker;

/* Answer the request, whatever it is, and count it. */
void router_handle(struct worker *worker, const struct http_request *request, struct http_response *response);

#endif

/* GET /openapi.json: each listener describes itself, in OpenAPI 3.1. The texts are server/openapi.json and
 * server/openapi_admin.json, and tests/openapi holds them to what the daemon does. */
#ifndef EMBSUM_SERVER_OPENAPI_H
#define EMBSUM_SERVER_OPENAPI_H

#include "server/http_message.h"

struct worker;

/* A client may keep the text but asks each time whether it is still the same: 304 where If-None-Match names the ETag, a
 * hash of it. */
void openapi_public(
    struct worker *worker, const struct http_request *request, struct http_response *response);
void openapi_admin(struct worker *worker, const struct http_request *request, struct http_response *response);

#endif

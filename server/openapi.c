/* Rejected: one document for both listeners. A client that is made from it would know calls that its server does not, at an
 * address that an operator need not give away. */
#include "server/openapi.h"

#include "server/embedded.h"

EMBEDDED("openapi_public_text", "server/openapi.json");
EMBEDDED("openapi_admin_text", "server/openapi_admin.json");
extern const char openapi_public_text[], openapi_admin_text[];

void openapi_public(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)worker;
    embedded_answer(openapi_public_text, request, response);
}

void openapi_admin(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)worker;
    embedded_answer(openapi_admin_text, request, response);
}

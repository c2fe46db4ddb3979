/* The descriptions are part of the program, so that what a daemon serves is always what it was built from. Rejected: one
 * document for both listeners. A client that is made from it would know calls that its server does not, at an
 * address that an operator need not give away. */
#include "server/openapi.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define EMBED(symbol, path)                                                                                  \
    __asm__(".section .rodata\n" symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n")

EMBED("openapi_public_text", "server/openapi.json");
EMBED("openapi_admin_text", "server/openapi_admin.json");
extern const char openapi_public_text[], openapi_admin_text[];

static void answer(const char *text, const struct http_request *request, struct http_response *response)
{
    const size_t len = strlen(text);
    char tag[24];
    snprintf(tag, sizeof tag, "\"%016" PRIx64 "\"", (uint64_t)XXH3_64bits(text, len));
    response->cache_control = "no-cache";
    http_response_header(response, "ETag", "%s", tag);
    /* The tag's quotes are part of it, so it is found in a list of tags as itself alone. */
    const char *known = request->if_none_match;
    if (known && (strcmp(known, "*") == 0 || strstr(known, tag)))
        response->status = 304;
    writer_raw(&response->body, text, len); /* for its length alone where the front sends no body */
}

void openapi_public(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)worker;
    answer(openapi_public_text, request, response);
}

void openapi_admin(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)worker;
    answer(openapi_admin_text, request, response);
}

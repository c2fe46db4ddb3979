/* The files are part of the program, as it works wherever it is installed, and from inside its sandbox. They are sent as
 * they are in server/console: no step of a build stands between what is written there and what a browser reads. */
#include "server/console.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define EMBED(symbol, path)                                                                                  \
    __asm__(".section .rodata\n" symbol ":\n.incbin \"" path "\"\n.byte 0\n.previous\n")

EMBED("console_page", "server/console/index.html");
EMBED("console_style", "server/console/console.css");
EMBED("console_script", "server/console/console.js");
extern const char console_page[], console_style[], console_script[];

static const struct file {
    const char *path, *type, *text;
} files[] = {
    {"/", "text/html; charset=utf-8", console_page},
    {"/console.css", "text/css; charset=utf-8", console_style},
    {"/console.js", "text/javascript; charset=utf-8", console_script},
    {NULL, NULL, NULL},
};

/* Nothing but the three files and this daemon's answers: no script, style or request of another origin, none written into the
 * page, no frame around it. So an id or a title that holds markup could do nothing even if the script let it. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void console_handle(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)worker;
    const struct file *file = files;
    while (file->path && strcmp(file->path, request->path) != 0)
        file++;
    if (!file->path) {
        http_fail(response, request, 404, "there is nothing at this path");
        return;
    }
    const size_t len = strlen(file->text);
    char tag[24];
    snprintf(tag, sizeof tag, "\"%016" PRIx64 "\"", (uint64_t)XXH3_64bits(file->text, len));
    response->content_type = file->type;
    response->cache_control = "no-cache";
    http_response_header(response, "Content-Security-Policy", "%s", policy);
    http_response_header(response, "X-Content-Type-Options", "nosniff");
    http_response_header(response, "Referrer-Policy", "no-referrer");
    http_response_header(response, "ETag", "%s", tag);
    /* The tag's quotes are part of it, so it is found in a list of tags as itself alone. */
    const char *known = request->if_none_match;
    if (known && (strcmp(known, "*") == 0 || strstr(known, tag)))
        response->status = 304;
    writer_raw(&response->body, file->text, len); /* for its length alone where the front sends no body */
}

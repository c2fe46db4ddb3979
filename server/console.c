/* The files are sent as they are in server/console: no step of a build stands between what is written there and what a
 * browser reads. */
#include "server/console.h"

#include "server/embedded.h"

#include <string.h>

EMBEDDED("console_page", "server/console/index.html");
EMBEDDED("console_style", "server/console/console.css");
EMBEDDED("console_script", "server/console/console.js");
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
    response->content_type = file->type;
    http_response_header(response, "Content-Security-Policy", "%s", policy);
    http_response_header(response, "X-Content-Type-Options", "nosniff");
    http_response_header(response, "Referrer-Policy", "no-referrer");
    embedded_answer(file->text, request, response);
}

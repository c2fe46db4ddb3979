/* The console: a page of its own for a browser, on what the daemon answers anyway. */
#ifndef EMBSUM_SERVER_CONSOLE_H
#define EMBSUM_SERVER_CONSOLE_H

#include "server/http_message.h"

struct worker;

/* GET /, /console.css and /console.js. A browser may keep them but asks each time whether they are still the same: 304
 * where If-None-Match names the ETag, a hash of the file. */
void console_handle(
    struct worker *worker, const struct http_request *request, struct http_response *response);

#endif

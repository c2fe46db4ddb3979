/* Which ids there are: those in memory that begin with what somebody has typed so far. */
#ifndef EMBSUM_SERVER_COMPLETION_H
#define EMBSUM_SERVER_COMPLETION_H

#include "server/http_message.h"

struct worker;

#define COMPLETION_LIMIT 20      /* ids, unless the request says otherwise */
#define COMPLETION_LIMIT_MAX 100 /* at most */

/* GET /hot?kind=content|user&prefix=N1&limit=20: {"kind", "ids", "complete"}, in the order of their bytes; complete: there are
 * no others in memory. The store is never asked, and only so much of the memory's index is looked at as takes a millisecond or
 * so; readers of hot memory hold nobody up. For a worker. */
void completion_handle(
    struct worker *worker, const struct http_request *request, struct http_response *response);

#endif

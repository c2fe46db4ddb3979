/* What operators ask on a listener of their own (admin.listen). It has a loop to itself, which may wait for the store. */
#ifndef EMBSUM_SERVER_ADMIN_H
#define EMBSUM_SERVER_ADMIN_H

#include "server/http_message.h"

struct worker;

/* What is in memory, what was refused and why, and all that the store has. The store may be away: it is null then. */
void admin_generations(
    struct worker *worker, const struct http_request *request, struct http_response *response);

/* Look for a new live generation now, and once more at one that was refused. The answer does not wait for it. */
void admin_reload(struct worker *worker, const struct http_request *request, struct http_response *response);

#endif

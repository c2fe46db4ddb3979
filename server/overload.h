/* A call that cannot be answered in time is refused before work goes into it: asked for more than it can do, the daemon
 * answers as many requests as it can, and tells the others at once.
 *
 * A call has rank.deadline_ms from when its request was complete, or X-Timeout-Ms where that is less. */
#ifndef EMBSUM_SERVER_OVERLOAD_H
#define EMBSUM_SERVER_OVERLOAD_H

#include "server/http_message.h"
#include "server/worker.h"

uint64_t overload_deadline_ns(const struct config *config, const struct http_call *call);

/* True: the call's response is 503, for want of time or of room in the queue. Before a call is put into the workers' queue,
 * which it would have to wait through ... */
bool overload_before_queue(struct worker *loop, struct http_call *call);
/* ... and when its turn has come. */
bool overload_after_queue(struct worker *worker, struct http_call *call);

#endif

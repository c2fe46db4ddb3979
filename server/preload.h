/* Bring a generation's matrices into hot memory before anybody asks for them. */
#ifndef EMBSUM_SERVER_PRELOAD_H
#define EMBSUM_SERVER_PRELOAD_H

#include "core/err.h"

struct live_generation;
struct service;
struct worker;

/* What the generation before (NULL: there is none) has in memory, those first that were asked for lately, as far as it
 * fits and within memory.warm_ms, of which contents get three quarters. A kind that preload() reads whole is left to it.
 * Progress goes to the log. For the watcher. ERR_UNAVAILABLE: the store went away, or the service is stopping. */
int warm(struct live_generation *generation, const struct live_generation *before, struct service *service,
    struct err *err);

/* Contents until the memory for them is full; users if all of them fit. ERR_CORRUPT: more of them are damaged than
 * live_verify_tolerated(). Otherwise as above. */
int preload(struct live_generation *generation, struct worker *watcher, struct err *err);

#endif

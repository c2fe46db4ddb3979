/* Bring a generation's matrices into hot memory before anybody asks for them. */
#ifndef EMBSUM_SERVER_PRELOAD_H
#define EMBSUM_SERVER_PRELOAD_H

#include "core/err.h"

struct live_generation;
struct service;

/* Contents until the memory for them is full; users if all of them fit. Progress goes to the log. For the watcher.
 * ERR_UNAVAILABLE: the store went away, or the service is stopping. */
int preload(struct live_generation *generation, struct service *service, struct err *err);

#endif

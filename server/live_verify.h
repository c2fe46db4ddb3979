/* Is a generation what its manifest says? Looked at before it goes live: its counts, and a sample of its blobs. All of
 * them are read by `embsum generations verify`, and by the daemon where it preloads. */
#ifndef EMBSUM_SERVER_LIVE_VERIFY_H
#define EMBSUM_SERVER_LIVE_VERIFY_H

#include "core/err.h"

#include <stddef.h>

struct live_generation;
struct worker;

/* So many damaged or missing blobs among those that were read are a reason to answer without them (they are told as
 * `missing`), more are a reason to refuse the generation: one, and a fiftieth of what was read. One damaged blob takes no
 * service down, a run that went wrong does not go live. */
static inline size_t live_verify_tolerated(size_t read)
{
    return 1 + read / 50;
}

/* The catalogue has been read. 64 contents are spread over it; 64 users are drawn from the first 65,536 that the store
 * lists, and counted if there are no more than that: users can be too many to list. The choice follows from the
 * generation's name, so that every daemon says the same of it. ERR_CORRUPT says what is wrong, with the id and the
 * reason of the first bad blob; each of them is logged. For the watcher. */
int live_verify(struct live_generation *generation, struct worker *watcher, struct err *err);

#endif

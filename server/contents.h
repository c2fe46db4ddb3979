/* The blocks of a request's candidates, one behind the other as core/score.h wants them: from hot memory
 * where they are there, else from the store, checked. */
#ifndef EMBSUM_SERVER_CONTENTS_H
#define EMBSUM_SERVER_CONTENTS_H

#include "core/err.h"
#include "server/live.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;

enum content_status { CONTENT_HERE, CONTENT_NOT_FOUND, CONTENT_CORRUPT, CONTENT_UNAVAILABLE };

/* What contents_gather found; buffers are kept from request to request. Zero-initialised is empty and valid.
 */
struct contents {
    float *blocks;               /* count x 2n x d */
    uint32_t *index;             /* count: whose block it is, as an index into the ids asked for */
    enum content_status *status; /* for each id asked for */
    size_t count;                /* of those that are here */
    bool store_failed;

    uint64_t *hashes;
    const void **hot; /* blocks */
    struct store_id *missed;
    uint32_t *missed_index;
    float *gate_in, *gate_out; /* a batch of B and G of those that came from the store */
    double *gate_scratch;
    size_t room, n, d; /* what the buffers were made for */
};

/* How many ids contents_gather takes at a time: as many as fill 16 MiB with their blocks (1,024 at d 512, n
 * 4), so that a worker's memory is bounded and an ordinary request is one product. */
size_t contents_chunk(const struct live_generation *generation);

/* Gather the blocks of at most contents_chunk() distinct ids into worker->contents. may_evict: may hot memory
 * forget others for these? Only ERR_NOMEM is an error: a store that does not answer makes its ids
 * CONTENT_UNAVAILABLE. */
int contents_gather(struct worker *worker, struct live_generation *generation, const struct store_id *ids,
    size_t count, bool may_evict, struct err *err);

void contents_done(struct contents *contents);

#endif

/* encode_job() by other processes, on any machines (embsum worker): contents and users go in units through a queue in the
 * store, and the workers write the matrices. What is stored is what encode_job() would have stored.
 *
 * A bounded number of units is in the queue, however many there are to be. A unit whose worker dies goes to another. The
 * queue is gone when this returns, whatever happens; what was done until then stays.
 */
#ifndef EMBSUM_BATCH_ENCODE_FARM_H
#define EMBSUM_BATCH_ENCODE_FARM_H

#include "batch/encode_job.h"
#include "store/generation.h"

struct farm {
    const struct encode_request *request; /* threads and cache are the workers' own affair */
    struct generation_writer *writer;     /* whose generation it is; nothing else is put meanwhile */
    enum blob_dtype dtype;                /* of the stored matrices */
    int silent_ms;                        /* after which a unit goes to another worker */
    /* A matrix was not fit to be stored, and why. A negative result ends the job with it. */
    int (*refused)(
        void *ctx, enum blob_kind kind, const struct store_id *id, const char *why, struct err *err);
    void *ctx;
};

/* As encode_job(). Also ERR_UNAVAILABLE when the store does not answer for a minute, or has lost units. */
int encode_farm(struct encode_done *done, const struct workspace *workspace, struct store_link *link,
    const struct farm *farm, struct err *err);

#endif

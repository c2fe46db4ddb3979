/* Encode all contents and all users of a workspace with a few threads, and hand the matrices to a sink.
 *
 * The order in which results come is not fixed; what is computed for an item or a user does not depend on it.
 */
#ifndef EMBSUM_BATCH_ENCODE_JOB_H
#define EMBSUM_BATCH_ENCODE_JOB_H

#include "batch/workspace.h"

/* Called one at a time. A negative result ends the job with it. index is the news' or the user's; the default
 * user has the index behind the last user. `inputs` is the hash of all that the matrix was computed from. */
struct encode_sink {
    int (*content)(void *ctx, size_t index, uint64_t inputs, const float *b, struct err *err);
    int (*user)(void *ctx, size_t index, uint64_t inputs, const float *a, const struct encode_user *user,
        struct err *err);
    void *ctx;
};

/* threads 0: one a core. Ends early with ERR_UNAVAILABLE when SIGINT or SIGTERM has come (batch/stop.h). */
int encode_job(const struct workspace *workspace, const struct encode_sink *sink, long threads, bool quiet,
    struct err *err);

#endif

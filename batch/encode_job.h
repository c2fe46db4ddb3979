/* Encode contents and users of a workspace with a few threads, and hand the matrices to a sink.
 *
 * The order in which results come is not fixed; what is computed for an item or a user does not depend on it.
 */
#ifndef EMBSUM_BATCH_ENCODE_JOB_H
#define EMBSUM_BATCH_ENCODE_JOB_H

#include "batch/workspace.h"

/* What a matrix's codes look at: encoder_weights(), codes x rows. */
struct encode_weights {
    const float *at;
    size_t codes, rows;
    const int32_t *tokens; /* of a content: one a row; of a user NULL */
};

/* Called one at a time. A negative result ends the job with it. index is the news' or the user's; the default
 * user has the index behind the last user. `inputs` is the hash of all that the matrix was computed from; weights are NULL
 * unless the request asks for them. */
struct encode_sink {
    int (*content)(void *ctx, size_t index, uint64_t inputs, const float *b,
        const struct encode_weights *weights, struct err *err);
    int (*user)(void *ctx, size_t index, uint64_t inputs, const float *a, const struct encode_user *user,
        const struct encode_weights *weights, struct err *err);
    void *ctx;
};

/* What to encode: indices of news, and of users, in the order in which it is done. A list that is NULL counts from 0. */
struct encode_request {
    const uint32_t *contents, *users;
    size_t content_count, user_count;
    const struct encode_cache *cache; /* of sessions' states; NULL: none */
    long threads;                     /* 0: one a core */
    double until;                     /* progress_now() at which no further batch is begun; 0: none */
    bool quiet;
    bool weights; /* hand them to the sink */
};

struct encode_done {
    size_t contents, users, tokens; /* that went through the encoder */
    bool in_time;                   /* all was done before `until` */
};

/* Ends early with ERR_UNAVAILABLE when SIGINT or SIGTERM has come (batch/stop.h), after the batch in hand; what was done
 * until then is in *done, also at a failure. */
int encode_job(struct encode_done *done, const struct workspace *workspace, const struct encode_sink *sink,
    const struct encode_request *request, struct err *err);

#endif

/* Ranking: the users' matrices, the candidates' blocks, one product a user, the best first. */
#ifndef EMBSUM_SERVER_RANK_H
#define EMBSUM_SERVER_RANK_H

#include "server/http_message.h"
#include "server/rank_request.h"
#include "server/top.h"
#include "server/users.h"
#include "server/worker.h"

/* POST /rank and GET /rank */
void rank_handle(struct worker *worker, const struct http_request *request, struct http_response *response);

/* Of the whole catalogue at most so many missing contents are listed; missing_count tells how many there are.
 */
#define RANK_MISSING_LISTED 100

struct rank_missing {
    uint32_t index; /* into candidates */
    enum metrics_missing reason;
};

/* All in the worker's arena, or the generation's. */
struct rank_result {
    struct live_generation *generation;
    struct user *users;
    size_t user_count;
    struct top *tops; /* one a user, sorted; empty for a user without a matrix */
    const struct store_id *candidates;
    size_t candidate_count;
    struct rank_missing *missing;
    size_t missing_listed, missing_count;
    bool store_failed;
};

/* Rank what is asked. ERR_UNAVAILABLE if the store had no answer for any of the users or for the catalogue's
 * ids, ERR_NOT_FOUND if none of the users is there, ERR_CORRUPT if their matrices were refused, ERR_NOMEM. */
int rank_run(struct rank_result *out, struct worker *worker, struct live_generation *generation,
    const struct rank_request *request, struct err *err);

#endif

/* Ranking: one request from its bytes to its answer, on the workers, or on the loop that has read it.
 *
 * A job goes through four stages; where it has to wait for the store it leaves its thread and goes on, on any worker,
 * when what it asked for has come, or its time is over:
 *
 *     parse     what is asked; the live generation is held from here on
 *     users     their matrices
 *     lanes     the candidates, window by window: what is hot is scored while the rest is under way. A request of
 *               many windows has as many lanes as there are workers, which share its windows
 *     answer    the best first, as JSON, with what the store tells of them where that is asked for
 */
#ifndef EMBSUM_SERVER_RANK_H
#define EMBSUM_SERVER_RANK_H

#include "server/http_message.h"
#include "server/metrics.h"
#include "server/rank_request.h"
#include "server/top.h"

struct worker;

/* POST /rank and GET /rank. A short request that needs nothing but what is in memory is answered at once; others are
 * handed to the workers: a change of threads and back costs as much as scoring some ten candidates. */
void rank_call(struct http_call *call, struct worker *loop);

void rank_jobs_free(struct worker *worker); /* those kept for the next requests */

enum user_status { USER_PRESENT, USER_DEFAULT, USER_NOT_FOUND, USER_CORRUPT, USER_UNAVAILABLE };

const char *rank_user_status_name(enum user_status status); /* "present", "default", ... */

struct rank_user {
    struct store_id id;
    enum user_status status;
    bool corrupt;       /* the default user stands in for one whose own matrix was refused */
    const void *matrix; /* packed; NULL unless the status is present or default */
};

/* Of the whole catalogue, or a category of it, at most so many missing contents are listed; missing_count tells how many there are. */
#define RANK_MISSING_LISTED 100

struct rank_missing {
    uint32_t index; /* into candidates */
    enum metrics_missing reason;
};

/* All in the job's arena, or the generation's. */
struct rank_result {
    struct live_generation *generation;
    struct rank_user *users;
    size_t user_count;
    const void **matrices; /* of those that have one */
    size_t matrix_count;
    struct top *tops; /* one a user, sorted; empty for a user without a matrix */
    const struct store_id *candidates;
    const uint64_t *hashes;
    size_t candidate_count;
    struct rank_missing *missing;
    size_t missing_listed, missing_count;
    bool store_failed;
    /* What else is told of the hits; NULL: nothing. Detail i is of candidate detailed[i], in ascending order. */
    const struct details *details;
    const uint32_t *detailed;
    size_t detailed_count;
    /* To be explained: for each user in turn one block for each of the hits; NULL: gone meanwhile. */
    const void **explained;
};

#endif

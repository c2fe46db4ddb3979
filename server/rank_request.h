/* What a client asks to be ranked: the body of POST /rank or the query of GET /rank, checked once and for
 * all.
 *
 *     {"user": "U1", "candidates": ["N1", "N2", "N9"], "top_k": 10, "explain": false, "titles": false}
 *     user=U1&candidates=N1,N2,N9&top_k=10&explain=false&titles=false
 *
 * "users": [...] in place of "user" asks for several rankings of the same candidates. Without candidates the
 * whole catalogue is meant, and top_k is required; "category": "..." narrows the catalogue to one of the generation's
 * categories (an unknown one is not found), "exclude": [...] leaves contents out of it. */
#ifndef EMBSUM_SERVER_RANK_REQUEST_H
#define EMBSUM_SERVER_RANK_REQUEST_H

#include "server/arena.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rank_limits {
    size_t candidates_max, users_max;
};

struct rank_request {
    struct store_id *users; /* at least one, each once */
    uint64_t *user_hashes;  /* hot_hash of the same */
    size_t user_count;
    bool several; /* asked with "users": the answer is a list, even of one */

    bool whole_catalogue;
    struct store_id *candidates; /* each once, in the order asked */
    uint64_t *hashes;            /* of the same */
    size_t candidate_count;

    /* Of the whole catalogue alone. */
    struct store_id category; /* len 0: all; else what category_check allows */
    struct store_id *exclude; /* each once */
    uint64_t *exclude_hashes; /* of the same */
    size_t exclude_count;

    size_t top_k; /* 0: all */
    bool explain, titles;
};

/* ERR_INVALID with a message that names the place ("candidates[3]: an id must not be empty") or ERR_NOMEM.
 * All memory comes from the arena. Ids have no NUL behind them: those that a body holds without escapes stay
 * where they are, so the body must live as long as the request; the query need not. */
int rank_request_parse_json(struct rank_request *out, struct arena *arena, const struct rank_limits *limits,
    const char *body, size_t len, struct err *err);
int rank_request_parse_query(struct rank_request *out, struct arena *arena, const struct rank_limits *limits,
    const char *query, struct err *err);

#endif

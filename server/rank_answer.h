/* A ranking as JSON. */
#ifndef EMBSUM_SERVER_RANK_ANSWER_H
#define EMBSUM_SERVER_RANK_ANSWER_H

#include "server/rank.h"

/* So many items of one answer can be explained: each takes m n numbers twice, and a product of its own. */
#define RANK_EXPLAIN_MAX 1000
#define RANK_EXPLAIN_PAIRS 5 /* top pairs of an explanation */

struct arena;

/* ERR_NOMEM. */
int rank_answer_write(struct writer *w, struct arena *arena, const struct rank_request *request,
    const struct rank_result *result, struct err *err);

#endif

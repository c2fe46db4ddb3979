/* What the two forms of a request share. */
#ifndef EMBSUM_SERVER_RANK_REQUEST_INT_H
#define EMBSUM_SERVER_RANK_REQUEST_INT_H

#include "server/rank_request.h"

/* Always -ERR_NOMEM */
int rank_request_no_memory(struct err *err);

/* Is the id of a list one? index is SIZE_MAX where there is no list but a key of that name. */
int rank_request_check_id(const struct store_id *id, const char *list, size_t index, struct err *err);
int rank_request_check_category(const struct store_id *category, struct err *err);
int rank_request_check_count(const char *list, size_t count, size_t max, struct err *err);

/* What no single key can tell; ids that are repeated are left out, and the hashes of the others added. The request
 * comes with pointers that are NULL for what was not given. */
int rank_request_finish(
    struct rank_request *request, struct arena *arena, const struct rank_limits *limits, struct err *err);

#endif

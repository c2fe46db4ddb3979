/* The matrices of the users that a request names: read for each request, so that a refreshed user counts at
 * once; the generation's default user stands in where the configuration allows it. */
#ifndef EMBSUM_SERVER_USERS_H
#define EMBSUM_SERVER_USERS_H

#include "core/err.h"
#include "server/live.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>

struct worker;

enum user_status { USER_PRESENT, USER_DEFAULT, USER_NOT_FOUND, USER_CORRUPT, USER_UNAVAILABLE };

struct user {
    struct store_id id;
    enum user_status status;
    bool corrupt;        /* the default user stands in for one whose own matrix was refused */
    const float *matrix; /* A, m x d; NULL unless the status is present or default */
};

/* *out receives an array in the worker's arena. Only ERR_NOMEM is an error: a store that does not answer
 * makes its users USER_UNAVAILABLE. */
int users_load(struct user **out, struct worker *worker, const struct live_generation *generation,
    const struct store_id *ids, size_t count, struct err *err);

const char *user_status_name(enum user_status status); /* "present", "default", ... */

#endif

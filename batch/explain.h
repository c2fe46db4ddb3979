/* What a matrix's codes look at, as it is kept in the store (store/why.h). */
#ifndef EMBSUM_BATCH_EXPLAIN_H
#define EMBSUM_BATCH_EXPLAIN_H

#include "batch/encode_job.h"

/* *text = the malloc'ed line: of a user the WHY_ITEMS items of the history that weigh most for each code, of which each row
 * counts for itself, "" standing for the summary's state; of a content the WHY_TOKENS tokens. Among equal weights the earlier
 * row comes first. */
int explain_user(char **text, const struct workspace *workspace, size_t user,
    const struct encode_weights *weights, struct err *err);
int explain_content(
    char **text, const struct workspace *workspace, const struct encode_weights *weights, struct err *err);

#endif

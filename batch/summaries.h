/* Summaries as JSON lines: {"user": "U1", "summary": "..."} (DESIGN, "Files"). Other keys are passed over. */
#ifndef EMBSUM_BATCH_SUMMARIES_H
#define EMBSUM_BATCH_SUMMARIES_H

#include "core/err.h"

#include <stddef.h>

/* Called for each line; a negative result ends the reading with it, the place put before its message. */
typedef int summaries_fn(void *ctx, const char *user, size_t user_len, const char *summary, struct err *err);

int summaries_read(const char *path, summaries_fn *fn, void *ctx, struct err *err);

/* The lines in the first `bytes` of the file alone: of one that is being written, say. */
int summaries_read_part(const char *path, size_t bytes, summaries_fn *fn, void *ctx, struct err *err);

#endif

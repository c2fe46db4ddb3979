/* After a refresh, waiting for more: rows appended to the behaviours file and clicks in the store make their users fresh
 * within a second or so, without looking at anything else. */
#ifndef EMBSUM_BATCH_FOLLOW_H
#define EMBSUM_BATCH_FOLLOW_H

#include "batch/refresh.h"

/* A file that grows at its end. Complete lines count: one that is still being written waits for its end. */
struct tail {
    const char *path; /* NULL: there is none */
    uint64_t device, inode, offset;
};

/* Remember where the file ends. Before it is read as a whole: what comes meanwhile is then read twice, not missed. */
int tail_open(struct tail *tail, const char *path, struct err *err);

/* A descriptor of a copy of the lines that have come since, for the caller to close; -1 if there are none. ERR_NOT_FOUND: the
 * file is another one now, or shorter. */
int tail_read(int *fd, struct tail *tail, struct err *err);

struct follow {
    struct workspace *workspace;
    struct store *store;
    const struct refresh_options *options; /* of the refresh before; with its source changed */
    const struct tsv_options *rows;
    const char *news;
    struct tail *behaviors;
    /* Told of every run. */
    void (*report)(void *ctx, const struct refresh_done *done, int result, const struct err *err);
    void *ctx;
};

/* Until a signal asks to stop, or options->until: 0. 1: a file is another one now, and everything is to be looked at. A
 * store that does not answer, and another writer, are waited for. */
int follow(const struct follow *follow, struct err *err);

#endif

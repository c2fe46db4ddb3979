/* Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when quiet. */
#ifndef EMBSUM_BATCH_PROGRESS_H
#define EMBSUM_BATCH_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

struct progress {
    bool quiet, terminal;
    const char *what;
    size_t total, done;
    double started, shown; /* seconds */
};

void progress_begin(struct progress *progress, const char *what, size_t total, bool quiet);
void progress_add(struct progress *progress, size_t done);
void progress_end(struct progress *progress); /* the last line, with the time it took */

/* A line on stderr, unless quiet. */
void progress_say(bool quiet, const char *format, ...) __attribute__((format(printf, 2, 3)));

double progress_now(void); /* seconds, monotonic */

#endif

/* Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing when quiet. */
#ifndef EMBSUM_BATCH_PROGRESS_H
#define EMBSUM_BATCH_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

struct progress {
    bool quiet, terminal;
    const char *what;
    size_t total, done;
    size_t before;         /* of what is done: by somebody else, so that it says nothing about the speed */
    size_t following;      /* of the same kind after this total: a second estimate tells when all is done */
    char note[96];         /* behind the bar; progress_note() */
    double started, shown; /* seconds */
};

void progress_begin(struct progress *progress, const char *what, size_t total, bool quiet);
void progress_add(struct progress *progress, size_t done);
void progress_end(struct progress *progress); /* the last line, with the time it took */

/* What stands behind the bar from its next line on. */
void progress_note(struct progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A line of its own above the bar, unless quiet. */
void progress_tell(struct progress *progress, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A line on stderr, unless quiet. */
void progress_say(bool quiet, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "45 s", "12 min", "3 h 05 min". */
void progress_duration(char out[32], double seconds);

double progress_now(void); /* seconds, monotonic */

#endif

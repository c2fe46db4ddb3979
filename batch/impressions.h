/* behaviors.tsv impression by impression (DESIGN, "Files"), for those who need the candidates: eval, train.
 *
 *     struct impressions in;
 *     int result = impressions_open(&in, &options, &news, &err);
 *     while (result >= 0 && (result = impressions_next(&in, &err)) > 0)
 *         use(&in.row);
 *     impressions_close(&in);
 *
 * A candidate is `N1-1` or `N1-0`; in a set without labels it is `N1`. An unknown id, a label that is neither,
 * a row without candidates or with labels on some of them alone is a bad row (batch/tsv.h): told with its
 * place, counted and skipped.
 */
#ifndef EMBSUM_BATCH_IMPRESSIONS_H
#define EMBSUM_BATCH_IMPRESSIONS_H

#include "batch/mind.h"

struct impression {
    const char *id, *user; /* NUL-terminated */
    uint32_t *history;     /* indices into the news, oldest first; ids without a text are dropped */
    size_t history_count, history_asked;
    uint32_t *candidates; /* indices into the news, in the order of the row */
    uint8_t *labels;      /* 0 or 1 each; nothing where `labelled` is false */
    size_t candidate_count;
    bool labelled;
};

struct impressions_options {
    const char *path;
    struct tsv_limit max_bad;
    size_t limit;      /* stop after so many impressions; 0: at the end of the file */
    bool label_needed; /* a row without labels is a bad row */
    bool quiet;
};

struct impressions {
    struct impressions_options options;
    const struct news *news;
    struct tsv tsv;
    struct impression row; /* the one in hand: valid until the next call */
    size_t history_size, candidate_size;
    size_t count; /* impressions so far */
};

int impressions_open(struct impressions *impressions, const struct impressions_options *options,
    const struct news *news, struct err *err);

/* The next impression in ->row: 1, 0 at the end, or a negative code: the file cannot be read, or had too many
 * bad rows. */
int impressions_next(struct impressions *impressions, struct err *err);

/* Back to the first one. Bad rows are not told again. ERR_IO where the file is a pipe. */
int impressions_rewind(struct impressions *impressions, struct err *err);

void impressions_close(struct impressions *impressions);

#endif

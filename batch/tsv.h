/* Lines of tab-separated values, without header and without quoting, as MIND's files have them.
 *
 * A line may end in LF or CRLF and the last one in nothing; a byte order mark at the start of the file is
 * passed over; empty lines are skipped and counted. A line with another number of columns, with NUL bytes or
 * bytes that are not UTF-8 is a bad row: it is told with its place, counted and skipped; more than max_bad of
 * them fail the file at its end.
 */
#ifndef EMBSUM_BATCH_TSV_H
#define EMBSUM_BATCH_TSV_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TSV_COLUMNS_MAX 16

struct tsv_field {
    char *bytes;
    size_t len;
};

struct tsv {
    const char *path;
    FILE *stream;
    char *line;
    size_t size;
    size_t columns;
    size_t number; /* of the line in hand, from 1 */
    size_t rows, empty, bad, max_bad;
    bool quiet;
};

int tsv_open(struct tsv *tsv, const char *path, size_t columns, size_t max_bad, bool quiet, struct err *err);

/* The next good row in fields (valid until the next call): 1, or 0 at the end, or a negative code: the file
 * cannot be read, or it had more than max_bad bad rows. */
int tsv_next(struct tsv *tsv, struct tsv_field *fields, struct err *err);

/* The caller found the row in hand bad: tell and count it. */
void tsv_bad(struct tsv *tsv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tell something about the row in hand that does not make it bad. */
void tsv_note(const struct tsv *tsv, const char *format, ...) __attribute__((format(printf, 2, 3)));

void tsv_close(struct tsv *tsv);

#endif

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
    bool told; /* an earlier pass has told the bad rows and the notes: this one only counts */
};

int tsv_open(struct tsv *tsv, const char *path, size_t columns, size_t max_bad, bool quiet, struct err *err);

/* The next good row in fields (valid until the next call): 1, or 0 at the end, or a negative code: the file
 * cannot be read, or it had more than max_bad bad rows. */
int tsv_next(struct tsv *tsv, struct tsv_field *fields, struct err *err);

/* What tsv_next does at the end of the file, for a caller who stops before it: fail on too many bad rows. */
int tsv_end(const struct tsv *tsv, struct err *err);

/* Back to the first row, for a second pass that counts the bad rows again but does not tell them again. A
 * stream that cannot go back (a pipe) is ERR_IO. */
int tsv_rewind(struct tsv *tsv, struct err *err);

/* The next word of a field that holds words between single or doubled spaces, from *at on (0 at first), which
 * moves behind it; false when there is none left. */
bool tsv_word(struct tsv_field *word, const struct tsv_field *field, size_t *at);

/* The caller found the row in hand bad: tell and count it. */
void tsv_bad(struct tsv *tsv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tell something about the row in hand that does not make it bad. */
void tsv_note(const struct tsv *tsv, const char *format, ...) __attribute__((format(printf, 2, 3)));

void tsv_close(struct tsv *tsv);

#endif

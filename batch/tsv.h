/* Lines of tab-separated values, without header and without quoting, as MIND's files have them.
 *
 * A line may end in LF or CRLF and the last one in nothing; a byte order mark at the start of the file is
 * passed over; empty lines are skipped and counted. A line with another number of columns, with NUL bytes or
 * bytes that are not UTF-8 is a bad row: it is told with its place, counted, kept in the quarantine if there is
 * one, and skipped; more of them than max_bad allows fail the file at its end.
 *
 * The file is read once, from front to back, in blocks; a row is handed out where it lies in the block.
 */
#ifndef EMBSUM_BATCH_TSV_H
#define EMBSUM_BATCH_TSV_H

#include "batch/quarantine.h"
#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TSV_COLUMNS_MAX 16

/* How many bad rows a file may have: so many, and so many of each million rows. One of the two is 0. */
struct tsv_limit {
    size_t rows, per_million;
};

/* "12": so many rows; "1%", "0.5%": a share of the rows, to four decimals. False if it is neither. */
bool tsv_limit_parse(struct tsv_limit *limit, const char *text);

struct tsv_options {
    struct tsv_limit max_bad;
    struct quarantine *quarantine; /* NULL: bad rows are only told */
    size_t *bad_rows; /* their number is added to it when the file is closed; NULL: nobody asks */
    bool quiet;       /* no notes; bad rows are told all the same */
};

struct tsv_field {
    char *bytes; /* a NUL behind its end */
    size_t len;
};

struct tsv {
    const char *path;
    struct tsv_options options;
    size_t columns;
    int fd;
    bool owned;              /* the descriptor is closed with it */
    char *block;             /* of the file, from ->offset on: what has been read, [at, end) not handed out */
    size_t size, at, end;    /* of the block; one byte behind `end` is there for a NUL */
    uint64_t offset;         /* of the block in the file */
    bool last;               /* the file has ended behind the block */
    char *line;              /* the one in hand, without its ending */
    size_t len;              /* of the line */
    bool cut;                /* its tabs are NULs */
    size_t number;           /* of the line, from 1 */
    size_t rows, empty, bad; /* lines that are not empty, good or bad; empty ones; bad rows */
    bool told;               /* an earlier pass has told the bad rows and the notes: this one only counts */
};

/* The path is not copied. */
int tsv_open(
    struct tsv *tsv, const char *path, size_t columns, const struct tsv_options *options, struct err *err);
/* The same from a descriptor of the file at its beginning, which stays the caller's. */
int tsv_open_fd(struct tsv *tsv, int fd, const char *path, size_t columns, const struct tsv_options *options,
    struct err *err);

/* The next good row in fields (valid until the next call): 1, or 0 at the end, or a negative code: the file
 * cannot be read, or it had more bad rows than are allowed. */
int tsv_next(struct tsv *tsv, struct tsv_field *fields, struct err *err);

/* Where a field of the row in hand begins in the file. */
static inline uint64_t tsv_offset(const struct tsv *tsv, const struct tsv_field *field)
{
    return tsv->offset + (uint64_t)(field->bytes - tsv->block);
}

/* What tsv_next does at the end of the file, for a caller who stops before it: fail on too many bad rows. */
int tsv_end(const struct tsv *tsv, struct err *err);

/* Back to the first row, for a second pass that counts the bad rows again but does not tell them again. A
 * stream that cannot go back (a pipe) is ERR_IO. */
int tsv_rewind(struct tsv *tsv, struct err *err);

/* The next word of a field that holds words between single or doubled spaces, from *at on (0 at first), which
 * moves behind it; false when there is none left. */
bool tsv_word(struct tsv_field *word, const struct tsv_field *field, size_t *at);

/* The caller found the row in hand bad: tell, keep and count it. */
void tsv_bad(struct tsv *tsv, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tell something about the row in hand that does not make it bad. */
void tsv_note(const struct tsv *tsv, const char *format, ...) __attribute__((format(printf, 2, 3)));

void tsv_close(struct tsv *tsv);

#endif

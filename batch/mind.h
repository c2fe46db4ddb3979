/* MIND's news.tsv and behaviors.tsv (DESIGN, "Files"), as a refresh needs them. */
#ifndef EMBSUM_BATCH_MIND_H
#define EMBSUM_BATCH_MIND_H

#include "batch/tsv.h"
#include "core/err.h"
#include "core/id.h"
#include "core/text.h"

/* The catalogue, in the order of the file. Texts point into `bytes`. A row that comes twice, the same to the
 * letter, counts once; an id that comes twice with other columns is a bad row. */
struct news {
    struct id_map ids;
    size_t (*offsets)[TEXT_COLUMNS]; /* into bytes */
    size_t (*lengths)[TEXT_COLUMNS];
    size_t *line; /* where the item was read */
    size_t capacity;
    char *bytes;
    size_t bytes_used, bytes_size;
};

int news_load(struct news *news, const char *path, size_t max_bad, bool quiet, struct err *err);
void news_done(struct news *news);
struct text_item news_item(const struct news *news, size_t index);

enum { BEHAVIORS_COLUMNS = 5 };

/* The history column of a row, in two steps. Its ids, checked: their number, or -1 after telling the bad row.
 */
ptrdiff_t history_check(struct tsv *tsv, const struct tsv_field *field);
/* items (room for that many) = the indices of those with a text, in their order; returns their number. */
size_t history_items(uint32_t *items, const struct tsv_field *field, const struct news *news);

/* Users in the order in which they appear first, each with its newest history. A history only grows, so the
 * longest row of a user is the newest one, and among equals the later row. */
struct history {
    uint32_t *items; /* indices into the news, oldest first; ids without a text are dropped */
    size_t count;
    size_t asked; /* ids in the row */
};

struct histories {
    struct id_map users;
    struct history *history;
    size_t capacity;
    size_t dropped; /* history ids without a text, over all users */
};

int histories_load(struct histories *histories, const char *path, const struct news *news, size_t max_bad,
    bool quiet, struct err *err);
size_t histories_asked(const struct histories *histories); /* ids in all histories, with a text or not */
void histories_done(struct histories *histories);

#endif

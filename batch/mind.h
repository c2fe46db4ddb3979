/* MIND's news.tsv and behaviors.tsv (DESIGN, "Files"), as a refresh needs them: of a catalogue only where each text stands,
 * of a user only what of the history can be used. */
#ifndef EMBSUM_BATCH_MIND_H
#define EMBSUM_BATCH_MIND_H

#include "batch/tsv.h"
#include "core/err.h"
#include "core/id.h"
#include "core/text.h"

/* ---- news ---- */

/* Where an item's text stands, and what it was when the catalogue was read. */
struct news_row {
    uint64_t offset; /* of the row in the file */
    uint64_t hash;   /* XXH3-64 of the text columns */
    uint64_t title;  /* title_hash() of the title, cut as it is stored (store/title.h) */
    uint32_t length; /* of the row, to the end of the last text column */
    uint32_t line;
};

/* The catalogue, in the order of the file, which stays open: one that is replaced by a rename is read as it was. A row
 * that comes twice, with the same text, counts once; an id that comes twice with another one is a bad row. */
struct news {
    struct id_map ids;
    struct news_row *rows;
    size_t capacity;
    char *path; /* NULL: nothing is open */
    int fd;
};

/* A pipe, or whatever else is no regular file, is copied to a temporary file first (core/file.h). */
int news_load(struct news *news, const char *path, const struct tsv_options *options, struct err *err);
void news_done(struct news *news);

/* One item's text, read when it is wanted. Zeroed at first, reused from item to item by one thread, freed at the end. */
struct news_text {
    struct text_item item; /* valid until the next news_item() */
    char *bytes;
    size_t size;
};

/* text->item = the text of an item. Any number of threads may read at once. ERR_CORRUPT with "FILE:LINE:" where the file
 * no longer holds what it held when it was loaded, ERR_IO where it cannot be read. */
int news_item(struct news_text *text, const struct news *news, size_t index, struct err *err);
void news_text_done(struct news_text *text);

/* ---- histories ---- */

enum { BEHAVIORS_COLUMNS = 5 };

/* The history column of a row, in two steps. Its ids, checked: their number, or -1 after telling the bad row.
 */
ptrdiff_t history_check(struct tsv *tsv, const struct tsv_field *field);
/* items (room for that many) = the indices of those with a text, in their order; returns their number. */
size_t history_items(uint32_t *items, const struct tsv_field *field, const struct news *news);

/* What is kept of a user's history. */
struct history {
    const uint32_t
        *items; /* indices into the news, oldest first; ids without a text are dropped. NULL: none */
    size_t count;
    size_t total; /* with a text, of which these are the newest: sessions are counted from the first of all */
};

struct history_row {
    uint64_t first;       /* in ->items */
    uint32_t count, room; /* numbers that are there, and that there is room for */
    uint32_t total;       /* ids with a text, of the whole history */
    uint32_t asked;       /* ids of the row that it was read from */
    uint32_t missing;     /* ids without a text */
};

/* Users in the order in which they appear first, each with the newest items of its newest history. A history only
 * grows, so the longest row of a user is the newest one, and among equals the later row. */
struct histories {
    struct id_map users;
    struct history_row *rows;
    size_t capacity;
    uint32_t *
        items; /* of all users. One who needs more room gets at least twice as much: what was given up is less */
    size_t used, size;
    uint32_t *row; /* the history in hand */
    size_t row_size;
    size_t keep; /* the most items of a user */
};

/* keep: the most items of a user that will be asked for; max_items is enough for text_window_start(). */
int histories_load(struct histories *histories, const char *path, const struct news *news, size_t keep,
    const struct tsv_options *options, struct err *err);
/* The rows of an open file, on top of what is there; touched (may be NULL) receives the users whose history is another now. */
int histories_read(struct histories *histories, struct tsv *tsv, const struct news *news,
    struct id_map *touched, struct err *err);
/* Give a user this history, of which at most `keep` items are kept; missing: ids without a text that it has beside them. */
int histories_set(struct histories *histories, const char *id, size_t len, const struct history *history,
    size_t missing, struct err *err);

/* Over all users: the ids of their histories, and those of them that have no text. */
struct histories_ids {
    size_t all, missing;
};
struct histories_ids histories_ids(const struct histories *histories);
void histories_done(struct histories *histories);

static inline struct history histories_get(const struct histories *histories, size_t user)
{
    const struct history_row *row = &histories->rows[user];
    return (struct history){row->count ? histories->items + row->first : NULL, row->count, row->total};
}

#endif

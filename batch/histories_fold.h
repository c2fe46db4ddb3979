/* Histories in the store: what a behaviours file says of each user, and the clicks that have come since (the stream {P}:clicks),
 * kept as records (batch/history_record.h), so that a refresh needs no file, or an old one.
 *
 * Clicks that a newer file has are taken off: of what the file has got since the record, those that come in the same order.
 * A click is taken in once, whatever is killed: each record knows the newest that it has.
 */
#ifndef EMBSUM_BATCH_HISTORIES_FOLD_H
#define EMBSUM_BATCH_HISTORIES_FOLD_H

#include "batch/mind.h"
#include "store/store.h"

enum fold_source {
    FOLD_FILE, /* histories are filled with what a file says: users who are not in it go, but for those known by clicks alone */
    FOLD_STORE, /* histories are empty: all that the store has */
    FOLD_CLICKS /* only those who have clicked, and `also`; histories are as they were after an earlier fold, for the others */
};

struct fold_options {
    enum fold_source source;
    const struct id_map *
        also; /* users whose history is newly read from a file, with another source than FOLD_FILE; NULL: nobody */
    const char
        *forget; /* a user who goes, with all clicks; NULL: nobody. Not with FOLD_CLICKS, nor one of a file */
};

struct fold_done {
    size_t clicks;       /* taken in */
    size_t malformed;    /* entries of the stream that are no clicks */
    size_t written;      /* records */
    struct id_map users; /* of FOLD_CLICKS: who was folded */
    struct id_map gone;  /* who has a record and is no user any more: for histories_delete() */
};

/* histories->keep is the most items of a user that are kept. The caller holds the writers' lock. *done is freed with
 * fold_done_free(), also at a failure. */
int histories_fold(struct fold_done *done, struct histories *histories, const struct news *news,
    const struct fold_options *options, struct store_link *link, struct err *err);
/* Delete the records of users. */
int histories_delete(const struct id_map *users, struct store_link *link, struct err *err);
void fold_done_free(struct fold_done *done);

#endif

/* What the store keeps of a user's history (STORE_HISTORY), outside of every generation: what was read last from a
 * behaviours file, and behind it what came as clicks and is in no file yet. Text, so that an operator reads it:
 *
 *     1 SEEN BASE CHECK LAST\n    version; items with a text before the first line; lines from the file; XXH3-64 of all the
 *     N1\n                         rest, in hex; the newest click that was taken in, "-" for none
 *     N5\n
 */
#ifndef EMBSUM_BATCH_HISTORY_RECORD_H
#define EMBSUM_BATCH_HISTORY_RECORD_H

#include "store/store.h"

struct history_record {
    size_t seen; /* sessions are counted from the oldest item ever seen */
    size_t base; /* of the ids: from the file */
    size_t count;
    struct store_id *ids; /* oldest first; they point into text that somebody else owns */
    size_t size;          /* room in ids */
    char last[STORE_CURSOR_MAX];
};

/* One more id at the end. */
int history_record_add(struct history_record *record, const char *id, size_t len, struct err *err);
void history_record_clear(struct history_record *record); /* no ids; keeps their room */
void history_record_done(struct history_record *record);

/* ids point into text afterwards. ERR_CORRUPT: it is no such record. */
int history_record_parse(struct history_record *record, const char *text, size_t len, struct err *err);

size_t history_record_bytes(const struct history_record *record);
/* Its text to out, which has room for history_record_bytes(); returns its length. */
size_t history_record_format(char *out, const struct history_record *record);

#endif

/* What the files of generation.h share. */
#ifndef EMBSUM_STORE_GENERATION_INT_H
#define EMBSUM_STORE_GENERATION_INT_H

#include "core/id.h"
#include "store/generation.h"
#include "store/lease.h"

/* One commit: name becomes live, what was live until now is retired. */
int generation_switch(struct store_link *link, uint64_t token, const char *name, struct err *err);

/* ---- the writer ---- */

#define GENERATION_BUFFER_ITEMS 2000

/* One buffered value: the id's bytes, then the value's, both in the writer's buffer. */
struct generation_item {
    enum store_kind kind;
    bool gone; /* to be deleted */
    size_t at, id_len, len;
};

/* What was put of one kind of matrix; all of them have the shape of the first. */
struct generation_written {
    size_t rows, cols, count;
};

struct generation_writer {
    struct store_link *link;
    struct lease *lease;
    enum generation_mode mode;
    bool finished;
    bool stays;   /* what is there when the writer ends is not dropped */
    bool touched; /* something was put or deleted, or may have been */
    char name[STORE_GENERATION_MAX], previous[STORE_GENERATION_MAX];
    enum blob_dtype dtype;
    time_t created;
    struct manifest manifest; /* of a writer that has resumed: what was planned, or is stored */
    bool expected, uncounted; /* users and contents, by generation_expect */
    size_t expected_users, expected_contents;
    struct generation_written users, contents, score_proj;
    size_t categories;
    struct generation_item items[GENERATION_BUFFER_ITEMS];
    struct store_entry entries[GENERATION_BUFFER_ITEMS]; /* of one kind, while flushing */
    size_t item_count, used, size;
    unsigned char *bytes;
};

/* Every call but the last two of a life goes through here: open, not fenced. */
int generation_check_open(const struct generation_writer *writer, struct err *err);

/* Write a manifest under the writer's generation. */
int generation_put_manifest(
    struct generation_writer *writer, const struct manifest *manifest, struct err *err);

/* Ours is still the newest token? Asks the store, where the lease knows only what it has heard. */
int generation_check_token(const struct generation_writer *writer, struct err *err);

/* out = the id of what explains a user's or a content's matrix: "u:" or "c:" before its own. ERR_INVALID if that is too long. */
int generation_why_id(char out[ID_MAX + 2], char kind, const char *id, size_t id_len, struct err *err);

/* ---- the journal (store/generation_journal.c): which ids a writer that works inside a generation is about to change ---- */

/* Before they change. */
int generation_journal_write(struct generation_writer *writer, struct err *err);
/* Tell the stream of changes what has been written. */
int generation_journal_announce(struct generation_writer *writer, struct err *err);
/* What a writer that was killed may not have told is told now; then, and at the end of a life, there is nothing left. */
int generation_journal_recover(struct generation_writer *writer, struct err *err);
int generation_journal_clear(struct generation_writer *writer, struct err *err);

#endif

/* A refresh inside a generation writes values and then tells the stream of changes which. If it is killed between the
 * two, the values are there and nobody would ever hear of them: the next refresh finds them up to date. So the ids that
 * are about to change are noted first, in one key, and whoever comes next tells what the note still holds.
 *
 * What belongs to a matrix is deleted after it. If the writer is killed between those two, nobody would ever look for it again: a
 * user who is gone has no matrix to delete. The note serves there, too, and in a generation that is still being built.
 *
 * A line each: "-" before what is deleted, the kind's letter, the id. Ids have no line ends. */
#include "store/generation_int.h"

#include <stdlib.h>
#include <string.h>

enum { RECOVER_MOST = 256 }; /* asked for at a time */

static bool told(enum store_kind kind)
{
    return kind == STORE_USER || kind == STORE_CONTENT || kind == STORE_CATEGORY;
}

static int put(struct generation_writer *writer, const char *text, size_t len, struct err *err)
{
    const struct store_entry entry = {{"", 0}, text, len};
    return store_put(writer->link, writer->name, STORE_JOURNAL, &entry, 1, err);
}

/* Changes, of which the first `puts` are values that are put, the others such as are deleted. */
struct changes {
    struct store_change *all;
    size_t count, puts;
};

static void collect_some(struct generation_writer *writer, struct changes *changes, bool gone)
{
    for (size_t i = 0; i < writer->item_count; i++) {
        const struct generation_item *const item = &writer->items[i];
        if (told(item->kind) && item->gone == gone)
            changes->all[changes->count++] =
                (struct store_change){item->kind, {(const char *)writer->bytes + item->at, item->id_len}};
    }
}

/* Those among what is buffered, which point into the buffer. */
static int collect(struct generation_writer *writer, struct changes *out, struct err *err)
{
    *out = (struct changes){.all = malloc((writer->item_count + 1) * sizeof *out->all)};
    if (!out->all)
        return err_set(err, ERR_NOMEM, "out of memory");
    collect_some(writer, out, false);
    out->puts = out->count;
    collect_some(writer, out, true);
    return 0;
}

static int note(struct generation_writer *writer, const struct changes *changes, struct err *err)
{
    size_t size = 1, len = 0;
    for (size_t i = 0; i < changes->count; i++)
        size += 3 + changes->all[i].id.len;
    char *const text = malloc(size);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < changes->count; i++) {
        const struct store_change *const change = &changes->all[i];
        if (i >= changes->puts)
            text[len++] = '-';
        text[len++] = (char)change->kind;
        if (change->id.len)
            memcpy(text + len, change->id.id, change->id.len);
        len += change->id.len;
        text[len++] = '\n';
    }
    const int rc = put(writer, text, len, err);
    free(text);
    return rc;
}

int generation_journal_write(struct generation_writer *writer, struct err *err)
{
    struct changes changes;
    int rc = collect(writer, &changes, err);
    if (rc == 0)
        rc = note(writer, &changes, err);
    free(changes.all);
    return rc;
}

int generation_journal_announce(struct generation_writer *writer, struct err *err)
{
    struct changes changes;
    int rc = collect(writer, &changes, err);
    if (rc == 0)
        rc = store_changes_append(writer->link, writer->name, changes.all, changes.count, err);
    free(changes.all);
    return rc;
}

int generation_entrust(
    struct generation_writer *writer, const struct store_change *changes, size_t count, struct err *err)
{
    const int rc = generation_flush(writer, err);
    if (rc < 0 || !count)
        return rc;
    writer->touched = true;
    if (writer->mode != GENERATION_INSIDE)
        return 0;
    return note(writer, &(struct changes){(struct store_change *)(uintptr_t)changes, count, count}, err);
}

/* ---- what a killed writer has left ---- */

struct recovery {
    struct changes changes;
    char *text; /* which the changes point into */
    size_t len;
    struct err *err;
};

/* What is none of ours was written by somebody else, and is nobody's change. */
static void take_line(struct changes *changes, const char *line, size_t len, bool gone)
{
    const bool is_gone = len && *line == '-';
    line += is_gone;
    len -= is_gone;
    if (!len || is_gone != gone)
        return;
    const enum store_kind kind = (enum store_kind) * line;
    const struct store_id id = {line + 1, len - 1};
    if (told(kind) && store_id_check(kind, id.id, id.len, NULL) == 0)
        changes->all[changes->count++] = (struct store_change){kind, id};
}

static void take_lines(struct recovery *recovery, bool gone)
{
    const char *const text_end = recovery->text + recovery->len;
    for (const char *at = recovery->text, *end; (end = memchr(at, '\n', (size_t)(text_end - at)));
         at = end + 1)
        take_line(&recovery->changes, at, (size_t)(end - at), gone);
}

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    struct recovery *const recovery = ctx;
    struct changes *const changes = &recovery->changes;
    size_t lines = 0;
    (void)index;
    if (!data || !len)
        return 0;
    recovery->text = malloc(len);
    if (recovery->text) {
        memcpy(recovery->text, data, recovery->len = len);
        for (size_t i = 0; i < len; i++)
            lines += recovery->text[i] == '\n';
        changes->all = malloc((lines + 1) * sizeof *changes->all);
    }
    if (!changes->all)
        return err_set(recovery->err, ERR_NOMEM, "out of memory");
    take_lines(recovery, false);
    changes->puts = changes->count;
    take_lines(recovery, true);
    return 0;
}

struct absent {
    const struct store_id *asked;
    struct store_id ids[RECOVER_MOST];
    size_t count;
};

static int take_absent(void *ctx, size_t index, const void *data, size_t len)
{
    struct absent *const absent = ctx;
    (void)len;
    if (!data)
        absent->ids[absent->count++] = absent->asked[index];
    return 0;
}

static int delete_whys(
    struct generation_writer *writer, enum store_kind kind, const struct absent *absent, struct err *err)
{
    char names[RECOVER_MOST][ID_MAX + 2];
    struct store_id ids[RECOVER_MOST];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < absent->count; i++) {
        rc = generation_why_id(names[i], (char)kind, absent->ids[i].id, absent->ids[i].len, err);
        ids[i] = (struct store_id){names[i], absent->ids[i].len + 2};
    }
    return rc < 0 ? rc : store_delete(writer->link, writer->name, STORE_WHY, ids, absent->count, err);
}

/* Of users, of contents without a matrix delete what else there is. One who has it was not deleted, or is back. */
static int finish_deletes(struct generation_writer *writer, enum store_kind kind, const struct store_id *ids,
    size_t count, struct err *err)
{
    struct absent absent = {.asked = ids};
    int rc =
        store_get_head(writer->link, writer->name, kind, ids, count, BLOB_HEADER, take_absent, &absent, err);
    if (rc == 0 && absent.count && kind == STORE_USER)
        rc = store_delete(writer->link, writer->name, STORE_SUMMARY, absent.ids, absent.count, err);
    return rc < 0 || !absent.count ? rc : delete_whys(writer, kind, &absent, err);
}

static int finish_all_deletes(
    struct generation_writer *writer, const struct changes *changes, enum store_kind kind, struct err *err)
{
    struct store_id ids[RECOVER_MOST];
    size_t count = 0;
    int rc = 0;
    for (size_t i = changes->puts; rc == 0 && i < changes->count; i++) {
        if (changes->all[i].kind == kind)
            ids[count++] = changes->all[i].id;
        if (count == RECOVER_MOST || (i + 1 == changes->count && count)) {
            rc = finish_deletes(writer, kind, ids, count, err);
            count = 0;
        }
    }
    return rc;
}

int generation_journal_recover(struct generation_writer *writer, struct err *err)
{
    const struct store_id id = {"", 0};
    struct recovery recovery = {.err = err};
    int rc = store_get(writer->link, writer->name, STORE_JOURNAL, &id, 1, take, &recovery, err);
    if (rc == 0 && recovery.changes.count && writer->mode == GENERATION_INSIDE)
        rc = store_changes_append(
            writer->link, writer->name, recovery.changes.all, recovery.changes.count, err);
    if (rc == 0)
        rc = finish_all_deletes(writer, &recovery.changes, STORE_USER, err);
    if (rc == 0)
        rc = finish_all_deletes(writer, &recovery.changes, STORE_CONTENT, err);
    if (rc == 0 && recovery.text)
        rc = generation_journal_clear(writer, err);
    if (recovery.text)
        writer->touched = true; /* by the one who was killed: the numbers may not be what they were */
    free(recovery.changes.all);
    free(recovery.text);
    return rc;
}

int generation_journal_clear(struct generation_writer *writer, struct err *err)
{
    return put(writer, "", 0, err);
}

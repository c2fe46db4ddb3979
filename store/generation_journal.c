/* A refresh inside a generation writes values and then tells the stream of changes which. If it is killed between the
 * two, the values are there and nobody would ever hear of them: the next refresh finds them up to date. So the ids that
 * are about to change are noted first, in one key, and whoever comes next tells what the note still holds.
 *
 * What belongs to a matrix, a summary or an explanation, is put before it and deleted after it. If the writer is killed in between,
 * nobody would ever look for it again where the user is gone. The note serves there, too, and in a generation that is
 * still being built: whoever comes next deletes what belongs to a matrix that is not there. But not where others were
 * to write it, workers, who may still be at it.
 *
 * A line each: the kind's letter, the id. Ids have no line ends. A first line "+" says that others write. */
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

struct changes {
    struct store_change *all;
    size_t count;
};

/* Those among what is buffered, which point into the buffer. */
static int collect(struct generation_writer *writer, struct changes *out, struct err *err)
{
    *out = (struct changes){.all = malloc((writer->item_count + 1) * sizeof *out->all)};
    if (!out->all)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < writer->item_count; i++) {
        const struct generation_item *const item = &writer->items[i];
        if (told(item->kind))
            out->all[out->count++] =
                (struct store_change){item->kind, {(const char *)writer->bytes + item->at, item->id_len}};
    }
    return 0;
}

static int note(struct generation_writer *writer, const struct store_change *changes, size_t count,
    bool others, struct err *err)
{
    size_t size = 3, len = 0;
    for (size_t i = 0; i < count; i++)
        size += 2 + changes[i].id.len;
    char *const text = malloc(size);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
    if (others) {
        text[len++] = '+';
        text[len++] = '\n';
    }
    for (size_t i = 0; i < count; i++) {
        text[len++] = (char)changes[i].kind;
        if (changes[i].id.len)
            memcpy(text + len, changes[i].id.id, changes[i].id.len);
        len += changes[i].id.len;
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
        rc = note(writer, changes.all, changes.count, false, err);
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
    return writer->mode == GENERATION_INSIDE ? note(writer, changes, count, true, err) : 0;
}

/* ---- what a killed writer has left ---- */

struct recovery {
    struct changes changes;
    char *text; /* which the changes point into */
    bool others;
    struct err *err;
};

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
        memcpy(recovery->text, data, len);
        for (size_t i = 0; i < len; i++)
            lines += recovery->text[i] == '\n';
        changes->all = malloc((lines + 1) * sizeof *changes->all);
    }
    if (!changes->all)
        return err_set(recovery->err, ERR_NOMEM, "out of memory");
    recovery->others = len >= 2 && memcmp(recovery->text, "+\n", 2) == 0;
    for (const char *at = recovery->text, *end; lines; lines--, at = end + 1) {
        end = memchr(at, '\n', len - (size_t)(at - recovery->text));
        const struct store_id id = {at + 1, end > at ? (size_t)(end - at) - 1 : 0};
        /* What is none of ours was written by somebody else, and is nobody's change. */
        if (end > at && told((enum store_kind) * at) &&
            store_id_check((enum store_kind) * at, id.id, id.len, NULL) == 0)
            changes->all[changes->count++] = (struct store_change){(enum store_kind) * at, id};
    }
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

/* Of users, of contents without a matrix delete what else there is. */
static int delete_lone(struct generation_writer *writer, enum store_kind kind, const struct store_id *ids,
    size_t count, struct err *err)
{
    struct absent absent = {.asked = ids};
    int rc =
        store_get_head(writer->link, writer->name, kind, ids, count, BLOB_HEADER, take_absent, &absent, err);
    if (rc == 0 && absent.count && kind == STORE_USER)
        rc = store_delete(writer->link, writer->name, STORE_SUMMARY, absent.ids, absent.count, err);
    return rc < 0 || !absent.count ? rc : delete_whys(writer, kind, &absent, err);
}

static int delete_all_lone(
    struct generation_writer *writer, const struct changes *changes, enum store_kind kind, struct err *err)
{
    struct store_id ids[RECOVER_MOST];
    size_t count = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < changes->count; i++) {
        if (changes->all[i].kind == kind)
            ids[count++] = changes->all[i].id;
        if (count == RECOVER_MOST || (i + 1 == changes->count && count)) {
            rc = delete_lone(writer, kind, ids, count, err);
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
    if (rc == 0 && !recovery.others)
        rc = delete_all_lone(writer, &recovery.changes, STORE_USER, err);
    if (rc == 0 && !recovery.others)
        rc = delete_all_lone(writer, &recovery.changes, STORE_CONTENT, err);
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

/* A refresh inside a generation writes values and then tells the stream of changes which. If it is killed between the
 * two, the values are there and nobody would ever hear of them: the next refresh finds them up to date. So the ids that
 * are about to change are noted first, in one key, and whoever comes next tells what the note still holds.
 *
 * A line each: the kind's letter, the id. Ids have no line ends. */
#include "store/generation_int.h"

#include <stdlib.h>
#include <string.h>

static bool told(enum store_kind kind)
{
    return kind == STORE_USER || kind == STORE_CONTENT || kind == STORE_CATEGORY;
}

static int put(struct generation_writer *writer, const char *text, size_t len, struct err *err)
{
    const struct store_entry entry = {{"", 0}, text, len};
    return store_put(writer->link, writer->name, STORE_JOURNAL, &entry, 1, err);
}

/* The changes among what is buffered, which point into the buffer. */
static int collect(
    struct generation_writer *writer, struct store_change **out, size_t *count, struct err *err)
{
    struct store_change *const changes = malloc((writer->item_count + 1) * sizeof *changes);
    if (!changes)
        return err_set(err, ERR_NOMEM, "out of memory");
    *out = changes;
    *count = 0;
    for (size_t i = 0; i < writer->item_count; i++) {
        const struct generation_item *const item = &writer->items[i];
        if (told(item->kind))
            changes[(*count)++] =
                (struct store_change){item->kind, {(const char *)writer->bytes + item->at, item->id_len}};
    }
    return 0;
}

static int note(
    struct generation_writer *writer, const struct store_change *changes, size_t count, struct err *err)
{
    size_t size = 1, len = 0;
    for (size_t i = 0; i < count; i++)
        size += 2 + changes[i].id.len;
    char *const text = malloc(size);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory");
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
    struct store_change *changes;
    size_t count;
    int rc = collect(writer, &changes, &count, err);
    if (rc < 0)
        return rc;
    rc = note(writer, changes, count, err);
    free(changes);
    return rc;
}

int generation_journal_announce(struct generation_writer *writer, struct err *err)
{
    struct store_change *changes;
    size_t count;
    int rc = collect(writer, &changes, &count, err);
    if (rc < 0)
        return rc;
    rc = store_changes_append(writer->link, writer->name, changes, count, err);
    free(changes);
    return rc;
}

int generation_entrust(
    struct generation_writer *writer, const struct store_change *changes, size_t count, struct err *err)
{
    const int rc = generation_flush(writer, err);
    if (rc < 0 || !count)
        return rc;
    writer->touched = true;
    return writer->mode == GENERATION_INSIDE ? note(writer, changes, count, err) : 0;
}

struct recovery {
    struct store_change *changes;
    size_t count;
    char *text; /* which the changes point into */
    struct err *err;
};

static int take(void *ctx, size_t index, const void *data, size_t len)
{
    struct recovery *const recovery = ctx;
    size_t lines = 0;
    (void)index;
    if (!data || !len)
        return 0;
    recovery->text = malloc(len);
    if (recovery->text) {
        memcpy(recovery->text, data, len);
        for (size_t i = 0; i < len; i++)
            lines += recovery->text[i] == '\n';
        recovery->changes = malloc((lines + 1) * sizeof *recovery->changes);
    }
    if (!recovery->changes)
        return err_set(recovery->err, ERR_NOMEM, "out of memory");
    for (const char *at = recovery->text, *end; lines; lines--, at = end + 1) {
        end = memchr(at, '\n', len - (size_t)(at - recovery->text));
        const struct store_id id = {at + 1, end > at ? (size_t)(end - at) - 1 : 0};
        /* What is none of ours was written by somebody else, and is nobody's change. */
        if (end > at && told((enum store_kind) * at) &&
            store_id_check((enum store_kind) * at, id.id, id.len, NULL) == 0)
            recovery->changes[recovery->count++] = (struct store_change){(enum store_kind) * at, id};
    }
    return 0;
}

int generation_journal_recover(struct generation_writer *writer, struct err *err)
{
    const struct store_id id = {"", 0};
    struct recovery recovery = {.err = err};
    int rc = store_get(writer->link, writer->name, STORE_JOURNAL, &id, 1, take, &recovery, err);
    if (rc == 0 && recovery.count)
        rc = store_changes_append(writer->link, writer->name, recovery.changes, recovery.count, err);
    if (rc == 0 && recovery.text)
        rc = generation_journal_clear(writer, err);
    if (recovery.text)
        writer->touched = true; /* by the one who was killed: the numbers may not be what they were */
    free(recovery.changes);
    free(recovery.text);
    return rc;
}

int generation_journal_clear(struct generation_writer *writer, struct err *err)
{
    return put(writer, "", 0, err);
}

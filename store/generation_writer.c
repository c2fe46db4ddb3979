/* What a writer puts is encoded at once into a buffer; a full buffer goes to the store, kind by kind, so that users and
 * their summaries may come in turn. */
#include "core/id.h"
#include "store/category.h"
#include "store/generation_int.h"
#include "store/title.h"

#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES ((size_t)8 << 20)
#define BUFFER_ITEMS GENERATION_BUFFER_ITEMS

/* ---- putting ---- */

static int flush_kind(struct generation_writer *writer, enum store_kind kind, struct err *err)
{
    size_t count = 0;
    for (size_t i = 0; i < writer->item_count; i++) {
        const struct generation_item *const item = &writer->items[i];
        if (item->kind != kind || item->gone)
            continue;
        const char *const id = (const char *)writer->bytes + item->at;
        writer->entries[count++] = (struct store_entry){{id, item->id_len}, id + item->id_len, item->len};
    }
    return store_put(writer->link, writer->name, kind, writer->entries, count, err);
}

static int delete_kind(struct generation_writer *writer, enum store_kind kind, struct err *err)
{
    struct store_id *const ids = malloc((writer->item_count + 1) * sizeof *ids);
    size_t count = 0;
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < writer->item_count; i++) {
        const struct generation_item *const item = &writer->items[i];
        if (item->kind == kind && item->gone)
            ids[count++] = (struct store_id){(const char *)writer->bytes + item->at, item->id_len};
    }
    const int rc = count ? store_delete(writer->link, writer->name, kind, ids, count, err) : 0;
    free(ids);
    return rc;
}

/* A user's matrix goes after the summary and is deleted before it: where the matrix is up to date, so is the summary. So it
 * is with explanations. What a kill leaves of a deleted one the journal knows. A title has nothing to say whether it is up to
 * date, and is compared by who wants to know: it goes after its content and is deleted before it, so that none is ever left
 * without one. */
static int flush(struct generation_writer *writer, struct err *err)
{
    static const enum store_kind puts[] = {
        STORE_SCORE_PROJ, STORE_WHY, STORE_SUMMARY, STORE_CONTENT, STORE_TITLE, STORE_USER, STORE_CATEGORY};
    static const enum store_kind deletes[] = {
        STORE_CATEGORY, STORE_TITLE, STORE_CONTENT, STORE_USER, STORE_SUMMARY, STORE_WHY};
    const bool inside = writer->mode == GENERATION_INSIDE, noted = writer->mode != GENERATION_NEW;
    int rc = noted && writer->item_count ? generation_journal_write(writer, err) : 0;
    for (size_t i = 0; rc == 0 && i < sizeof puts / sizeof *puts; i++)
        rc = flush_kind(writer, puts[i], err);
    for (size_t i = 0; rc == 0 && i < sizeof deletes / sizeof *deletes; i++)
        rc = delete_kind(writer, deletes[i], err);
    if (rc == 0 && inside && writer->item_count)
        rc = generation_journal_announce(writer, err);
    if (rc == 0)
        writer->item_count = writer->used = 0;
    return rc;
}

/* Every call but the last two of a life goes through here: open, not fenced. */
int generation_check_open(const struct generation_writer *writer, struct err *err)
{
    const int rc = lease_check(writer->lease, err);
    if (rc < 0)
        return rc;
    return writer->finished ? err_set(err, ERR_INVALID, "generation %s is finished", writer->name) : 0;
}

/* Room for one more item, its id copied; *value is where its len bytes go, for the caller to fill before
 * commit_item. */
static int reserve_item(struct generation_writer *writer, enum store_kind kind, const char *id, size_t id_len,
    size_t len, unsigned char **value, struct err *err)
{
    size_t need;
    if (__builtin_add_overflow(id_len, len, &need) || need > SIZE_MAX - BUFFER_BYTES)
        return err_set(err, ERR_NOMEM, "a value of %zu bytes is too large", len);
    if (writer->item_count == BUFFER_ITEMS || (writer->item_count && writer->used + need > BUFFER_BYTES)) {
        const int rc = flush(writer, err);
        if (rc < 0)
            return rc;
    }
    if (writer->size - writer->used < need) {
        /* Only an empty buffer is ever too small. */
        const size_t size = need > BUFFER_BYTES ? need : BUFFER_BYTES;
        unsigned char *const bytes = realloc(writer->bytes, size);
        if (!bytes)
            return err_set(err, ERR_NOMEM, "out of memory");
        writer->bytes = bytes;
        writer->size = size;
    }
    writer->items[writer->item_count] =
        (struct generation_item){.kind = kind, .at = writer->used, .id_len = id_len, .len = len};
    if (id_len)
        memcpy(writer->bytes + writer->used, id, id_len);
    *value = writer->bytes + writer->used + id_len;
    return 0;
}

static void commit_item(struct generation_writer *writer)
{
    const struct generation_item *const item = &writer->items[writer->item_count++];
    writer->used += item->id_len + item->len;
    writer->touched = true;
}

static int check_put_id(const char *id, size_t id_len, bool may_be_empty, struct err *err)
{
    return id_len == 0 && may_be_empty ? 0 : id_check(id, id_len, err);
}

/* The kind's counter; ERR_INVALID if the matrix has not the shape of those before. */
static int check_matrix(struct generation_written **out, struct generation_writer *writer,
    enum blob_kind kind, size_t id_len, size_t rows, size_t cols, struct err *err)
{
    struct generation_written *const written = kind == BLOB_USER      ? &writer->users
                                               : kind == BLOB_CONTENT ? &writer->contents
                                                                      : &writer->score_proj;
    if (kind == BLOB_SCORE_PROJ && (id_len != 0 || written->count != 0))
        return err_set(err, ERR_INVALID, "a generation has one W_s, without an id");
    if (written->count != 0 && (written->rows != rows || written->cols != cols))
        return err_set(err, ERR_INVALID, "a matrix of kind %c is %zu x %zu, those before it are %zu x %zu",
            (char)kind, rows, cols, written->rows, written->cols);
    *out = written;
    return 0;
}

int generation_put_matrix(struct generation_writer *writer, enum blob_kind kind, const char *id,
    size_t id_len, uint64_t inputs, const float *matrix, size_t rows, size_t cols, struct err *err)
{
    const struct blob_spec spec = {kind, writer->dtype, rows, cols, writer->name, id, id_len};
    const size_t size = blob_size(writer->dtype, rows, cols);
    struct generation_written *written = NULL;
    unsigned char *value = NULL;
    int rc = generation_check_open(writer, err);
    if (rc == 0)
        rc = check_put_id(id, id_len, kind != BLOB_CONTENT, err);
    if (rc == 0)
        rc = check_matrix(&written, writer, kind, id_len, rows, cols, err);
    if (rc == 0 && !size)
        rc = err_set(err, ERR_INVALID, "a matrix of %zu x %zu does not fit a blob", rows, cols);
    if (rc == 0)
        rc = reserve_item(writer, (enum store_kind)kind, id, id_len, size, &value, err);
    if (rc == 0)
        rc = blob_encode(value, &spec, inputs, matrix, err);
    if (rc < 0)
        return rc;
    commit_item(writer);
    written->rows = rows;
    written->cols = cols;
    written->count++;
    return 0;
}

static int put_text(struct generation_writer *writer, enum store_kind kind, const char *id, size_t id_len,
    const char *text, size_t len, struct err *err)
{
    unsigned char *value = NULL;
    int rc = generation_check_open(writer, err);
    if (rc == 0)
        rc = store_id_check(kind, id, id_len, err);
    if (rc == 0)
        rc = reserve_item(writer, kind, id, id_len, len, &value, err);
    if (rc < 0)
        return rc;
    if (len)
        memcpy(value, text, len);
    commit_item(writer);
    return 0;
}

int generation_put_summary(struct generation_writer *writer, const char *id, size_t id_len, const char *text,
    size_t len, struct err *err)
{
    return put_text(writer, STORE_SUMMARY, id, id_len, text, len, err);
}

int generation_put_title(struct generation_writer *writer, const char *id, size_t id_len, const char *text,
    size_t len, struct err *err)
{
    len = title_cut(text, len);
    return title_valid(text, len) ? put_text(writer, STORE_TITLE, id, id_len, text, len, err)
                                  : err_set(err, ERR_INVALID, "a title must be UTF-8, and not empty");
}

int generation_why_id(char out[ID_MAX + 2], char kind, const char *id, size_t id_len, struct err *err)
{
    if (id_len > ID_MAX)
        return err_set(err, ERR_INVALID, "an id has at most %d bytes", ID_MAX);
    out[0] = kind;
    out[1] = ':';
    if (id_len)
        memcpy(out + 2, id, id_len);
    return 0;
}

int generation_put_why(struct generation_writer *writer, enum blob_kind kind, const char *id, size_t id_len,
    const char *text, size_t len, struct err *err)
{
    char name[ID_MAX + 2];
    const int rc = generation_why_id(name, (char)kind, id, id_len, err);
    return rc < 0 ? rc : put_text(writer, STORE_WHY, name, id_len + 2, text, len, err);
}

int generation_put_category(struct generation_writer *writer, const char *name, size_t name_len,
    const struct store_id *contents, size_t count, struct err *err)
{
    unsigned char *value = NULL;
    int rc = generation_check_open(writer, err);
    if (rc == 0)
        rc = category_check(name, name_len, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = id_check(contents[i].id, contents[i].len, err);
    if (rc == 0)
        rc =
            reserve_item(writer, STORE_CATEGORY, name, name_len, category_size(contents, count), &value, err);
    if (rc < 0)
        return rc;
    category_encode((char *)value, contents, count);
    commit_item(writer);
    writer->categories++;
    return 0;
}

/* ---- deleting ---- */

static int delete_one(
    struct generation_writer *writer, enum store_kind kind, const char *id, size_t id_len, struct err *err)
{
    unsigned char *value = NULL;
    const int rc = reserve_item(writer, kind, id, id_len, 0, &value, err);
    if (rc < 0)
        return rc;
    writer->items[writer->item_count].gone = true;
    commit_item(writer);
    return 0;
}

int generation_delete(
    struct generation_writer *writer, enum store_kind kind, const char *id, size_t id_len, struct err *err)
{
    int rc = generation_check_open(writer, err);
    if (rc == 0 && kind != STORE_USER && kind != STORE_CONTENT && kind != STORE_CATEGORY &&
        kind != STORE_TITLE && kind != STORE_WHY)
        rc = err_set(err, ERR_INVALID, "kind %c is not deleted by itself", (char)kind);
    if (rc == 0)
        rc = store_id_check(kind, id, id_len, err);
    if (rc == 0 && kind == STORE_CONTENT)
        rc = delete_one(writer, STORE_TITLE, id, id_len, err);
    if (rc == 0)
        rc = delete_one(writer, kind, id, id_len, err);
    if (rc == 0 && kind == STORE_USER)
        rc = delete_one(writer, STORE_SUMMARY, id, id_len, err);
    if (rc == 0 && (kind == STORE_USER || kind == STORE_CONTENT)) {
        char name[ID_MAX + 2];
        rc = generation_why_id(name, (char)kind, id, id_len, err);
        if (rc == 0)
            rc = delete_one(writer, STORE_WHY, name, id_len + 2, err);
    }
    return rc;
}

int generation_together(struct generation_writer *writer, size_t items, size_t bytes, struct err *err)
{
    const int rc = generation_check_open(writer, err);
    const bool fits = writer->item_count + items <= BUFFER_ITEMS && bytes <= BUFFER_BYTES - writer->used;
    return rc < 0 || fits || !writer->item_count ? rc : flush(writer, err);
}

int generation_flush(struct generation_writer *writer, struct err *err)
{
    const int rc = generation_check_open(writer, err);
    return rc < 0 ? rc : flush(writer, err);
}

/* ---- asking what is there ---- */

struct asking {
    struct blob_spec spec;
    const struct store_id *ids;
    uint64_t *inputs;
};

static int take_inputs(void *ctx, size_t index, const void *data, size_t len)
{
    struct asking *const asking = ctx;
    asking->spec.id = asking->ids[index].id;
    asking->spec.id_len = asking->ids[index].len;
    asking->inputs[index] = blob_inputs(&asking->spec, data, len);
    return 0;
}

int generation_inputs(struct generation_writer *writer, enum blob_kind kind, const struct store_id *ids,
    size_t count, size_t rows, size_t cols, uint64_t *inputs, struct err *err)
{
    struct asking asking = {{kind, writer->dtype, rows, cols, writer->name, "", 0}, ids, inputs};
    const int rc = generation_check_open(writer, err);
    if (rc < 0)
        return rc;
    memset(inputs, 0, count * sizeof *inputs);
    if (writer->mode == GENERATION_NEW)
        return 0;
    return store_get_head(writer->link, writer->name, (enum store_kind)kind, ids, count, BLOB_HEADER,
        take_inputs, &asking, err);
}

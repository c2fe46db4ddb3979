/* The writer of one generation. What is put is encoded at once into a buffer; a full buffer goes to the
 * store, kind by kind, so that users and their summaries may come in turn. */
#include "core/id.h"
#include "store/category.h"
#include "store/generation_int.h"
#include "store/lease.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUFFER_BYTES ((size_t)8 << 20)
#define BUFFER_ITEMS 2000

/* One buffered value: the id's bytes, then the value's, both in the writer's buffer. */
struct item {
    enum store_kind kind;
    size_t at, id_len, len;
};

/* What was put of one kind of matrix; all of them have the shape of the first. */
struct written {
    size_t rows, cols, count;
};

struct generation_writer {
    struct store_link *link;
    struct lease *lease;
    bool finished, stays;
    char name[STORE_GENERATION_MAX], previous[STORE_GENERATION_MAX];
    enum blob_dtype dtype;
    time_t created;
    struct written users, contents, score_proj;
    size_t categories;
    struct item items[BUFFER_ITEMS];
    struct store_entry entries[BUFFER_ITEMS]; /* of one kind, while flushing */
    size_t item_count, used, size;
    unsigned char *bytes;
};

/* ---- beginning ---- */

static int make_name(struct generation_writer *writer, struct err *err)
{
    uint32_t random;
    struct tm utc;
    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return err_errno(err, "name a generation");
    writer->created = time(NULL);
    gmtime_r(&writer->created, &utc);
    const size_t len = strftime(writer->name, sizeof writer->name, "%Y%m%dT%H%M%SZ", &utc);
    snprintf(writer->name + len, sizeof writer->name - len, "-%08x", random);
    return 0;
}

/* We hold the lock, so a generation in state building has no writer any more. */
static int drop_abandoned(struct generation_writer *writer, struct err *err)
{
    struct store_generation *rows = NULL;
    size_t count = 0;
    int rc = store_generations(writer->link, &rows, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (rows[i].state == STORE_BUILDING)
            rc = store_drop(writer->link, lease_token(writer->lease), rows[i].name, err);
    free(rows);
    return rc;
}

static int set_state(struct generation_writer *writer, enum store_state state, struct err *err)
{
    struct store_generation row = {.state = state, .token = lease_token(writer->lease)};
    memcpy(row.name, writer->name, sizeof row.name);
    return store_commit(writer->link, row.token, &row, 1, NULL, err);
}

static int begin(struct generation_writer *writer, struct store *store, struct err *err)
{
    int rc = store_connect(&writer->link, store, err);
    if (rc == 0)
        rc = lease_take(&writer->lease, store, LEASE_TTL_MS, err);
    if (rc == 0)
        rc = drop_abandoned(writer, err);
    if (rc == 0) {
        rc = store_live(writer->link, writer->previous, err);
        if (rc == -ERR_NOT_FOUND)
            rc = 0; /* the first generation of all */
    }
    if (rc == 0)
        rc = make_name(writer, err);
    return rc == 0 ? set_state(writer, STORE_BUILDING, err) : rc;
}

static void free_writer(struct generation_writer *writer)
{
    lease_give(writer->lease);
    store_disconnect(writer->link);
    free(writer->bytes);
    free(writer);
}

int generation_begin(
    struct generation_writer **out, struct store *store, enum blob_dtype dtype, struct err *err)
{
    struct generation_writer *const writer = calloc(1, sizeof *writer);
    if (!writer)
        return err_set(err, ERR_NOMEM, "out of memory");
    writer->dtype = dtype;
    const int rc = begin(writer, store, err);
    if (rc < 0) {
        free_writer(writer);
        return rc;
    }
    *out = writer;
    return 0;
}

const char *generation_name(const struct generation_writer *writer)
{
    return writer->name;
}

/* ---- putting ---- */

static int flush_kind(struct generation_writer *writer, enum store_kind kind, struct err *err)
{
    size_t count = 0;
    for (size_t i = 0; i < writer->item_count; i++) {
        const struct item *const item = &writer->items[i];
        if (item->kind != kind)
            continue;
        const char *const id = (const char *)writer->bytes + item->at;
        writer->entries[count++] = (struct store_entry){{id, item->id_len}, id + item->id_len, item->len};
    }
    return store_put(writer->link, writer->name, kind, writer->entries, count, err);
}

static int flush(struct generation_writer *writer, struct err *err)
{
    static const enum store_kind kinds[] = {
        STORE_SCORE_PROJ, STORE_USER, STORE_CONTENT, STORE_SUMMARY, STORE_CATEGORY};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof kinds / sizeof *kinds; i++)
        rc = flush_kind(writer, kinds[i], err);
    if (rc == 0)
        writer->item_count = writer->used = 0;
    return rc;
}

/* Every call but the last two of a life goes through here: open, not fenced. */
static int check_open(const struct generation_writer *writer, struct err *err)
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
    writer->items[writer->item_count] = (struct item){kind, writer->used, id_len, len};
    if (id_len)
        memcpy(writer->bytes + writer->used, id, id_len);
    *value = writer->bytes + writer->used + id_len;
    return 0;
}

static void commit_item(struct generation_writer *writer)
{
    const struct item *const item = &writer->items[writer->item_count++];
    writer->used += item->id_len + item->len;
}

static int check_put_id(const char *id, size_t id_len, bool may_be_empty, struct err *err)
{
    return id_len == 0 && may_be_empty ? 0 : id_check(id, id_len, err);
}

/* The kind's counter; ERR_INVALID if the matrix has not the shape of those before. */
static int check_matrix(struct written **out, struct generation_writer *writer, enum blob_kind kind,
    size_t id_len, size_t rows, size_t cols, struct err *err)
{
    struct written *const written = kind == BLOB_USER      ? &writer->users
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
    struct written *written = NULL;
    unsigned char *value = NULL;
    int rc = check_open(writer, err);
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

int generation_put_summary(struct generation_writer *writer, const char *id, size_t id_len, const char *text,
    size_t len, struct err *err)
{
    unsigned char *value = NULL;
    int rc = check_open(writer, err);
    if (rc == 0)
        rc = check_put_id(id, id_len, true, err);
    if (rc == 0)
        rc = reserve_item(writer, STORE_SUMMARY, id, id_len, len, &value, err);
    if (rc < 0)
        return rc;
    if (len)
        memcpy(value, text, len);
    commit_item(writer);
    return 0;
}

int generation_put_category(struct generation_writer *writer, const char *name, size_t name_len,
    const struct store_id *contents, size_t count, struct err *err)
{
    unsigned char *value = NULL;
    int rc = check_open(writer, err);
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

/* ---- finishing ---- */

static int count_id(void *ctx, const char *id, size_t len)
{
    (void)id;
    (void)len;
    ++*(size_t *)ctx;
    return 0;
}

/* Asks the store, where the lease knows only what it has heard: a writer that has taken over may have dropped the generation,
 * and then that is the reason for whatever is not found. */
static int check_token(const struct generation_writer *writer, struct err *err)
{
    return store_renew(writer->link, lease_token(writer->lease), LEASE_TTL_MS, err);
}

/* As many keys as puts? An id that was put twice, and a store that forgets (evicts), show here. */
static int check_count(
    struct generation_writer *writer, enum store_kind kind, size_t put, const char *what, struct err *err)
{
    size_t stored = 0;
    int rc = store_scan(writer->link, writer->name, kind, count_id, &stored, err);
    if (rc < 0 || stored == put)
        return rc;
    rc = check_token(writer, err);
    if (rc < 0)
        return rc;
    return err_set(err, ERR_CORRUPT, "generation %s: %zu %s were put, the store holds %zu (%s)", writer->name,
        put, what, stored, stored < put ? "an id put twice, or keys lost" : "keys of another writer");
}

static int check_shapes(
    const struct generation_writer *writer, const struct manifest *manifest, struct err *err)
{
    const struct written *const u = &writer->users, *const c = &writer->contents,
                                *const w = &writer->score_proj;
    const size_t m = manifest->m, n = manifest->n, d = manifest->d;
    if (!w->count)
        return err_set(err, ERR_INVALID, "generation %s has no W_s", writer->name);
    if (w->rows != d || w->cols != d)
        return err_set(err, ERR_INVALID, "W_s is %zu x %zu, d is %zu", w->rows, w->cols, d);
    if (u->count && (u->rows != m || u->cols != d))
        return err_set(err, ERR_INVALID, "the users' matrices are %zu x %zu, m x d is %zu x %zu", u->rows,
            u->cols, m, d);
    if (c->count && (c->rows != n || c->cols != d))
        return err_set(err, ERR_INVALID, "the contents' matrices are %zu x %zu, n x d is %zu x %zu", c->rows,
            c->cols, n, d);
    return 0;
}

/* The text is read back by the rules of every reader, so that none of them can stumble over it later. */
static int put_manifest(struct generation_writer *writer, const struct manifest *manifest, struct err *err)
{
    struct manifest read;
    char *const json = manifest_dump(manifest);
    if (!json)
        return err_set(err, ERR_INVALID, "generation %s: the manifest cannot be written", writer->name);
    const size_t len = strlen(json);
    int rc = manifest_parse(&read, json, len, err);
    if (rc == 0) {
        const struct store_entry entry = {{"", 0}, json, len};
        rc = store_put(writer->link, writer->name, STORE_MANIFEST, &entry, 1, err);
    }
    free(json);
    return rc;
}

int generation_finish(struct generation_writer *writer, struct manifest *manifest, struct err *err)
{
    struct manifest filled = *manifest;
    int rc = check_open(writer, err);
    if (rc == 0)
        rc = check_shapes(writer, manifest, err);
    if (rc == 0)
        rc = flush(writer, err);
    if (rc == 0)
        rc = check_count(writer, STORE_USER, writer->users.count, "users", err);
    if (rc == 0)
        rc = check_count(writer, STORE_CONTENT, writer->contents.count, "contents", err);
    if (rc == 0)
        rc = check_count(writer, STORE_CATEGORY, writer->categories, "categories", err);
    if (rc < 0)
        return rc;
    filled.users = writer->users.count;
    filled.contents = writer->contents.count;
    filled.dtype = writer->dtype;
    filled.created = writer->created;
    memcpy(filled.previous, writer->previous, sizeof filled.previous);
    rc = put_manifest(writer, &filled, err);
    if (rc == 0)
        rc = check_token(writer, err);
    if (rc == 0) {
        writer->finished = true;
        *manifest = filled;
    }
    return rc;
}

static int check_finished(const struct generation_writer *writer, struct err *err)
{
    const int rc = lease_check(writer->lease, err);
    if (rc < 0)
        return rc;
    return writer->finished ? 0 : err_set(err, ERR_INVALID, "generation %s is not finished", writer->name);
}

int generation_publish(struct generation_writer *writer, struct err *err)
{
    int rc = check_finished(writer, err);
    if (rc == 0)
        rc = generation_switch(writer->link, lease_token(writer->lease), writer->name, err);
    if (rc == -ERR_NOT_FOUND) { /* whoever has taken over has dropped it */
        const int fenced = check_token(writer, err);
        rc = fenced < 0 ? fenced : rc;
    }
    writer->stays = writer->stays || rc == 0;
    return rc;
}

int generation_keep(struct generation_writer *writer, struct err *err)
{
    int rc = check_finished(writer, err);
    if (rc == 0)
        rc = set_state(writer, STORE_READY, err);
    writer->stays = writer->stays || rc == 0;
    return rc;
}

void generation_end(struct generation_writer *writer)
{
    if (!writer)
        return;
    /* The store drops no live one, where publishing has done its work and lost the reply. */
    if (!writer->stays)
        store_drop(writer->link, lease_token(writer->lease), writer->name, NULL);
    free_writer(writer);
}

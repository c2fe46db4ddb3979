/* The door of the store: URLs, arguments and the right to write are checked here, once, then the backend that
 * the URL names does the work. */
#include "store/store.h"
#include "core/id.h"
#include "store/store_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static const struct {
    const char *scheme;
    const struct store_backend *backend;
} schemes[] = {
    {"lmdb:", &store_lmdb},
    {"redis://", &store_redis_tcp},
    {"redis+unix:", &store_redis_unix},
    {"redis+sentinel://", &store_redis_sentinel},
    {"redis+cluster://", &store_redis_cluster},
};

#define FORMS                                                                                                \
    "lmdb:PATH, redis://host:port/db, redis+unix:PATH, redis+sentinel://host:port,host:port/name or "        \
    "redis+cluster://host:port,host:port"

/* Messages name the scheme alone: a URL may hold what somebody took for the place of a password. */
static int find_backend(
    const struct store_backend **out, const char **address, const char *url, struct err *err)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        const size_t len = strlen(schemes[i].scheme);
        if (strncmp(url, schemes[i].scheme, len) != 0)
            continue;
        *out = schemes[i].backend;
        *address = url + len;
        return 0;
    }
    const size_t scheme = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    if (url[scheme] == ':')
        return err_set(err, ERR_INVALID, "store URL: unknown scheme \"%.*s:\"; use " FORMS,
            (int)(scheme < 32 ? scheme : 32), url);
    return err_set(err, ERR_INVALID, "store URL: no scheme; use " FORMS);
}

static int check_options(const struct store_options *options, struct err *err)
{
    if (options->prefix && !store_name_valid(options->prefix, strlen(options->prefix)))
        return err_set(err, ERR_INVALID,
            "the store's prefix must be 1 to 63 letters, digits, dots, dashes or underscores");
    if (options->connect_timeout_ms <= 0 || options->command_timeout_ms <= 0)
        return err_set(err, ERR_INVALID, "the store's timeouts must be at least 1 ms");
    if (options->retry_min_ms <= 0 || options->retry_max_ms < options->retry_min_ms)
        return err_set(err, ERR_INVALID, "the store's retry times must be at least 1 ms, the smaller first");
    return 0;
}

int store_open(struct store **out, const char *url, const struct store_options *options, struct err *err)
{
    static const struct store_options defaults = STORE_OPTIONS_INIT;
    const struct store_backend *backend = NULL;
    const char *address = NULL;
    struct store *store = NULL;
    if (!options)
        options = &defaults;
    int rc = check_options(options, err);
    if (rc == 0)
        rc = find_backend(&backend, &address, url, err);
    if (rc == 0)
        rc = backend->open(&store, address, options, err);
    if (rc < 0)
        return rc;
    const char *const prefix = options->prefix ? options->prefix : "embsum";
    memcpy(store->prefix, prefix, strlen(prefix) + 1);
    store->backend = backend;
    store->read_only = options->read_only;
    *out = store;
    return 0;
}

void store_close(struct store *store)
{
    if (store)
        store->backend->close(store);
}

int store_connect(struct store_link **out, struct store *store, struct err *err)
{
    struct store_link *link = NULL;
    const int rc = store->backend->connect(&link, store, err);
    if (rc < 0)
        return rc;
    link->store = store;
    *out = link;
    return 0;
}

void store_disconnect(struct store_link *link)
{
    if (link)
        link->store->backend->disconnect(link);
}

enum store_fault store_fault(const struct store_link *link)
{
    return link->fault;
}

const char *store_fault_name(enum store_fault fault)
{
    static const char *const names[STORE_FAULTS] = {
        [STORE_OTHER] = "other",
        [STORE_CONNECT] = "connect",
        [STORE_TIMEOUT] = "timeout",
        [STORE_IO] = "io",
        [STORE_LOADING] = "loading",
        [STORE_READONLY] = "readonly",
        [STORE_NOAUTH] = "noauth",
        [STORE_OOM] = "oom",
        [STORE_MISCONF] = "misconf",
        [STORE_PAUSED] = "paused",
    };
    return names[fault];
}

int store_ping(struct store_link *link, struct err *err)
{
    return link->store->backend->ping(link, err);
}

/* ---- what arguments may be ---- */

int store_check_generation(const char *name, struct err *err)
{
    if (!store_name_valid(name, strlen(name)))
        return err_set(err, ERR_INVALID,
            "a generation's name must be 1 to 63 letters, digits, dots, dashes or underscores");
    if (strcmp(name, STORE_SHARED) == 0)
        return err_set(err, ERR_INVALID,
            "\"" STORE_SHARED "\" is no generation: what outlives generations is kept there");
    return 0;
}

/* Histories are in STORE_SHARED, all else is in generations. */
static int check_place(const char *generation, enum store_kind kind, struct err *err)
{
    if (kind != STORE_HISTORY)
        return store_check_generation(generation, err);
    return strcmp(generation, STORE_SHARED) == 0
               ? 0
               : err_set(err, ERR_INVALID, "histories are in no generation, but in \"" STORE_SHARED "\"");
}

static int why_check(const char *id, size_t len, struct err *err)
{
    if (len < 2 || (id[0] != 'u' && id[0] != 'c') || id[1] != ':')
        return err_set(err, ERR_INVALID, "an explanation's id begins with \"u:\" or \"c:\"");
    return id[0] == 'u' && len == 2 ? 0 : id_check(id + 2, len - 2, err);
}

int store_id_check(enum store_kind kind, const char *id, size_t len, struct err *err)
{
    switch (kind) {
    case STORE_USER:
    case STORE_SUMMARY:
        return len == 0 ? 0 : id_check(id, len, err);
    case STORE_CONTENT:
    case STORE_TITLE:
    case STORE_HISTORY:
        return id_check(id, len, err);
    case STORE_WHY:
        return why_check(id, len, err);
    case STORE_CATEGORY:
        return category_check(id, len, err);
    case STORE_SCORE_PROJ:
    case STORE_MANIFEST:
    case STORE_JOURNAL:
        return len == 0 ? 0 : err_set(err, ERR_INVALID, "W_s, the manifest and the journal have no id");
    }
    return err_set(err, ERR_INVALID, "unknown kind of key: %d", (int)kind);
}

int store_check_writable(const struct store_link *link, struct err *err)
{
    return link->store->read_only ? err_set(err, ERR_INVALID, "the store was opened for reading only") : 0;
}

static int check_ttl(int ttl_ms, struct err *err)
{
    return ttl_ms > 0 ? 0 : err_set(err, ERR_INVALID, "a lock must last at least 1 ms");
}

int store_err_fenced(struct err *err, uint64_t token)
{
    return err_set(
        err, ERR_FENCED, "another writer has taken over: token %" PRIu64 " is no longer the newest", token);
}

int store_err_busy(struct err *err, uint64_t holder, int64_t left_ms)
{
    if (left_ms < 0)
        return err_set(err, ERR_BUSY, "another writer (token %" PRIu64 ") holds the lock", holder);
    return err_set(err, ERR_BUSY, "another writer (token %" PRIu64 ") holds the lock for %" PRId64 " ms more",
        holder, left_ms);
}

int store_err_live(struct err *err, const char *generation)
{
    return err_set(err, ERR_INVALID, "generation %s is live", generation);
}

int store_err_no_live(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no generation is live");
}

/* ---- reading ---- */

int store_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err)
{
    return link->store->backend->live(link, name, err);
}

static int compare_names(const void *a, const void *b)
{
    const struct store_generation *x = a, *y = b;
    return strcmp(x->name, y->name);
}

int store_generations(struct store_link *link, struct store_generation **out, size_t *count, struct err *err)
{
    struct store_rows rows = {0};
    const int rc = link->store->backend->generations(link, &rows, err);
    if (rc < 0) {
        free(rows.at);
        return rc;
    }
    if (rows.count)
        qsort(rows.at, rows.count, sizeof *rows.at, compare_names);
    *out = rows.at;
    *count = rows.count;
    return 0;
}

/* What stands between a caller and a backend: where store_get's ids come from, or the check of a stream's. */
struct stream {
    const struct store_id *ids;
    size_t left;
    enum store_kind kind;
    store_next_fn *next;
    store_value_fn *fn;
    void *ctx;
    struct err *err;
    int rc;
};

static size_t next_listed(void *ctx, struct store_id *ids, size_t most)
{
    struct stream *stream = ctx;
    const size_t count = stream->left < most ? stream->left : most;
    if (count)
        memcpy(ids, stream->ids, count * sizeof *ids);
    stream->ids += count;
    stream->left -= count;
    return count;
}

static size_t next_checked(void *ctx, struct store_id *ids, size_t most)
{
    struct stream *stream = ctx;
    const size_t count = stream->rc == 0 ? stream->next(stream->ctx, ids, most) : 0;
    for (size_t i = 0; stream->rc == 0 && i < count; i++)
        stream->rc = store_id_check(stream->kind, ids[i].id, ids[i].len, stream->err);
    return stream->rc == 0 ? count : 0;
}

static int hand_on(void *ctx, size_t index, const void *data, size_t len)
{
    const struct stream *stream = ctx;
    return stream->fn(stream->ctx, index, data, len);
}

static int get(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, size_t head, store_value_fn *fn, void *ctx, struct err *err)
{
    struct stream stream = {.ids = ids, .left = count, .fn = fn, .ctx = ctx};
    int rc = check_place(generation, kind, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = store_id_check(kind, ids[i].id, ids[i].len, err);
    if (rc < 0 || count == 0)
        return rc;
    return link->store->backend->stream(link, generation, kind, head, next_listed, hand_on, &stream, err);
}

int store_get(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, store_value_fn *fn, void *ctx, struct err *err)
{
    return get(link, generation, kind, ids, count, 0, fn, ctx, err);
}

int store_get_head(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, size_t bytes, store_value_fn *fn, void *ctx, struct err *err)
{
    return bytes ? get(link, generation, kind, ids, count, bytes, fn, ctx, err)
                 : err_set(err, ERR_INVALID, "the head of a value has at least 1 byte");
}

int store_stream(struct store_link *link, const char *generation, enum store_kind kind, store_next_fn *next,
    store_value_fn *fn, void *ctx, struct err *err)
{
    struct stream stream = {.kind = kind, .next = next, .fn = fn, .ctx = ctx, .err = err};
    int rc = check_place(generation, kind, err);
    if (rc == 0)
        rc = link->store->backend->stream(link, generation, kind, 0, next_checked, hand_on, &stream, err);
    return stream.rc < 0 ? stream.rc : rc;
}

int store_check_scan(const char *generation, enum store_kind kind, struct err *err)
{
    if (kind == STORE_SCORE_PROJ || kind == STORE_MANIFEST || kind == STORE_JOURNAL)
        return err_set(err, ERR_INVALID, "W_s, the manifest and the journal have no ids to list");
    return check_place(generation, kind, err);
}

int store_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err)
{
    const int rc = store_check_scan(generation, kind, err);
    return rc < 0 ? rc : link->store->backend->scan(link, generation, kind, fn, ctx, err);
}

/* ---- writing ---- */

int store_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = check_place(generation, kind, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = store_id_check(kind, entries[i].id.id, entries[i].id.len, err);
    if (rc < 0 || count == 0)
        return rc;
    return link->store->backend->put(link, generation, kind, entries, count, err);
}

int store_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = check_place(generation, kind, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = store_id_check(kind, ids[i].id, ids[i].len, err);
    if (rc < 0 || count == 0)
        return rc;
    return link->store->backend->remove(link, generation, kind, ids, count, err);
}

int store_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = check_ttl(ttl_ms, err);
    return rc < 0 ? rc : link->store->backend->lock(link, ttl_ms, token, err);
}

int store_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = check_ttl(ttl_ms, err);
    return rc < 0 ? rc : link->store->backend->renew(link, token, ttl_ms, err);
}

int store_unlock(struct store_link *link, uint64_t token, struct err *err)
{
    const int rc = store_check_writable(link, err);
    return rc < 0 ? rc : link->store->backend->unlock(link, token, err);
}

int store_commit(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
    const char *live, struct err *err)
{
    int rc = store_check_writable(link, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = store_check_generation(rows[i].name, err);
    if (rc == 0 && live)
        rc = store_check_generation(live, err);
    return rc < 0 ? rc : link->store->backend->commit(link, token, rows, count, live, err);
}

int store_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err)
{
    int rc = store_check_writable(link, err);
    if (rc == 0)
        rc = store_check_generation(generation, err);
    return rc < 0 ? rc : link->store->backend->drop(link, token, generation, err);
}

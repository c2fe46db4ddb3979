/* Values and ids in the embedded store. Readers get pointers into the memory map, without a copy. */
#include "store/store_lmdb_int.h"

#include <stdlib.h>

#define PUT_BYTES ((size_t)32 << 20) /* one transaction writes about this much, at least one entry */

/* ---- reading ---- */

/* data is NULL if there is no such pair, empty if there is one that is damaged. */
static int find(
    MDB_val *data, const struct lmdb_link *link, MDB_txn *txn, const struct lmdb_key *key, size_t base_len)
{
    MDB_val name = lmdb_val(key->text.text, key->text.len), value;
    struct store_id id;
    *data = (MDB_val){0, NULL};
    const int rc = mdb_get(txn, link->env->dbi, &name, &value);
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (!key->id)
        *data = value;
    else if (!lmdb_pair_split(&id, data, base_len, &name, &value))
        *data = lmdb_val("", 0);
    else if (id.len != key->id_len || memcmp(id.id, key->id, id.len) != 0)
        *data = (MDB_val){0, NULL}; /* another id with the same hash */
    return 0;
}

/* Each share in a transaction of its own: what was asked for after a change is not read as it was before. */
static int read_share(struct lmdb_link *self, const struct store_key *base, const struct store_id *ids,
    size_t count, size_t first, store_value_fn *fn, void *ctx, struct err *err)
{
    struct lmdb_key key;
    size_t bytes = 0;
    int rc = lmdb_read_begin(self, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        MDB_val data;
        lmdb_key_make(&key, self->env, base, &ids[i]);
        const int error = find(&data, self, self->read, &key, base->len);
        rc = error ? lmdb_err(err, self->env, error, "read the LMDB store")
                   : fn(ctx, first + i, data.mv_data, data.mv_size);
        bytes += data.mv_size;
    }
    lmdb_read_end(self);
    lmdb_touch(self, bytes);
    return rc;
}

/* The map shows the head of a value without reading the pages behind it. */
struct heads {
    size_t bytes;
    store_value_fn *fn;
    void *ctx;
};

static int cut(void *ctx, size_t index, const void *data, size_t len)
{
    const struct heads *const heads = ctx;
    return heads->fn(heads->ctx, index, len ? data : NULL, len < heads->bytes ? len : heads->bytes);
}

int lmdb_stream(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err)
{
    enum { SHARE = 64 };
    struct heads heads = {head, fn, ctx};
    struct store_id ids[SHARE];
    struct store_key base;
    size_t done = 0, count;
    int rc = 0;
    store_key_kind(&base, link->store, generation, kind);
    while (rc == 0 && (count = next(ctx, ids, SHARE))) {
        rc = read_share(
            (struct lmdb_link *)link, &base, ids, count, done, head ? cut : fn, head ? &heads : ctx, err);
        done += count;
    }
    return rc;
}

/* Walk the pairs whose keys begin with base; the id is the rest of the key. */
int lmdb_scan_until(struct lmdb_link *link, const char *generation, enum store_kind kind, int64_t until_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err)
{
    enum { LOOK = 256 }; /* ids between two looks at the clock */
    struct store_key base;
    MDB_cursor *cursor;
    store_key_kind(&base, link->base.store, generation, kind);
    int rc = lmdb_read_begin(link, err);
    if (rc < 0)
        return rc;
    int error = mdb_cursor_open(link->read, link->env->dbi, &cursor);
    if (error) {
        lmdb_read_end(link);
        return lmdb_err(err, link->env, error, "read the LMDB store");
    }
    MDB_val key = lmdb_val(base.text, base.len), value, data;
    error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    bool late = false;
    for (size_t told = 1; !error && rc == 0 && !late && lmdb_begins(&key, &base); told++) {
        struct store_id id;
        if (lmdb_pair_split(&id, &data, base.len, &key, &value))
            rc = fn(ctx, id.id, id.len);
        error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        late = told % LOOK == 0 && until_ms != INT64_MAX && store_now_ms() >= until_ms;
    }
    *whole = !late && rc == 0;
    mdb_cursor_close(cursor);
    lmdb_read_end(link);
    return error && error != MDB_NOTFOUND ? lmdb_err(err, link->env, error, "read the LMDB store") : rc;
}

int lmdb_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err)
{
    bool whole;
    return lmdb_scan_until((struct lmdb_link *)link, generation, kind, INT64_MAX, fn, ctx, &whole, err);
}

/* ---- writing ---- */

static int put_short(const struct lmdb_link *link, MDB_txn *txn, const struct lmdb_key *key, size_t base_len,
    const struct store_entry *entry, struct err *err)
{
    MDB_val name = lmdb_val(key->text.text, key->text.len), value, data;
    struct store_id id;
    int error = mdb_get(txn, link->env->dbi, &name, &value);
    if (!error && lmdb_pair_split(&id, &data, base_len, &name, &value) &&
        (id.len != key->id_len || memcmp(id.id, key->id, id.len) != 0))
        return err_set(err, ERR_INVALID, "two long ids have the same hash: \"%.64s...\" and \"%.64s...\"",
            key->id, id.id);
    value = (MDB_val){2 + key->id_len + entry->len, NULL};
    error = mdb_put(txn, link->env->dbi, &name, &value, MDB_RESERVE);
    if (error)
        return lmdb_err(err, link->env, error, "write to the LMDB store");
    unsigned char *const bytes = value.mv_data;
    bytes[0] = (unsigned char)(key->id_len & 0xFF);
    bytes[1] = (unsigned char)(key->id_len >> 8);
    memcpy(bytes + 2, key->id, key->id_len);
    if (entry->len)
        memcpy(bytes + 2 + key->id_len, entry->data, entry->len);
    return 0;
}

static int put_one(const struct lmdb_link *link, MDB_txn *txn, const struct store_key *base,
    const struct store_entry *entry, struct err *err)
{
    struct lmdb_key key;
    lmdb_key_make(&key, link->env, base, &entry->id);
    if (key.id)
        return put_short(link, txn, &key, base->len, entry, err);
    MDB_val name = lmdb_val(key.text.text, key.text.len), value = lmdb_val(entry->data, entry->len);
    const int error = mdb_put(txn, link->env->dbi, &name, &value, 0);
    return error ? lmdb_err(err, link->env, error, "write to the LMDB store") : 0;
}

int lmdb_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_key base;
    int rc = 0;
    store_key_kind(&base, link->store, generation, kind);
    for (size_t i = 0; rc == 0 && i < count;) {
        MDB_txn *txn;
        rc = lmdb_write_begin(&txn, self, err);
        if (rc < 0)
            break;
        size_t bytes = 0;
        do {
            rc = put_one(self, txn, &base, &entries[i], err);
            bytes += entries[i].len;
        } while (rc == 0 && ++i < count && bytes < PUT_BYTES);
        rc = lmdb_write_end(txn, self, rc, err);
        lmdb_touch(self, bytes);
    }
    return rc;
}

static int delete_one(
    const struct lmdb_link *link, MDB_txn *txn, const struct store_key *base, const struct store_id *id)
{
    struct lmdb_key key;
    MDB_val data;
    lmdb_key_make(&key, link->env, base, id);
    if (key.id) { /* perhaps another id's with the same hash */
        const int error = find(&data, link, txn, &key, base->len);
        if (error || !data.mv_data)
            return error;
    }
    MDB_val name = lmdb_val(key.text.text, key.text.len);
    const int error = mdb_del(txn, link->env->dbi, &name, NULL);
    return error == MDB_NOTFOUND ? 0 : error;
}

int lmdb_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_key base;
    int rc = 0;
    store_key_kind(&base, link->store, generation, kind);
    for (size_t i = 0; rc == 0 && i < count;) {
        MDB_txn *txn;
        rc = lmdb_write_begin(&txn, self, err);
        if (rc < 0)
            break;
        const size_t end = count - i < LMDB_DELETES ? count : i + LMDB_DELETES;
        int error = 0;
        for (; !error && i < end; i++)
            error = delete_one(self, txn, &base, &ids[i]);
        rc = error ? lmdb_err(err, self->env, error, "write to the LMDB store") : 0;
        rc = lmdb_write_end(txn, self, rc, err);
    }
    return rc;
}

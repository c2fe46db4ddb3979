/* The writers' lock, the generations table and the live pointer in the embedded store. Every step that
 * compares the token does so inside the transaction that writes. */
#include "store/store_lmdb_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* The clock that processes share across restarts; a lease is compared with it. */
int64_t lmdb_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int fail(struct err *err, const struct lmdb_link *link, int error)
{
    return error ? lmdb_err(err, link->env, error, "use the LMDB store") : 0;
}

/* ---- one value under one global key ---- */

static int global_get(MDB_val *value, const struct lmdb_link *link, MDB_txn *txn, const char *what)
{
    struct store_key name;
    store_key_global(&name, link->base.store, what);
    MDB_val key = lmdb_val(name.text, name.len);
    return mdb_get(txn, link->env->dbi, &key, value);
}

static int global_put(const struct lmdb_link *link, MDB_txn *txn, const char *what, const char *text)
{
    struct store_key name;
    store_key_global(&name, link->base.store, what);
    MDB_val key = lmdb_val(name.text, name.len), value = lmdb_val(text, strlen(text));
    return mdb_put(txn, link->env->dbi, &key, &value, 0);
}

static void row_key(struct store_key *key, const struct lmdb_link *link, const char *name)
{
    store_key_global(key, link->base.store, "generations:");
    store_key_append(key, name, strlen(name));
}

/* ---- reading ---- */

int lmdb_ping(struct store_link *link, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    const int rc = lmdb_read_begin(self, err);
    if (rc == 0)
        lmdb_read_end(self);
    return rc;
}

int lmdb_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    int rc = lmdb_read_begin(self, err);
    if (rc < 0)
        return rc;
    MDB_val value;
    const int error = global_get(&value, self, self->read, "live");
    if (error == MDB_NOTFOUND)
        rc = store_err_no_live(err);
    else if (error)
        rc = fail(err, self, error);
    else
        rc = store_name_copy(name, value.mv_data, value.mv_size, "the live pointer", err);
    lmdb_read_end(self);
    return rc;
}

int lmdb_generations(struct store_link *link, struct store_rows *rows, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_key base;
    MDB_cursor *cursor;
    row_key(&base, self, "");
    int rc = lmdb_read_begin(self, err);
    if (rc < 0)
        return rc;
    int error = mdb_cursor_open(self->read, self->env->dbi, &cursor);
    if (!error) {
        MDB_val key = lmdb_val(base.text, base.len), value;
        error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        while (!error && rc == 0 && lmdb_begins(&key, &base)) {
            rc = store_rows_add(rows, (const char *)key.mv_data + base.len, key.mv_size - base.len,
                value.mv_data, value.mv_size, err);
            error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    lmdb_read_end(self);
    return error && error != MDB_NOTFOUND ? fail(err, self, error) : rc;
}

/* ---- the lock: the value is "token expiry", in milliseconds since 1970 ---- */

/* The newest token handed out, 0 if none was. */
static int newest_token(uint64_t *token, const struct lmdb_link *link, MDB_txn *txn, struct err *err)
{
    MDB_val value;
    const int error = global_get(&value, link, txn, "token");
    *token = 0;
    if (error)
        return error == MDB_NOTFOUND ? 0 : fail(err, link, error);
    if (!store_number_parse(token, value.mv_data, value.mv_size))
        return err_set(err, ERR_CORRUPT, "the newest writer's token is damaged");
    return 0;
}

static int check_token(const struct lmdb_link *link, MDB_txn *txn, uint64_t token, struct err *err)
{
    uint64_t newest;
    const int rc = newest_token(&newest, link, txn, err);
    return rc < 0 ? rc : token == newest && token != 0 ? 0 : store_err_fenced(err, token);
}

static int take_lock(const struct lmdb_link *link, MDB_txn *txn, uint64_t token, int ttl_ms, struct err *err)
{
    char text[64];
    snprintf(text, sizeof text, "%" PRIu64 " %" PRId64, token, lmdb_clock_ms() + ttl_ms);
    return fail(err, link, global_put(link, txn, "lock", text));
}

/* ERR_BUSY while the lock's time is not over. */
static int check_lock_free(const struct lmdb_link *link, MDB_txn *txn, struct err *err)
{
    MDB_val value;
    const int error = global_get(&value, link, txn, "lock");
    if (error)
        return error == MDB_NOTFOUND ? 0 : fail(err, link, error);
    const char *const text = value.mv_data, *const space = memchr(text, ' ', value.mv_size);
    uint64_t holder, expiry;
    if (!space || !store_number_parse(&holder, text, (size_t)(space - text)) ||
        !store_number_parse(&expiry, space + 1, value.mv_size - (size_t)(space + 1 - text)) ||
        expiry > INT64_MAX)
        return err_set(err, ERR_CORRUPT, "the writers' lock is damaged");
    const int64_t left_ms = (int64_t)expiry - lmdb_clock_ms();
    return left_ms > 0 ? store_err_busy(err, holder, left_ms) : 0;
}

static int hand_out_token(
    uint64_t *token, const struct lmdb_link *link, MDB_txn *txn, int ttl_ms, struct err *err)
{
    char text[24];
    int rc = newest_token(token, link, txn, err);
    if (rc < 0)
        return rc;
    snprintf(text, sizeof text, "%" PRIu64, ++*token);
    rc = fail(err, link, global_put(link, txn, "token", text));
    return rc < 0 ? rc : take_lock(link, txn, *token, ttl_ms, err);
}

int lmdb_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    MDB_txn *txn;
    uint64_t next;
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    mdb_reader_check(self->env->env, NULL); /* a killed reader would keep old pages from being used again */
    rc = check_lock_free(self, txn, err);
    if (rc == 0)
        rc = hand_out_token(&next, self, txn, ttl_ms, err);
    rc = lmdb_write_end(txn, self, rc, err);
    if (rc == 0)
        *token = next;
    return rc;
}

int lmdb_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    MDB_txn *txn;
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    rc = check_token(self, txn, token, err);
    if (rc == 0)
        rc = take_lock(self, txn, token, ttl_ms, err);
    return lmdb_write_end(txn, self, rc, err);
}

int lmdb_unlock(struct store_link *link, uint64_t token, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_key name;
    MDB_txn *txn;
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    rc = check_token(self, txn, token, err);
    if (rc == 0) {
        store_key_global(&name, link->store, "lock");
        MDB_val key = lmdb_val(name.text, name.len);
        const int error = mdb_del(txn, self->env->dbi, &key, NULL);
        rc = error == MDB_NOTFOUND ? 0 : fail(err, self, error);
    }
    return lmdb_write_end(txn, self, rc, err);
}

/* ---- the table ---- */

static int put_row(
    const struct lmdb_link *link, MDB_txn *txn, const struct store_generation *row, struct err *err)
{
    struct store_key name;
    char text[STORE_ROW_MAX];
    row_key(&name, link, row->name);
    store_row_format(text, row);
    MDB_val key = lmdb_val(name.text, name.len), value = lmdb_val(text, strlen(text));
    return fail(err, link, mdb_put(txn, link->env->dbi, &key, &value, 0));
}

int lmdb_commit(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
    const char *live, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    MDB_txn *txn;
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    rc = check_token(self, txn, token, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = put_row(self, txn, &rows[i], err);
    if (rc == 0 && live)
        rc = fail(err, self, global_put(self, txn, "live", live));
    return lmdb_write_end(txn, self, rc, err);
}

/* ---- dropping ---- */

static int check_not_live(const struct lmdb_link *link, MDB_txn *txn, const char *generation, struct err *err)
{
    MDB_val value;
    const int error = global_get(&value, link, txn, "live");
    if (error)
        return error == MDB_NOTFOUND ? 0 : fail(err, link, error);
    return value.mv_size == strlen(generation) && memcmp(value.mv_data, generation, value.mv_size) == 0
               ? store_err_live(err, generation)
               : 0;
}

/* Delete at most max pairs whose keys begin with base; *done counts them. */
static int delete_some(
    size_t *done, const struct lmdb_link *link, MDB_txn *txn, const struct store_key *base, size_t max)
{
    MDB_cursor *cursor;
    int error = mdb_cursor_open(txn, link->env->dbi, &cursor);
    if (error)
        return error;
    MDB_val key = lmdb_val(base->text, base->len), value;
    error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!error && *done < max && lmdb_begins(&key, base)) {
        error = mdb_cursor_del(cursor, 0);
        if (!error) {
            ++*done;
            error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT); /* to where the deleted pair was */
        }
    }
    mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

static int delete_row(const struct lmdb_link *link, MDB_txn *txn, const char *generation)
{
    struct store_key name;
    row_key(&name, link, generation);
    MDB_val key = lmdb_val(name.text, name.len);
    const int error = mdb_del(txn, link->env->dbi, &key, NULL);
    return error == MDB_NOTFOUND ? 0 : error;
}

/* A generation whose keys are going is marked as building first: nobody makes it live, and the next writer
 * drops the rest if this one dies. One without a row is nobody's, so no token is asked for. */
static int mark_row(
    const struct lmdb_link *link, MDB_txn *txn, const char *generation, uint64_t token, struct err *err)
{
    struct store_generation row = {.state = STORE_BUILDING, .token = token};
    struct store_key name;
    row_key(&name, link, generation);
    MDB_val key = lmdb_val(name.text, name.len), value;
    const int error = mdb_get(txn, link->env->dbi, &key, &value);
    if (error)
        return error == MDB_NOTFOUND ? 0 : fail(err, link, error);
    memcpy(row.name, generation, strlen(generation) + 1);
    const int rc = check_token(link, txn, token, err);
    return rc < 0 ? rc : put_row(link, txn, &row, err);
}

/* One transaction of a drop; *more says that keys may be left. */
static int drop_step(
    struct lmdb_link *link, uint64_t token, const char *generation, bool *more, struct err *err)
{
    struct store_key keys, changes, shadow;
    size_t done = 0;
    MDB_txn *txn;
    store_key_generation(&keys, link->base.store, generation);
    store_key_changes(&changes, link->base.store, generation);
    store_key_append(&changes, ":", 1);
    store_key_shadow(&shadow, link->base.store, generation);
    int rc = lmdb_write_begin(&txn, link, err);
    if (rc < 0)
        return rc;
    rc = check_not_live(link, txn, generation, err);
    if (rc == 0)
        rc = mark_row(link, txn, generation, token, err);
    if (rc == 0)
        rc = fail(err, link, delete_some(&done, link, txn, &keys, LMDB_DELETES));
    if (rc == 0)
        rc = fail(err, link, delete_some(&done, link, txn, &changes, LMDB_DELETES));
    if (rc == 0)
        rc = fail(err, link, delete_some(&done, link, txn, &shadow, LMDB_DELETES));
    *more = done == LMDB_DELETES;
    if (rc == 0 && !*more)
        rc = fail(err, link, delete_row(link, txn, generation));
    return lmdb_write_end(txn, link, rc, err);
}

int lmdb_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err)
{
    bool more = true;
    int rc = 0;
    while (rc == 0 && more)
        rc = drop_step((struct lmdb_link *)link, token, generation, &more, err);
    return rc;
}

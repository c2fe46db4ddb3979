/* Streams in the embedded store, changes and clicks: entries numbered from 1, so that the cursors "" and "0" stand before
 * the first. Nothing but trimming deletes any, from the front: the numbers of those that are there have no gaps. */
#include "store/store_lmdb_int.h"

#include <inttypes.h>

#define DIGITS 20

/* ---- entries: base is what the keys of a stream have in common ---- */

static void changes_base(struct store_key *base, const struct store_link *link, const char *generation)
{
    store_key_changes(base, link->store, generation);
    store_key_append(base, ":", 1);
}

static void clicks_base(struct store_key *base, const struct store_link *link)
{
    store_key_global(base, link->store, "clicks:");
}

static void entry_key(struct store_key *key, const struct store_key *base, uint64_t number)
{
    char digits[DIGITS + 1];
    snprintf(digits, sizeof digits, "%020" PRIu64, number);
    key->len = 0;
    store_key_append(key, base->text, base->len);
    store_key_append(key, digits, DIGITS);
}

/* The number of a stored entry; false if the key is none of base. */
static bool entry_number(uint64_t *number, const MDB_val *key, const struct store_key *base)
{
    if (!lmdb_begins(key, base) || key->mv_size != base->len + DIGITS)
        return false;
    const char *digits = (const char *)key->mv_data + base->len, *const end = digits + DIGITS;
    while (digits < end - 1 && *digits == '0')
        digits++;
    return store_number_parse(number, digits, (size_t)(end - digits));
}

/* The value is the parts, one behind the other. */
static int put_entry(const struct lmdb_link *link, MDB_txn *txn, const struct store_key *base,
    uint64_t number, const struct store_id *parts, size_t count)
{
    struct store_key name;
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    entry_key(&name, base, number);
    MDB_val key = lmdb_val(name.text, name.len), value = {len, NULL};
    const int error = mdb_put(txn, link->env->dbi, &key, &value, MDB_RESERVE);
    char *at = value.mv_data;
    for (size_t i = 0; !error && i < count; i++) {
        if (parts[i].len)
            memcpy(at, parts[i].id, parts[i].len);
        at += parts[i].len;
    }
    return error;
}

/* The number of the last entry, 0 if there is none: the pair before the place of the largest number. */
static int last_number(
    uint64_t *number, const struct lmdb_link *link, MDB_txn *txn, const struct store_key *base)
{
    struct store_key top;
    MDB_cursor *cursor;
    entry_key(&top, base, UINT64_MAX);
    MDB_val key = lmdb_val(top.text, top.len), value;
    int error = mdb_cursor_open(txn, link->env->dbi, &cursor);
    if (error)
        return error;
    error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    error = mdb_cursor_get(cursor, &key, &value, error == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    if (error || !entry_number(number, &key, base))
        *number = 0;
    mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

/* ---- reading ---- */

struct reading {
    const struct store_key *base;
    const char *generation; /* of changes: none behind the cursor may be missing; NULL: clicks */
    store_change_fn *change_fn;
    store_click_fn *click_fn;
    void *ctx;
};

static int tell_change(
    const struct reading *reading, uint64_t number, const char *bytes, size_t len, struct err *err)
{
    if (len < 1 || !store_kind_changes(*bytes))
        return err_set(
            err, ERR_CORRUPT, "change %" PRIu64 " of generation %s is damaged", number, reading->generation);
    const struct store_change change = {(enum store_kind) * bytes, {bytes + 1, len - 1}};
    return reading->change_fn(reading->ctx, &change);
}

static int tell_click(
    const struct reading *reading, const char *bytes, size_t len, const char place[STORE_CURSOR_MAX])
{
    const char *const space = len ? memchr(bytes, ' ', len) : NULL;
    const size_t user = space ? (size_t)(space - bytes) : 0;
    const struct store_click click = store_click_of(
        (struct store_id){bytes, user}, (struct store_id){bytes + user + !!space, len - user - !!space});
    return reading->click_fn(reading->ctx, &click, place);
}

static int read_at(const struct reading *reading, const struct lmdb_link *link, MDB_cursor *at,
    char cursor[STORE_CURSOR_MAX], uint64_t number, size_t max, struct err *err)
{
    const uint64_t first = number + (number < UINT64_MAX);
    struct store_key from;
    int rc = 0;
    entry_key(&from, reading->base, first);
    MDB_val key = lmdb_val(from.text, from.len), value;
    int error = mdb_cursor_get(at, &key, &value, MDB_SET_RANGE);
    for (size_t i = 0; !error && rc == 0 && i < max && entry_number(&number, &key, reading->base); i++) {
        char place[STORE_CURSOR_MAX];
        snprintf(place, sizeof place, "%" PRIu64, number);
        if (i == 0 && *cursor && number != first && reading->generation)
            return store_err_trimmed(err, reading->generation);
        rc = reading->generation ? tell_change(reading, number, value.mv_data, value.mv_size, err)
                                 : tell_click(reading, value.mv_data, value.mv_size, place);
        if (rc == 0) {
            memcpy(cursor, place, sizeof place);
            error = mdb_cursor_get(at, &key, &value, MDB_NEXT);
        }
    }
    return error && error != MDB_NOTFOUND ? lmdb_err(err, link->env, error, "read the LMDB store") : rc;
}

static int read_stream(struct store_link *link, const struct reading *reading, char cursor[STORE_CURSOR_MAX],
    size_t max, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    MDB_cursor *at;
    uint64_t number = 0;
    if (*cursor && !store_number_parse(&number, cursor, strlen(cursor)))
        return store_err_cursor(err, cursor);
    int rc = lmdb_read_begin(self, err);
    if (rc < 0)
        return rc;
    const int error = mdb_cursor_open(self->read, self->env->dbi, &at);
    if (error) {
        rc = lmdb_err(err, self->env, error, "read the LMDB store");
    } else {
        rc = read_at(reading, self, at, cursor, number, max, err);
        mdb_cursor_close(at);
    }
    lmdb_read_end(self);
    return rc;
}

/* ---- trimming ---- */

/* Delete entries up to this number, at most LMDB_DELETES of them; *done counts them. */
static int trim_some(
    size_t *done, const struct lmdb_link *link, MDB_txn *txn, const struct store_key *base, uint64_t last)
{
    struct store_key from;
    MDB_cursor *cursor;
    uint64_t number;
    int error = mdb_cursor_open(txn, link->env->dbi, &cursor);
    if (error)
        return error;
    entry_key(&from, base, 0);
    MDB_val key = lmdb_val(from.text, from.len), value;
    error = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!error && *done < LMDB_DELETES && entry_number(&number, &key, base) && number <= last) {
        error = mdb_cursor_del(cursor, 0);
        if (!error) {
            ++*done;
            error = mdb_cursor_get(cursor, &key, &value, MDB_NEXT); /* to where the deleted pair was */
        }
    }
    mdb_cursor_close(cursor);
    return error == MDB_NOTFOUND ? 0 : error;
}

static int trim(struct lmdb_link *link, const struct store_key *base, uint64_t last, struct err *err)
{
    size_t done = LMDB_DELETES;
    int rc = 0;
    while (rc == 0 && done == LMDB_DELETES) {
        MDB_txn *txn;
        rc = lmdb_write_begin(&txn, link, err);
        if (rc < 0)
            break;
        done = 0;
        const int error = trim_some(&done, link, txn, base, last);
        rc = error ? lmdb_err(err, link->env, error, "write to the LMDB store") : 0;
        rc = lmdb_write_end(txn, link, rc, err);
    }
    return rc;
}

/* ---- changes ---- */

int lmdb_changes_append(struct store_link *link, const char *generation, const struct store_change *changes,
    size_t count, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_key base;
    MDB_txn *txn;
    uint64_t number = 0;
    changes_base(&base, link, generation);
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    int error = last_number(&number, self, txn, &base);
    for (size_t i = 0; !error && i < count; i++) {
        const char kind = (char)changes[i].kind;
        error =
            put_entry(self, txn, &base, ++number, (const struct store_id[]){{&kind, 1}, changes[i].id}, 2);
    }
    rc = error ? lmdb_err(err, self->env, error, "write to the LMDB store") : 0;
    return lmdb_write_end(txn, self, rc, err);
}

int lmdb_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err)
{
    struct store_key base;
    const struct reading reading = {&base, generation, fn, NULL, ctx};
    changes_base(&base, link, generation);
    return read_stream(link, &reading, cursor, max, err);
}

static int last_change(
    uint64_t *number, struct lmdb_link *link, const struct store_key *base, struct err *err)
{
    const int rc = lmdb_read_begin(link, err);
    if (rc < 0)
        return rc;
    const int error = last_number(number, link, link->read, base);
    lmdb_read_end(link);
    return error ? lmdb_err(err, link->env, error, "read the LMDB store") : 0;
}

int lmdb_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err)
{
    struct store_key base;
    uint64_t number = 0;
    changes_base(&base, link, generation);
    const int rc = last_change(&number, (struct lmdb_link *)link, &base, err);
    if (rc == 0 && number)
        snprintf(cursor, STORE_CURSOR_MAX, "%" PRIu64, number);
    else if (rc == 0)
        *cursor = '\0';
    return rc;
}

int lmdb_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    struct store_key base;
    uint64_t number = 0;
    changes_base(&base, link, generation);
    const int rc = last_change(&number, self, &base, err);
    return rc < 0 || number <= keep ? rc : trim(self, &base, number - keep, err);
}

/* ---- clicks: the number of the last is kept beside them, for the time when there is none ---- */

static void clicks_name(struct store_key *name, const struct lmdb_link *link)
{
    store_key_global(name, link->base.store, "clicks");
}

/* The number of the last click that was ever appended. */
static int last_click(uint64_t *number, const struct lmdb_link *link, MDB_txn *txn, struct err *err)
{
    struct store_key name;
    MDB_val value;
    clicks_name(&name, link);
    MDB_val key = lmdb_val(name.text, name.len);
    const int error = mdb_get(txn, link->env->dbi, &key, &value);
    *number = 0;
    if (error)
        return error == MDB_NOTFOUND ? 0 : lmdb_err(err, link->env, error, "write to the LMDB store");
    return store_number_parse(number, value.mv_data, value.mv_size)
               ? 0
               : err_set(err, ERR_CORRUPT, "the number of the last click is damaged");
}

static int append_clicks(const struct lmdb_link *link, MDB_txn *txn, uint64_t number,
    const struct store_click *clicks, size_t count)
{
    struct store_key base, name;
    char text[24];
    int error = 0;
    clicks_base(&base, &link->base);
    clicks_name(&name, link);
    for (size_t i = 0; !error && i < count; i++)
        error = put_entry(link, txn, &base, ++number,
            (const struct store_id[]){clicks[i].user, {" ", 1}, clicks[i].item}, 3);
    if (error)
        return error;
    const int len = snprintf(text, sizeof text, "%" PRIu64, number);
    MDB_val key = lmdb_val(name.text, name.len), value = lmdb_val(text, (size_t)len);
    return mdb_put(txn, link->env->dbi, &key, &value, 0);
}

int lmdb_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    MDB_txn *txn;
    uint64_t number;
    int rc = lmdb_write_begin(&txn, self, err);
    if (rc < 0)
        return rc;
    rc = last_click(&number, self, txn, err);
    if (rc == 0) {
        const int error = append_clicks(self, txn, number, clicks, count);
        rc = error ? lmdb_err(err, self->env, error, "write to the LMDB store") : 0;
    }
    return lmdb_write_end(txn, self, rc, err);
}

int lmdb_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
    void *ctx, struct err *err)
{
    struct store_key base;
    const struct reading reading = {&base, NULL, NULL, fn, ctx};
    clicks_base(&base, link);
    return read_stream(link, &reading, cursor, max, err);
}

int lmdb_clicks_trim(struct store_link *link, const char *cursor, struct err *err)
{
    struct store_key base;
    uint64_t number;
    if (!store_number_parse(&number, cursor, strlen(cursor)))
        return store_err_cursor(err, cursor);
    clicks_base(&base, link);
    return trim((struct lmdb_link *)link, &base, number, err);
}

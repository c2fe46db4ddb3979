/* What the files of the LMDB backend share: the environment, the link, transactions and keys.
 *
 * All keys lie in the unnamed main database, so `mdb_dump PATH` shows them. Two things differ from Redis: a
 * row of the generations table is a key of its own, {P}:generations:<name>, and a change is one key,
 * {P}:<gen>:changes:<20 digits>, whose value is its kind and id ("uU1"). A click is {P}:clicks:<20 digits> with its
 * user, a space and its item; {P}:clicks is the number of the last one.
 */
#ifndef EMBSUM_STORE_STORE_LMDB_INT_H
#define EMBSUM_STORE_STORE_LMDB_INT_H

#include "store/store_int.h"

#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LMDB_READERS_MAX 1022 /* links that may read at once, over all processes */
#define LMDB_DELETES 10000    /* in one transaction, so that other writers get their turn */

struct lmdb_env {
    MDB_env *env;
    MDB_dbi dbi;
    size_t key_max, map_size;
    atomic_size_t touched; /* bytes, about, that were read or written since lmdb_touch() let them go */
};

struct lmdb_link {
    struct store_link base;
    struct lmdb_env *env; /* NULL while a reader waits for the store to be made */
    MDB_txn *read;        /* kept between calls, reset: renewing one costs neither a lock nor an allocation */
};

/* The process's one environment of a folder, opened or shared. ERR_NOT_FOUND if a reader finds none. NULL may be
 * released. */
int lmdb_env_acquire(struct lmdb_env **out, const char *path, bool read_only, struct err *err);
void lmdb_env_release(struct lmdb_env *env);

/* So much has been read or written. A process that writes lets go of what is mapped now and then: it goes over the whole
 * store, and its memory is not to grow with it. A daemon's readers come back to what they have read. */
void lmdb_touch(struct lmdb_link *link, size_t bytes);

/* An LMDB error as ours; what was tried stands before it. */
int lmdb_err(struct err *err, const struct lmdb_env *env, int error, const char *what);

/* One snapshot; every read_begin that returned 0 has its read_end. ERR_NOT_FOUND while there is no store. */
int lmdb_read_begin(struct lmdb_link *link, struct err *err);
void lmdb_read_end(struct lmdb_link *link);

/* One transaction that writes. lmdb_write_end commits if rc is 0, else undoes it; it returns rc or the
 * failure of the commit. */
int lmdb_write_begin(MDB_txn **out, struct lmdb_link *link, struct err *err);
int lmdb_write_end(MDB_txn *txn, const struct lmdb_link *link, int rc, struct err *err);

/* A key as LMDB takes it. Keys past its limit (511 bytes, ids may have 512 alone) are kept under a hash, and
 * the value begins with the id: lmdb_value_* put it there and take it off. */
struct lmdb_key {
    struct store_key text;
    const char *id; /* of a shortened key, else NULL */
    size_t id_len;
};
void lmdb_key_make(struct lmdb_key *key, const struct lmdb_env *env, const struct store_key *base,
    const struct store_id *id);
/* The id and data of a stored pair whose key begins with base_len bytes of what is common to its kind. False
 * if a shortened pair is damaged. */
bool lmdb_pair_split(
    struct store_id *id, MDB_val *data, size_t base_len, const MDB_val *key, const MDB_val *value);

static inline MDB_val lmdb_val(const void *data, size_t len)
{
    union {
        const void *in;
        void *out; /* LMDB's one struct serves input and output */
    } pointer = {data};
    return (MDB_val){len, pointer.out};
}

static inline bool lmdb_begins(const MDB_val *key, const struct store_key *base)
{
    return key->mv_size >= base->len && memcmp(key->mv_data, base->text, base->len) == 0;
}

/* store_lmdb_table.c */
int64_t lmdb_clock_ms(void); /* what leases end by: since 1970, the same for all processes */
int lmdb_ping(struct store_link *link, struct err *err);
int lmdb_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err);
int lmdb_generations(struct store_link *link, struct store_rows *rows, struct err *err);
int lmdb_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err);
int lmdb_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err);
int lmdb_unlock(struct store_link *link, uint64_t token, struct err *err);
int lmdb_commit(struct store_link *link, uint64_t token, const struct store_generation *rows, size_t count,
    const char *live, struct err *err);
int lmdb_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err);

/* store_lmdb_inspect.c */
extern const struct store_inspect_backend lmdb_inspect;

/* store_lmdb_data.c; lmdb_scan_until() as redis_scan_until() */
int lmdb_scan_until(struct lmdb_link *link, const char *generation, enum store_kind kind, int64_t until_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err);
int lmdb_stream(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err);
int lmdb_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err);
int lmdb_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err);
int lmdb_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err);

/* store_lmdb_stream.c */
int lmdb_changes_append(struct store_link *link, const char *generation, const struct store_change *changes,
    size_t count, struct err *err);
int lmdb_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err);
int lmdb_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err);
int lmdb_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err);
int lmdb_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err);
int lmdb_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max, store_click_fn *fn,
    void *ctx, struct err *err);
int lmdb_clicks_trim(struct store_link *link, const char *cursor, struct err *err);

/* store_lmdb_shadow.c */
int lmdb_shadow_add(
    struct store_link *link, const char *generation, const struct store_shadow *more, struct err *err);
int lmdb_shadow_get(
    struct store_link *link, const char *generation, struct store_shadow *out, struct err *err);

#endif

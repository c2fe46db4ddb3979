/* The embedded store, one LMDB environment in a folder: stores, links, transactions, keys. What is read and
 * written in them is in store_lmdb_data.c, store_lmdb_stream.c and store_lmdb_table.c.
 *
 * A writer whose process is stopped in the middle of a transaction keeps LMDB's writer mutex: others who want
 * to write wait until it goes on or dies. Readers never wait.
 */
#include "core/file.h"
#include "store/store_lmdb_int.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

/* ---- errors ---- */

int lmdb_err(struct err *err, const struct lmdb_env *env, int error, const char *what)
{
    switch (error) {
    case MDB_MAP_FULL:
        return err_set(
            err, ERR_IO, "%s: the LMDB map of %zu MiB is full", what, env ? env->map_size >> 20 : 0);
    case MDB_MAP_RESIZED:
        return err_set(err, ERR_IO,
            "%s: another process has grown the LMDB store past the %zu MiB of address space that this one "
            "has",
            what, env ? env->map_size >> 20 : 0);
    case MDB_READERS_FULL:
        return err_set(err, ERR_UNAVAILABLE, "%s: all %d reader slots of the LMDB store are taken", what,
            LMDB_READERS_MAX);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PANIC:
        return err_set(err, ERR_CORRUPT, "%s: %s", what, mdb_strerror(error));
    case ENOMEM:
        return err_set(err, ERR_NOMEM, "%s: out of memory", what);
    default:
        return err_set(err, ERR_IO, "%s: %s", what, mdb_strerror(error));
    }
}

/* ---- store and link: each holds the environment for itself ---- */

struct lmdb_store {
    struct store base;
    struct lmdb_env *env; /* NULL if a reader found none */
    bool read_only;
    char path[];
};

static int lmdb_open(
    struct store **out, const char *path, const struct store_options *options, struct err *err)
{
    const size_t len = strlen(path);
    if (!len)
        return err_set(
            err, ERR_INVALID, "store URL: lmdb: needs the path of a folder, as in lmdb:/var/lib/embsum");
    struct lmdb_store *const store = calloc(1, sizeof *store + len + 1);
    if (!store)
        return err_set(err, ERR_NOMEM, "out of memory");
    memcpy(store->path, path, len + 1);
    store->read_only = options->read_only;
    const int rc = lmdb_env_acquire(&store->env, path, options->read_only, err);
    if (rc < 0 && !(rc == -ERR_NOT_FOUND && options->read_only)) {
        free(store);
        return rc;
    }
    *out = &store->base;
    return 0;
}

static void lmdb_close(struct store *store)
{
    struct lmdb_store *const self = (struct lmdb_store *)store;
    lmdb_env_release(self->env);
    free(self);
}

static int lmdb_connect(struct store_link **out, struct store *store, struct err *err)
{
    (void)store;
    struct lmdb_link *const link = calloc(1, sizeof *link);
    if (!link)
        return err_set(err, ERR_NOMEM, "out of memory");
    *out = &link->base;
    return 0;
}

static void lmdb_disconnect(struct store_link *link)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    if (self->read)
        mdb_txn_abort(self->read);
    lmdb_env_release(self->env);
    free(self);
}

/* A link takes the environment with its first call: the folder may have been made since the store was opened. */
static int need_env(struct lmdb_link *link, struct err *err)
{
    const struct lmdb_store *const store = (const struct lmdb_store *)link->base.store;
    return link->env ? 0 : lmdb_env_acquire(&link->env, store->path, store->read_only, err);
}

/* ---- transactions ---- */

int lmdb_read_begin(struct lmdb_link *link, struct err *err)
{
    int rc = need_env(link, err);
    if (rc < 0)
        return rc;
    MDB_env *const env = link->env->env;
    rc = link->read ? mdb_txn_renew(link->read) : mdb_txn_begin(env, NULL, MDB_RDONLY, &link->read);
    if (rc == MDB_READERS_FULL && !link->read && mdb_reader_check(env, NULL) == 0)
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &link->read);
    return rc ? lmdb_err(err, link->env, rc, "read the LMDB store") : 0;
}

void lmdb_read_end(struct lmdb_link *link)
{
    mdb_txn_reset(link->read);
}

void lmdb_touch(struct lmdb_link *link, size_t bytes)
{
    enum { LET_GO = 8 << 20 }; /* a page that is touched may bring 2 MiB of its neighbours along */
    mdb_filehandle_t fd;
    if (link->base.store->read_only ||
        atomic_fetch_add_explicit(&link->env->touched, bytes, memory_order_relaxed) + bytes < LET_GO)
        return;
    atomic_store_explicit(&link->env->touched, 0, memory_order_relaxed);
    if (mdb_env_get_fd(link->env->env, &fd) == 0)
        file_unmap_touched(fd);
}

int lmdb_write_begin(MDB_txn **out, struct lmdb_link *link, struct err *err)
{
    int rc = need_env(link, err);
    if (rc < 0)
        return rc;
    rc = mdb_txn_begin(link->env->env, NULL, 0, out);
    return rc ? lmdb_err(err, link->env, rc, "write to the LMDB store") : 0;
}

int lmdb_write_end(MDB_txn *txn, const struct lmdb_link *link, int rc, struct err *err)
{
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    rc = mdb_txn_commit(txn);
    return rc ? lmdb_err(err, link->env, rc, "write to the LMDB store") : 0;
}

/* ---- keys ---- */

/* A shortened key is its kind's prefix, a tab (which neither ids nor categories hold), and the hash of the whole key in
 * hex. Its value is the id's length in two bytes, little-endian, the id, the data. */
#define SHORT_MARK '\t'
#define SHORT_HEAD 2

void lmdb_key_make(
    struct lmdb_key *key, const struct lmdb_env *env, const struct store_key *base, const struct store_id *id)
{
    key->text.len = 0;
    store_key_append(&key->text, base->text, base->len);
    store_key_append(&key->text, id->id, id->len);
    key->id = NULL;
    key->id_len = 0;
    if (key->text.len <= env->key_max)
        return;
    const XXH128_hash_t hash = XXH3_128bits(key->text.text, key->text.len);
    char hex[34];
    const int len = snprintf(hex, sizeof hex, "%c%016llx%016llx", SHORT_MARK, (unsigned long long)hash.high64,
        (unsigned long long)hash.low64);
    key->text.len = base->len;
    store_key_append(&key->text, hex, (size_t)len);
    key->id = id->id;
    key->id_len = id->len;
}

bool lmdb_pair_split(
    struct store_id *id, MDB_val *data, size_t base_len, const MDB_val *key, const MDB_val *value)
{
    const char *const rest = (const char *)key->mv_data + base_len;
    if (key->mv_size == base_len || *rest != SHORT_MARK) {
        *id = (struct store_id){rest, key->mv_size - base_len};
        *data = *value;
        return true;
    }
    const unsigned char *const bytes = value->mv_data;
    if (value->mv_size < SHORT_HEAD)
        return false;
    const size_t id_len = (size_t)bytes[0] | (size_t)bytes[1] << 8;
    if (value->mv_size - SHORT_HEAD < id_len)
        return false;
    *id = (struct store_id){(const char *)bytes + SHORT_HEAD, id_len};
    *data = lmdb_val(bytes + SHORT_HEAD + id_len, value->mv_size - SHORT_HEAD - id_len);
    return true;
}

const struct store_backend store_lmdb = {
    .open = lmdb_open,
    .close = lmdb_close,
    .connect = lmdb_connect,
    .disconnect = lmdb_disconnect,
    .ping = lmdb_ping,
    .live = lmdb_live,
    .generations = lmdb_generations,
    .stream = lmdb_stream,
    .scan = lmdb_scan,
    .put = lmdb_put,
    .remove = lmdb_delete,
    .lock = lmdb_lock,
    .renew = lmdb_renew,
    .unlock = lmdb_unlock,
    .commit = lmdb_commit,
    .drop = lmdb_drop,
    .changes_append = lmdb_changes_append,
    .changes_read = lmdb_changes_read,
    .changes_end = lmdb_changes_end,
    .changes_trim = lmdb_changes_trim,
    .clicks_append = lmdb_clicks_append,
    .clicks_read = lmdb_clicks_read,
    .clicks_trim = lmdb_clicks_trim,
    .inspect = &lmdb_inspect,
    .shadow_add = lmdb_shadow_add,
    .shadow_get = lmdb_shadow_get,
};

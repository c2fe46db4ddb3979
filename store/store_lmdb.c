/* The embedded store, one LMDB environment in a folder: the environment, links, transactions and keys. What
 * is read and written in them is in store_lmdb_data.c and store_lmdb_table.c.
 *
 * LMDB forbids opening one environment twice in a process: closing the second would drop the POSIX locks of
 * the first. A small registry shares it instead, the one mutable static of the store, under its mutex. A
 * store that is opened for reading still opens the environment for writing where the files permit it, so that
 * a reader and a writer in one process share it; the map itself is never writable (no MDB_WRITEMAP), and the
 * refusal to write is store.c's.
 *
 * Readers are tied to transactions, not to threads (MDB_NOTLS), so that a link may hold one for its life.
 */
#include "store/store_lmdb_int.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define MAP_SIZE_MAX ((size_t)1 << 40) /* address space, not memory or disk */
#define MAP_SIZE_MIN ((size_t)1 << 30)
#define READERS_MAX 1022 /* links that may read at once, over all processes */

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
        return err_set(
            err, ERR_UNAVAILABLE, "%s: all %d reader slots of the LMDB store are taken", what, READERS_MAX);
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

/* ---- the environment ---- */

struct registered {
    struct lmdb_env env; /* first: what callers hold */
    bool read_only;      /* the files permit no more */
    dev_t device;        /* of data.mdb */
    ino_t inode;
    pid_t owner; /* a child of fork inherits the registry, but must open an environment of its own */
    size_t users;
    struct registered *next;
};

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct registered *registry;

/* Open with the largest map that the address space allows. Under valgrind, a sanitizer or a limit on address
 * space that is less than a tebibyte. */
static int open_env(struct lmdb_env *env, const char *path, unsigned flags)
{
    int rc = ENOMEM;
    for (size_t size = MAP_SIZE_MAX; rc == ENOMEM && size >= MAP_SIZE_MIN; size /= 2) {
        rc = mdb_env_create(&env->env);
        if (rc)
            return rc;
        rc = mdb_env_set_mapsize(env->env, size);
        if (!rc)
            rc = mdb_env_set_maxreaders(env->env, READERS_MAX);
        if (!rc)
            rc = mdb_env_open(env->env, path, flags | MDB_NOTLS, 0660);
        if (rc)
            mdb_env_close(env->env);
        env->map_size = size;
    }
    return rc;
}

static int open_database(struct lmdb_env *env)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &env->dbi);
    if (rc)
        mdb_txn_abort(txn);
    else
        rc = mdb_txn_commit(txn); /* keeps the handle */
    return rc;
}

static int open_new(struct registered *entry, const char *path, bool read_only, struct err *err)
{
    struct lmdb_env *const env = &entry->env;
    int rc = open_env(env, path, 0);
    entry->read_only = false;
    if ((rc == EACCES || rc == EROFS) && read_only) {
        rc = open_env(env, path, MDB_RDONLY);
        entry->read_only = true;
    }
    if (!rc) {
        rc = open_database(env);
        if (!rc)
            rc = mdb_reader_check(env->env, NULL); /* free the slots of readers that were killed */
        if (rc)
            mdb_env_close(env->env);
    }
    if (rc) {
        char what[300];
        snprintf(what, sizeof what, "open the LMDB store in %.256s", path);
        return lmdb_err(err, env, rc, what);
    }
    env->key_max = (size_t)mdb_env_get_maxkeysize(env->env);
    return 0;
}

/* data.mdb rather than the folder identifies a store: its inode cannot be reused while we have it open. */
static int stat_data(struct stat *out, const char *path)
{
    char name[4096];
    const int len = snprintf(name, sizeof name, "%s/data.mdb", path);
    if (len < 0 || (size_t)len >= sizeof name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return stat(name, out);
}

static struct registered *find_registered(const char *path)
{
    struct stat st;
    if (stat_data(&st, path) == 0)
        for (struct registered *entry = registry; entry; entry = entry->next)
            if (entry->device == st.st_dev && entry->inode == st.st_ino && entry->owner == getpid())
                return entry;
    return NULL;
}

static int prepare_folder(const char *path, bool read_only, struct err *err)
{
    struct stat st;
    if (read_only)
        return stat_data(&st, path) == 0 && st.st_size > 0
                   ? 0
                   : err_set(err, ERR_NOT_FOUND, "there is no LMDB store in %.256s", path);
    if (mkdir(path, 0770) < 0 && errno != EEXIST)
        return err_errno(err, "make the folder of the LMDB store, %.256s", path);
    return 0;
}

static int acquire_locked(struct lmdb_env **out, const char *path, bool read_only, struct err *err)
{
    struct registered *entry = find_registered(path);
    if (entry && entry->read_only && !read_only)
        return err_set(err, ERR_IO, "the LMDB store in %.256s can only be read by this process", path);
    if (!entry) {
        int rc = prepare_folder(path, read_only, err);
        if (rc < 0)
            return rc;
        entry = calloc(1, sizeof *entry);
        if (!entry)
            return err_set(err, ERR_NOMEM, "out of memory");
        rc = open_new(entry, path, read_only, err);
        struct stat st = {0};
        if (rc == 0 && stat_data(&st, path) < 0) {
            rc = err_errno(err, "open the LMDB store in %.256s", path);
            mdb_env_close(entry->env.env);
        }
        if (rc < 0) {
            free(entry);
            return rc;
        }
        entry->device = st.st_dev;
        entry->inode = st.st_ino;
        entry->owner = getpid();
        entry->next = registry;
        registry = entry;
    }
    entry->users++;
    *out = &entry->env;
    return 0;
}

int lmdb_env_acquire(struct lmdb_env **out, const char *path, bool read_only, struct err *err)
{
    pthread_mutex_lock(&registry_lock);
    const int rc = acquire_locked(out, path, read_only, err);
    pthread_mutex_unlock(&registry_lock);
    return rc;
}

void lmdb_env_release(struct lmdb_env *env)
{
    pthread_mutex_lock(&registry_lock);
    struct registered **at = &registry;
    while (&(*at)->env != env)
        at = &(*at)->next;
    struct registered *const entry = *at;
    if (--entry->users == 0) {
        *at = entry->next;
        mdb_env_close(entry->env.env);
        free(entry);
    }
    pthread_mutex_unlock(&registry_lock);
}

/* ---- store and link ---- */

static int lmdb_open(
    struct store **out, const char *path, const struct store_options *options, struct err *err)
{
    if (!*path)
        return err_set(
            err, ERR_INVALID, "store URL: lmdb: needs the path of a folder, as in lmdb:/var/lib/embsum");
    struct lmdb_store *const store = calloc(1, sizeof *store);
    if (!store)
        return err_set(err, ERR_NOMEM, "out of memory");
    const int rc = lmdb_env_acquire(&store->env, path, options->read_only, err);
    if (rc < 0) {
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
    struct lmdb_link *const link = calloc(1, sizeof *link);
    if (!link)
        return err_set(err, ERR_NOMEM, "out of memory");
    link->env = ((struct lmdb_store *)store)->env;
    *out = &link->base;
    return 0;
}

static void lmdb_disconnect(struct store_link *link)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    if (self->read)
        mdb_txn_abort(self->read);
    free(self);
}

/* ---- transactions ---- */

int lmdb_read_begin(struct lmdb_link *link, struct err *err)
{
    MDB_env *const env = link->env->env;
    int rc = link->read ? mdb_txn_renew(link->read) : mdb_txn_begin(env, NULL, MDB_RDONLY, &link->read);
    if (rc == MDB_READERS_FULL && !link->read && mdb_reader_check(env, NULL) == 0)
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &link->read);
    return rc ? lmdb_err(err, link->env, rc, "read the LMDB store") : 0;
}

void lmdb_read_end(struct lmdb_link *link)
{
    mdb_txn_reset(link->read);
}

int lmdb_write_begin(MDB_txn **out, const struct lmdb_link *link, struct err *err)
{
    const int rc = mdb_txn_begin(link->env->env, NULL, 0, out);
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

/* A shortened key is its kind's prefix, a blank (which no id holds), and the hash of the whole key in hex.
 * Its value is the id's length in two bytes, little-endian, the id, the data. */
#define SHORT_MARK ' '
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
    .get = lmdb_get,
    .scan = lmdb_scan,
    .put = lmdb_put,
    .lock = lmdb_lock,
    .renew = lmdb_renew,
    .unlock = lmdb_unlock,
    .commit = lmdb_commit,
    .drop = lmdb_drop,
    .changes_append = lmdb_changes_append,
    .changes_read = lmdb_changes_read,
};

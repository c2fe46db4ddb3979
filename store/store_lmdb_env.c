/* The environment of an embedded store: one for each folder and process.
 *
 * LMDB forbids opening one environment twice in a process: closing the second would drop the POSIX locks of the
 * first. A small registry shares it instead, the one mutable static of the store, under its mutex. A store
 * that is opened for reading still opens the environment for writing where the files permit it, so that a
 * reader and a writer in one process share it; the map itself is never writable (no MDB_WRITEMAP), and the
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

#define MAP_SIZE_MAX ((size_t)1 << 40) /* address space, not memory or disk */
#define MAP_SIZE_MIN ((size_t)1 << 30)

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

/* Open with the largest map that the address space allows. Under a sanitizer, a limit on address space (ENOMEM) or
 * valgrind (EINVAL) that is less than a tebibyte. */
static int open_env(struct lmdb_env *env, const char *path, unsigned flags)
{
    int rc = ENOMEM;
    for (size_t size = MAP_SIZE_MAX; (rc == ENOMEM || rc == EINVAL) && size >= MAP_SIZE_MIN; size /= 2) {
        rc = mdb_env_create(&env->env);
        if (rc)
            return rc;
        rc = mdb_env_set_mapsize(env->env, size);
        if (!rc)
            rc = mdb_env_set_maxreaders(env->env, LMDB_READERS_MAX);
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
    if (!env)
        return;
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

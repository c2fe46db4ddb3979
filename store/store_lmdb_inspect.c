/* What an embedded store says of itself, and the file system below it. */
#include "store/store_lmdb_int.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

static void name_filesystem(char out[16], const char *path)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } kinds[] = {{0xEF53, "ext4"}, {0x58465342, "xfs"}, {0x9123683E, "btrfs"}, {0x2FC12FC1, "zfs"},
        {0x01021994, "tmpfs"}, {0x794C7630, "overlay"}, {0x6969, "nfs"}, {0x517B, "smb"},
        {0xFF534D42, "cifs"}, {0xFE534D42, "smb2"}, {0x00C36400, "ceph"}, {0x01021997, "9p"},
        {0x65735546, "fuse"}, {0x0BD00BD0, "lustre"}, {0x6A656A63, "virtiofs"}};
    struct statfs fs;
    if (statfs(path, &fs) < 0)
        return;
    const unsigned long magic = (unsigned long)fs.f_type & 0xFFFFFFFF;
    snprintf(out, 16, "0x%lx", magic);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].magic == magic)
            snprintf(out, 16, "%s", kinds[i].name);
}

/* What is free in the file can be used again, beside what the file may still grow by. */
static int add_sizes(struct store_inspection *it, const struct lmdb_link *link, const char *path)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct statvfs fs;
    int error = mdb_env_info(link->env->env, &info);
    if (!error)
        error = mdb_stat(link->read, link->env->dbi, &stat);
    if (error)
        return error;
    const uint64_t page = stat.ms_psize, file = ((uint64_t)info.me_last_pgno + 1) * page;
    const uint64_t pages = stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    it->keys = stat.ms_entries;
    it->used = pages * page;
    it->limit = info.me_mapsize;
    it->clients = info.me_numreaders;
    it->clients_max = info.me_maxreaders;
    it->machine = statvfs(path, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;
    const uint64_t map_left = it->limit > file ? it->limit - file : 0;
    it->room = (map_left < it->machine ? map_left : it->machine) + (file > it->used ? file - it->used : 0);
    return 0;
}

/* The value is "token expiry", see store_lmdb_table.c. */
static int add_lock(struct store_inspection *it, const struct lmdb_link *link)
{
    struct store_key name;
    MDB_val value;
    char text[64];
    uint64_t token = 0, expiry = 0;
    store_key_global(&name, link->base.store, "lock");
    MDB_val key = lmdb_val(name.text, name.len);
    const int error = mdb_get(link->read, link->env->dbi, &key, &value);
    if (error)
        return error == MDB_NOTFOUND ? 0 : error;
    snprintf(text, sizeof text, "%.*s", (int)(value.mv_size < 63 ? value.mv_size : 63),
        (const char *)value.mv_data);
    if (sscanf(text, "%" SCNu64 " %" SCNu64, &token, &expiry) != 2)
        return 0; /* who takes it says that it is damaged */
    const int64_t left_ms = (int64_t)expiry - lmdb_clock_ms();
    it->lock = left_ms > 0 ? token : 0;
    it->lock_ms = left_ms > 0 ? left_ms : 0;
    return 0;
}

static int inspect(struct store_link *link, struct store_inspection *out, struct err *err)
{
    struct lmdb_link *const self = (struct lmdb_link *)link;
    const char *path = NULL;
    int major, minor, patch;
    const int rc = lmdb_read_begin(self, err);
    if (rc < 0)
        return rc;
    mdb_version(&major, &minor, &patch);
    snprintf(out->server, sizeof out->server, "LMDB %d.%d.%d", major, minor, patch);
    int error = mdb_env_get_path(self->env->env, &path);
    if (!error)
        error = add_sizes(out, self, path);
    if (!error)
        error = add_lock(out, self);
    lmdb_read_end(self);
    if (error)
        return lmdb_err(err, self->env, error, "look at the LMDB store");
    name_filesystem(out->filesystem, path);
    return 0;
}

static int probe(struct store_link *link, struct err *err)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    struct lmdb_link *const self = (struct lmdb_link *)link;
    const char *path = NULL;
    int rc = lmdb_read_begin(self, err); /* the store is there */
    if (rc < 0)
        return rc;
    lmdb_read_end(self);
    const int error = mdb_env_get_path(self->env->env, &path);
    if (error)
        return lmdb_err(err, self->env, error, "look at the LMDB store");
    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof *files; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, files[i]);
        if (access(name, W_OK) < 0)
            rc = err_errno(err, "write to %.300s", name);
    }
    return rc;
}

static int sample(struct store_link *link, const char *generation, enum store_kind kind, int64_t until_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err)
{
    return lmdb_scan_until((struct lmdb_link *)link, generation, kind, until_ms, fn, ctx, whole, err);
}

const struct store_inspect_backend lmdb_inspect = {inspect, probe, sample};

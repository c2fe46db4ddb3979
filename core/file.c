#include "core/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int file_read(char **data, size_t *len, const char *path, size_t max, struct err *err)
{
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return err_errno(err, "open %s", path);
    char *bytes = NULL;
    size_t used = 0, size = 0;
    int result = 0;
    for (;;) {
        if (size - used < 2) {
            size = 2 * size + 4096;
            char *more = realloc(bytes, size);
            if (!more) {
                result = err_set(err, ERR_NOMEM, "read %s: out of memory", path);
                break;
            }
            bytes = more;
        }
        const size_t got = fread(bytes + used, 1, size - used - 1, stream);
        used += got;
        if (used > max) {
            result = err_set(err, ERR_INVALID, "%s is larger than %zu bytes", path, max);
            break;
        }
        if (!got) {
            if (ferror(stream))
                result = err_errno(err, "read %s", path);
            break;
        }
    }
    fclose(stream);
    if (result < 0) {
        free(bytes);
        return result;
    }
    bytes[used] = '\0';
    *data = bytes;
    *len = used;
    return 0;
}

/* Write everything; false with errno where that fails. */
static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len) {
        const ssize_t put = write(fd, bytes, len);
        if (put < 0 && errno != EINTR)
            return false;
        bytes += put > 0 ? put : 0;
        len -= put > 0 ? (size_t)put : 0;
    }
    return true;
}

/* *copy = what can be read from fd, in a file without a name. */
static int copy_aside(int *copy, int fd, const char *path, struct err *err)
{
    char name[4096], chunk[65536];
    const char *const base = getenv("TMPDIR");
    int result = file_path(name, base && *base ? base : "/tmp", "embsum-XXXXXX", err);
    if (result < 0)
        return result;
    const int to = mkostemp(name, O_CLOEXEC);
    if (to < 0)
        return err_errno(err, "create %s", name);
    unlink(name);
    while (result == 0) {
        const ssize_t got = read(fd, chunk, sizeof chunk);
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            result = err_errno(err, "read %s", path);
        else if (got > 0 && !write_all(to, chunk, (size_t)got))
            result = err_errno(err, "copy %s to %s", path, name);
    }
    if (result == 0 && lseek(to, 0, SEEK_SET) != 0)
        result = err_errno(err, "read the copy of %s", path);
    if (result < 0)
        close(to);
    else
        *copy = to;
    return result;
}

int file_open_twice(int *fd, const char *path, struct err *err)
{
    struct stat status;
    const int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0)
        return err_errno(err, "open %s", path);
    if (fstat(opened, &status) == 0 && S_ISREG(status.st_mode)) {
        *fd = opened;
        return 0;
    }
    const int result = copy_aside(fd, opened, path, err);
    close(opened);
    return result;
}

int file_path(char out[4096], const char *dir, const char *name, struct err *err)
{
    const int length = snprintf(out, 4096, "%s/%s", dir, name);
    if (length < 0 || length >= 4096)
        return err_set(err, ERR_INVALID, "the path %.64s.../%s is too long", dir, name);
    return 0;
}

int file_make_dir(const char *path, struct err *err)
{
    struct stat status;
    if (mkdir(path, 0777) == 0)
        return 0;
    if (errno == EEXIST && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return 0;
    return err_errno(err, "make the folder %s", path);
}

/* A temporary is locked by its writer, and the lock goes with the writer: one that can be locked has been left behind, by
 * whatever file's writer of this folder. Best effort: where the file system knows no locks, they stay. */
#define UNFINISHED ".unfinished-"
#define RANDOM "XXXXXX"

static bool is_temporary(const char *name)
{
    const char *at = strstr(name, UNFINISHED);
    return at && strlen(at) == strlen(UNFINISHED RANDOM);
}

static void remove_left_behind(const char *path)
{
    char copy[4096];
    strcpy(copy, path);
    DIR *folder = opendir(dirname(copy));
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        if (!is_temporary(entry->d_name))
            continue;
        const int fd = openat(dirfd(folder), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            unlinkat(dirfd(folder), entry->d_name, 0);
        close(fd);
    }
    if (folder)
        closedir(folder);
}

/* Create and lock a temporary. Between the two it looks left behind: when another writer has removed it, take another. */
static int create_temporary(struct file_replacement *file)
{
    for (int tries = 0; tries < 100; tries++) {
        struct stat status;
        snprintf(file->temporary, sizeof file->temporary, "%s" UNFINISHED RANDOM, file->path);
        const int fd = mkostemp(file->temporary, O_CLOEXEC);
        if (fd < 0)
            return fd;
        const bool lost = flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (!lost && fstat(fd, &status) == 0 && status.st_nlink > 0)
            return fd;
        unlink(file->temporary);
        close(fd);
    }
    errno = EBUSY;
    return -1;
}

int file_replace_begin(struct file_replacement *file, const char *path, struct err *err)
{
    if (strlen(path) >= sizeof file->path)
        return err_set(err, ERR_INVALID, "the path %.64s... is too long", path);
    strcpy(file->path, path);
    remove_left_behind(path);
    const int fd = create_temporary(file);
    if (fd < 0)
        return err_errno(err, "create %s", file->temporary);
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask) == 0 && (file->stream = fdopen(fd, "wb")) != NULL)
        return 0;
    const int result = err_errno(err, "create %s", file->temporary);
    close(fd);
    unlink(file->temporary);
    return result;
}

/* A rename is durable once its folder is. */
static int sync_folder(const char *path)
{
    char copy[4096];
    strcpy(copy, path);
    const int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    const int result = fsync(fd);
    close(fd);
    return result;
}

int file_replace_commit(struct file_replacement *file, struct err *err)
{
    int result = 0;
    if (ferror(file->stream) || fflush(file->stream) != 0 || fsync(fileno(file->stream)) != 0)
        result = err_errno(err, "write %s", file->path);
    if (fclose(file->stream) != 0 && result == 0)
        result = err_errno(err, "close %s", file->path);
    if (result == 0 && rename(file->temporary, file->path) != 0)
        result = err_errno(err, "replace %s", file->path);
    if (result == 0 && sync_folder(file->path) != 0)
        result = err_errno(err, "sync the folder of %s", file->path);
    if (result < 0)
        unlink(file->temporary);
    return result;
}

void file_replace_abort(struct file_replacement *file)
{
    fclose(file->stream);
    unlink(file->temporary);
}

int file_copy(const char *from, const char *to, struct err *err)
{
    char *bytes;
    size_t len;
    struct file_replacement file;
    int result = file_read(&bytes, &len, from, (size_t)1 << 30, err);
    if (result < 0)
        return result;
    result = file_replace_begin(&file, to, err);
    if (result == 0) {
        fwrite(bytes, 1, len, file.stream); /* a failure stays in the stream until commit */
        result = file_replace_commit(&file, err);
    }
    free(bytes);
    return result;
}

void file_unmap_touched(int fd)
{
    struct stat file;
    char line[512];
    FILE *maps = fstat(fd, &file) == 0 ? fopen("/proc/self/maps", "re") : NULL;
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end, inode;
        unsigned int major, minor;
        if (sscanf(line, "%lx-%lx r--s %*x %x:%x %lu", &start, &end, &major, &minor, &inode) == 5 &&
            inode == file.st_ino && makedev(major, minor) == file.st_dev)
            madvise((void *)start, end - start, MADV_DONTNEED); /* advice: without it all is as before */
    }
    if (maps)
        fclose(maps);
}

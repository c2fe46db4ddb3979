#include "batch/summary_log.h"

#include "batch/summaries.h"
#include "core/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* How each of our lines begins; a stranger's file that does not is never cut. */
static const char line_start[] = "{\"user\": \"";

/* ---- the last line ---- */

struct tail {
    off_t whole; /* bytes of the file up to the end of its last whole line */
    off_t size;
    bool complete; /* the rest is a whole line but for its newline */
};

/* The file's rest behind its last newline. */
static int find_tail(struct tail *tail, int fd, struct err *err)
{
    char block[4096];
    struct stat status;
    if (fstat(fd, &status) != 0)
        return err_errno(err, "read");
    if (!S_ISREG(status.st_mode))
        return err_set(
            err, ERR_INVALID, "no regular file, which summaries need, to be read again by the next run");
    *tail = (struct tail){.size = status.st_size};
    for (off_t end = status.st_size; end > 0;) {
        const size_t want = end < (off_t)sizeof block ? (size_t)end : sizeof block;
        const ssize_t got = pread(fd, block, want, end - (off_t)want);
        if (got != (ssize_t)want)
            return err_errno(err, "read");
        const char *newline = memrchr(block, '\n', want);
        end -= (off_t)want;
        if (newline) {
            tail->whole = end + (newline - block) + 1;
            break;
        }
    }
    return 0;
}

/* Is the rest what is left of one of our lines? Those end in the brace that makes them complete. */
static int judge_tail(struct tail *tail, int fd, struct err *err)
{
    const size_t len = (size_t)(tail->size - tail->whole);
    if (!len)
        return 0;
    char *rest = malloc(len);
    if (!rest)
        return err_set(err, ERR_NOMEM, "out of memory");
    int result = 0;
    if (pread(fd, rest, len, tail->whole) != (ssize_t)len) {
        result = err_errno(err, "read");
    } else {
        const size_t start = strlen(line_start);
        json_t *object = json_read(rest, len, JSON_REJECT_DUPLICATES, NULL);
        tail->complete = object != NULL;
        if (!object && memcmp(rest, line_start, len < start ? len : start) != 0)
            result = err_set(err, ERR_INVALID, "the last line is no summary and not the beginning of one");
        json_decref(object);
    }
    free(rest);
    return result;
}

static int read_tail(struct tail *tail, int fd, struct err *err)
{
    errno = EIO; /* of a read that is shorter than the file */
    const int result = find_tail(tail, fd, err);
    return result < 0 ? result : judge_tail(tail, fd, err);
}

static int mend(int fd, struct err *err)
{
    struct tail tail;
    const int result = read_tail(&tail, fd, err);
    if (result < 0 || tail.whole == tail.size)
        return result;
    if (tail.complete ? write(fd, "\n", 1) == 1 : ftruncate(fd, tail.whole) == 0)
        return 0;
    return err_errno(err, "mend the last line");
}

/* ---- writing ---- */

int summary_log_open(struct summary_log *log, const char *path, struct err *err)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_errno(err, "open %s", path);
    int result = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        result = errno == EWOULDBLOCK ? err_set(err, ERR_BUSY, "%s: another run is writing it", path)
                                      : err_errno(err, "lock %s", path);
    else if ((result = mend(fd, err)) < 0)
        err_place(err, "%s: ", path);
    if (result < 0)
        close(fd);
    else
        *log = (struct summary_log){fd, path};
    return result;
}

/* Dumped by jansson's own spacing, which is the contract's. */
static char *make_line(const char *user, const char *summary, size_t *len)
{
    json_t *object = json_pack("{s:s, s:s}", "user", user, "summary", summary);
    char *text = json_write(object, JSON_PRESERVE_ORDER);
    json_decref(object);
    if (!text)
        return NULL;
    *len = strlen(text) + 1;
    text[*len - 1] = '\n'; /* in the place of the NUL */
    return text;
}

int summary_log_append(struct summary_log *log, const char *user, const char *summary, struct err *err)
{
    size_t len;
    char *line = make_line(user, summary, &len);
    if (!line)
        return err_set(err, ERR_NOMEM, "out of memory");
    const off_t before = lseek(log->fd, 0, SEEK_END);
    const ssize_t wrote = before < 0 ? -1 : write(log->fd, line, len);
    int result = 0;
    if (wrote != (ssize_t)len) {
        if (wrote >= 0)
            errno = ENOSPC; /* what a short write to a file means */
        result = err_errno(err, "write %s", log->path);
        if (wrote > 0 && ftruncate(log->fd, before) != 0)
            err_place(err, "the last line is torn; the next run mends it: ");
    }
    free(line);
    return result;
}

int summary_log_close(struct summary_log *log, struct err *err)
{
    int result = fsync(log->fd) == 0 ? 0 : err_errno(err, "write %s", log->path);
    if (close(log->fd) != 0 && result == 0)
        result = err_errno(err, "close %s", log->path);
    log->fd = -1;
    return result;
}

/* ---- reading ---- */

static int take_user(void *ctx, const char *user, size_t len, const char *summary, struct err *err)
{
    (void)summary;
    return id_map_add(ctx, user, len, NULL) < 0 ? err_set(err, ERR_NOMEM, "out of memory") : 0;
}

int summary_log_users(struct id_map *users, const char *path, struct err *err)
{
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return err_errno(err, "open %s", path);
    struct tail tail;
    int result = read_tail(&tail, fd, err);
    close(fd);
    if (result < 0) {
        err_place(err, "%s: ", path);
        return result;
    }
    result =
        summaries_read_part(path, (size_t)(tail.complete ? tail.size : tail.whole), take_user, users, err);
    if (result < 0)
        id_map_done(users);
    return result;
}

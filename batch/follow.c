#include "batch/follow.h"

#include "batch/progress.h"
#include "batch/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MS = 250,       /* between looks at the file and at the store */
    AGAIN_MS = 2000,     /* after a failure */
    READ_MOST = 16 << 20 /* of the file, at a time */
};

/* ---- a growing file ---- */

static int open_file(int *fd, struct stat *status, const char *path, struct err *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, status) < 0) {
        const int result = err_errno(err, "open %s", path);
        if (*fd >= 0)
            close(*fd);
        return result;
    }
    return 0;
}

/* Behind the last line end before `end`, 0 if there is none. */
static int last_line(uint64_t *at, int fd, uint64_t end, const char *path, struct err *err)
{
    char block[65536];
    while (end) {
        const uint64_t from = end > sizeof block ? end - sizeof block : 0;
        const ssize_t got = pread(fd, block, (size_t)(end - from), (off_t)from);
        if (got < 0 || (uint64_t)got < end - from)
            return err_errno(err, "read %s", path);
        const char *line = memrchr(block, '\n', (size_t)got);
        if (line) {
            *at = from + (uint64_t)(line - block) + 1;
            return 0;
        }
        end = from;
    }
    *at = 0;
    return 0;
}

int tail_open(struct tail *tail, const char *path, struct err *err)
{
    struct stat status;
    int fd;
    *tail = (struct tail){.path = path};
    if (!path)
        return 0;
    int result = open_file(&fd, &status, path, err);
    if (result < 0)
        return result;
    tail->device = status.st_dev;
    tail->inode = status.st_ino;
    if (!S_ISREG(status.st_mode))
        result = err_set(err, ERR_INVALID, "%s is no regular file, and cannot be followed", path);
    else
        result = last_line(&tail->offset, fd, (uint64_t)status.st_size, path, err);
    close(fd);
    return result;
}

/* Lines are copied, so that they can be read as a file of their own. */
static int copy_lines(int *out, int fd, uint64_t from, uint64_t end, const char *path, struct err *err)
{
    char block[65536];
    *out = memfd_create("lines", MFD_CLOEXEC);
    if (*out < 0)
        return err_errno(err, "make a temporary file");
    while (from < end) {
        const size_t some = end - from < sizeof block ? (size_t)(end - from) : sizeof block;
        const ssize_t got = pread(fd, block, some, (off_t)from);
        if (got <= 0 || write(*out, block, (size_t)got) != got) {
            if (!got)
                errno = EIO; /* it has been cut under our hands */
            const int result = err_errno(err, "read %s", path);
            close(*out);
            return result;
        }
        from += (uint64_t)got;
    }
    if (lseek(*out, 0, SEEK_SET) == 0)
        return 0;
    close(*out);
    return err_errno(err, "read %s", path);
}

static int read_lines(int *out, struct tail *tail, int fd, uint64_t size, struct err *err)
{
    const uint64_t most = tail->offset + READ_MOST < size ? tail->offset + READ_MOST : size;
    uint64_t end;
    int result = last_line(&end, fd, most, tail->path, err);
    if (result == 0 && end <= tail->offset && most < size) /* a line of more than READ_MOST */
        result = err_set(err, ERR_INVALID, "%s: a line at byte %llu does not end", tail->path,
            (unsigned long long)tail->offset);
    if (result < 0 || end <= tail->offset)
        return result;
    result = copy_lines(out, fd, tail->offset, end, tail->path, err);
    if (result == 0)
        tail->offset = end;
    return result;
}

int tail_read(int *out, struct tail *tail, struct err *err)
{
    struct stat status;
    int fd;
    *out = -1;
    if (!tail->path)
        return 0;
    int result = open_file(&fd, &status, tail->path, err);
    if (result < 0)
        return result;
    const uint64_t size = (uint64_t)status.st_size;
    if (status.st_dev != tail->device || status.st_ino != tail->inode || size < tail->offset)
        result = err_set(err, ERR_NOT_FOUND, "%s is another file now", tail->path);
    else if (size > tail->offset)
        result = read_lines(out, tail, fd, size, err);
    close(fd);
    return result;
}

/* ---- following ---- */

struct state {
    const struct follow *follow;
    struct store_link *link;
    struct id_map touched; /* whose rows have been read and not yet been refreshed */
    struct stat news;
};

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The rows that have been appended, into the histories. 1 if a file is another one now. */
static int read_rows(struct state *state, struct err *err)
{
    const struct follow *f = state->follow;
    struct tsv_options rows = *f->rows;
    struct tsv tsv;
    struct stat now;
    int fd;
    if (stat(f->news, &now) < 0 || !same_file(&now, &state->news))
        return 1;
    int result = tail_read(&fd, f->behaviors, err);
    if (result == -ERR_NOT_FOUND)
        return 1;
    if (result < 0 || fd < 0)
        return result;
    rows.quarantine = NULL;
    rows.max_bad = (struct tsv_limit){.rows = SIZE_MAX}; /* they are told; the good ones are not held up */
    result = tsv_open_fd(&tsv, fd, f->behaviors->path, BEHAVIORS_COLUMNS, &rows, err);
    if (result == 0) {
        result = histories_read(&f->workspace->histories, &tsv, &f->workspace->news, &state->touched, err);
        tsv_close(&tsv);
    }
    close(fd);
    return result;
}

static int notice(void *ctx, const struct store_click *click, const char *place)
{
    (void)click, (void)place;
    *(bool *)ctx = true;
    return 0;
}

static int look_for_clicks(struct state *state, bool *there, struct err *err)
{
    char cursor[STORE_CURSOR_MAX] = "";
    return store_clicks_read(state->link, cursor, 1, notice, there, err);
}

/* One look: 0, 1 if everything is to be looked at, or a failure. */
static int look(struct state *state, struct err *err)
{
    const struct follow *f = state->follow;
    bool clicks = false;
    int result = read_rows(state, err);
    if (result == 0)
        result = look_for_clicks(state, &clicks, err);
    if (result != 0 || (!clicks && !state->touched.count))
        return result;
    struct refresh_options options = *f->options;
    struct refresh_done done;
    options.source = FOLD_CLICKS;
    options.touched = &state->touched;
    options.full = false;
    result = refresh_run(&done, f->workspace, f->store, &options, err);
    if (result != -ERR_BUSY)
        f->report(f->ctx, &done, result, err);
    if (result == 0 && done.complete)
        id_map_done(&state->touched);
    return result;
}

static bool time_is_over(const struct state *state)
{
    const double until = state->follow->options->until;
    return stop_asked() || (until > 0 && progress_now() >= until);
}

static void rest(const struct state *state, long ms)
{
    for (; ms > 0 && !time_is_over(state); ms -= 50)
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
}

int follow(const struct follow *f, struct err *err)
{
    struct state state = {.follow = f};
    int told = 0; /* the failure that the last look ended with: said once */
    if (stat(f->news, &state.news) < 0)
        return err_errno(err, "open %s", f->news);
    int result = store_connect(&state.link, f->store, err);
    while (result == 0 && !time_is_over(&state)) {
        struct err why = ERR_INIT;
        result = look(&state, &why);
        if (result > 0)
            break;
        if (result == -ERR_UNAVAILABLE && stop_asked())
            result = 0; /* stopped in the midst: what is left comes with the next run */
        if (result < 0 && result != told)
            progress_say(false, "%s; trying on", why.message);
        told = result;
        rest(&state, result < 0 ? AGAIN_MS : LOOK_MS);
        result = 0;
    }
    store_disconnect(state.link);
    id_map_done(&state.touched);
    return result;
}

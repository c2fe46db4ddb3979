#include "server/access.h"

#include "server/access_ring.h"
#include "server/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RING_BYTES = 256 * 1024, /* of each thread: some thousand requests */
    TICK_MS = 100,           /* the writer looks so often by itself */
    LOOK_MS = 1000,          /* whether the file was renamed */
    WAIT_MS = 100,           /* for a reader that is slow, at a time */
    CLOSE_MS = 1000
};

enum failure { FAILED_WRITE, FAILED_OPEN, FAILURES };

struct access {
    const struct log *log;
    const char *path; /* NULL: a descriptor that somebody else has opened */
    struct access_ring *rings;
    size_t ring_count;
    pthread_t thread;
    bool started;
    sem_t wake;
    atomic_bool woken, stopping;
    atomic_uint_fast64_t lines;

    /* The writer's. */
    int fd;
    bool failed[FAILURES]; /* the last time */
    uint64_t looked_ms;
    struct writer line;
    char batch[PIPE_BUF];
    size_t used, sent, batched; /* bytes in the batch, bytes of it written, its lines */
};

/* ---- whoever answers ---- */

static size_t length_of(enum access_text text, size_t len)
{
    /* Together less than PIPE_BUF, however much is escaped. */
    static const uint16_t most[ACCESS_TEXTS] = {[ACCESS_ID] = 128,
        [ACCESS_METHOD] = 16,
        [ACCESS_PATH] = 200,
        [ACCESS_CLIENT] = 48,
        [ACCESS_GENERATION] = 64,
        [ACCESS_USER] = 512,
        [ACCESS_TRACE_ID] = 32,
        [ACCESS_PARENT_ID] = 16,
        [ACCESS_SPAN_ID] = 16};
    return len < most[text] ? len : most[text];
}

bool access_put(struct access *access, size_t thread, const struct access_entry *entry)
{
    struct access_ring *ring = &access->rings[thread];
    uint16_t lengths[ACCESS_TEXTS];
    struct access_piece pieces[2 + ACCESS_TEXTS] = {
        {&entry->numbers, sizeof entry->numbers}, {lengths, sizeof lengths}};
    for (size_t i = 0; i < ACCESS_TEXTS; i++) {
        lengths[i] = (uint16_t)length_of((enum access_text)i, entry->texts[i].at ? entry->texts[i].len : 0);
        pieces[2 + i] = (struct access_piece){entry->texts[i].at, lengths[i]};
    }
    const bool put = access_ring_put(ring, pieces, 2 + ACCESS_TEXTS);
    if (access_ring_is_half_full(ring) && !atomic_exchange(&access->woken, true))
        sem_post(&access->wake);
    return put;
}

/* ---- the writer ---- */

static bool take(struct access_entry *out, char *room, size_t size, struct access_ring *ring)
{
    uint16_t lengths[ACCESS_TEXTS];
    if (!access_ring_take(ring, room, size))
        return false;
    memcpy(&out->numbers, room, sizeof out->numbers);
    memcpy(lengths, room + sizeof out->numbers, sizeof lengths);
    const char *at = room + sizeof out->numbers + sizeof lengths;
    for (size_t i = 0; i < ACCESS_TEXTS; i++) {
        out->texts[i].at = lengths[i] ? at : NULL;
        out->texts[i].len = lengths[i];
        at += lengths[i];
    }
    return true;
}

/* When it begins and when it ends, not for each try. */
static void note_state(struct access *access, enum failure what, bool failed)
{
    static const char *const messages[FAILURES][2] = {
        [FAILED_WRITE] = {"the access log cannot be written", "the access log is written again"},
        [FAILED_OPEN] = {"the access log cannot be opened anew", "the access log was opened anew"},
    };
    struct err err = ERR_INIT;
    struct log_line line;
    if (failed) /* first, as it is of errno */
        err_errno(&err, "log.access");
    if (failed == access->failed[what])
        return;
    access->failed[what] = failed;
    if (failed) {
        log_err(access->log, LOG_ERROR, messages[what][0], &err);
        return;
    }
    log_begin(&line, access->log, LOG_INFO, messages[what][1]);
    log_end(&line);
}

/* False: not now. What has been begun is finished later, and nothing is written before it: a line is never torn, not by a
 * full disk either. */
static bool flush(struct access *access)
{
    while (access->sent < access->used) {
        struct pollfd ready = {.fd = access->fd, .events = POLLOUT};
        if (access->fd < 0 || poll(&ready, 1, WAIT_MS) <= 0)
            return false;
        const ssize_t got = write(access->fd, access->batch + access->sent, access->used - access->sent);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            return false;
        note_state(access, FAILED_WRITE, got < 0);
        if (got < 0)
            return false;
        access->sent += (size_t)got;
    }
    atomic_fetch_add_explicit(&access->lines, access->batched, memory_order_relaxed);
    access->used = access->sent = access->batched = 0;
    return true;
}

/* All that is in the rings; false: not now. A line that has been made is kept until there is room for it. */
static bool drain(struct access *access)
{
    struct access_entry entry;
    struct writer *line = &access->line;
    char room[2048]; /* more than a record has */
    for (size_t i = 0; i < access->ring_count; i++) {
        while (line->used || take(&entry, room, sizeof room, &access->rings[i])) {
            if (!line->used)
                access_line(line, &entry);
            if (access->used + line->used > sizeof access->batch && !flush(access))
                return false;
            if (!line->failed && line->used <= sizeof access->batch) {
                memcpy(access->batch + access->used, line->data, line->used);
                access->used += line->used;
                access->batched++;
            }
            writer_clear(line);
        }
    }
    return flush(access);
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
}

/* Does the path still name what is open? */
static void follow_name(struct access *access)
{
    struct stat named, open;
    const uint64_t now = clock_ms();
    if (!access->path || now - access->looked_ms < LOOK_MS || access->sent)
        return;
    access->looked_ms = now;
    if (stat(access->path, &named) == 0 && fstat(access->fd, &open) == 0 && named.st_dev == open.st_dev &&
        named.st_ino == open.st_ino)
        return;
    const int fd = open_file(access->path);
    if (fd < 0) { /* on into the old one */
        note_state(access, FAILED_OPEN, true);
        return;
    }
    close(access->fd);
    access->fd = fd;
    note_state(access, FAILED_OPEN, false);
}

static void *run(void *ctx)
{
    struct access *access = ctx;
    uint64_t until_ms = UINT64_MAX;
    pthread_setname_np(pthread_self(), "access log");
    for (;;) {
        const bool stopping = atomic_load(&access->stopping);
        if (stopping && until_ms == UINT64_MAX)
            until_ms = clock_ms() + CLOSE_MS;
        atomic_store(&access->woken, false);
        follow_name(access);
        if ((drain(access) && stopping) || clock_ms() >= until_ms)
            return NULL;
        const struct timespec next = clock_timespec(clock_ns() + (uint64_t)TICK_MS * 1000000);
        sem_clockwait(&access->wake, CLOCK_MONOTONIC, &next);
    }
}

/* ---- life ---- */

static int open_output(struct access *access, const char *where, struct err *err)
{
    static const char descriptor[] = "fd:";
    if (strcmp(where, "stderr") == 0) {
        access->fd = STDERR_FILENO;
    } else if (strncmp(where, descriptor, sizeof descriptor - 1) == 0) {
        access->fd = atoi(where + sizeof descriptor - 1);
        if (fcntl(access->fd, F_GETFD) < 0)
            return err_errno(err, "log.access %s", where);
    } else {
        access->path = where;
        access->looked_ms = clock_ms();
        access->fd = open_file(where);
        if (access->fd < 0)
            return err_errno(err, "log.access %s", where);
    }
    return 0;
}

int access_open(
    struct access **out, const struct config *config, const struct log *log, size_t threads, struct err *err)
{
    *out = NULL;
    if (!config->log.access[0])
        return 0;
    struct access *access = calloc(1, sizeof *access);
    if (!access)
        return err_set(err, ERR_NOMEM, "no memory for the access log");
    access->log = log;
    access->fd = -1;
    sem_init(&access->wake, 0, 0);
    access->rings = aligned_alloc(_Alignof(struct access_ring), threads * sizeof *access->rings);
    access->line = (struct writer){.data = malloc(PIPE_BUF), .size = PIPE_BUF}; /* no line needs more */
    int code =
        access->rings && access->line.data ? 0 : err_set(err, ERR_NOMEM, "no memory for the access log");
    for (; code == 0 && access->ring_count < threads; access->ring_count++)
        if (!access_ring_init(&access->rings[access->ring_count], RING_BYTES))
            code = err_set(err, ERR_NOMEM, "no memory for the access log");
    if (code == 0)
        code = open_output(access, config->log.access, err);
    if (code == 0) {
        errno = pthread_create(&access->thread, NULL, run, access);
        code = errno ? err_errno(err, "start the thread that writes the access log") : 0;
        access->started = code == 0;
    }
    if (code < 0)
        access_close(access);
    else
        *out = access;
    return code;
}

void access_close(struct access *access)
{
    if (!access)
        return;
    if (access->started) {
        atomic_store(&access->stopping, true);
        sem_post(&access->wake);
        pthread_join(access->thread, NULL);
    }
    if (access->path && access->fd >= 0)
        close(access->fd);
    for (size_t i = 0; i < access->ring_count; i++)
        access_ring_done(&access->rings[i]);
    free(access->rings);
    writer_done(&access->line);
    sem_destroy(&access->wake);
    free(access);
}

uint64_t access_lines(const struct access *access)
{
    return access ? atomic_load_explicit(&access->lines, memory_order_relaxed) : 0;
}

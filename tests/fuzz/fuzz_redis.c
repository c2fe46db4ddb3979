/* What a Redis answers: the first byte chooses the question, the second how the answer is cut in pieces, the rest is
 * the answer, after which the server closes the connection. Whatever comes, nothing but what the interface promises
 * reaches the caller; in pieces it means the same as at once; and what is left over is never taken for the answer to
 * the next question.
 *
 * The socket is played by poll, send and recv of this file, which the linker prefers to the C library's. */
#include "store/category.h"
#include "store/store_redis_int.h"
#include "tests/lib/fuzz.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the socket ---- */

static struct {
    const uint8_t *at, *end;
    size_t piece; /* of one recv; 0: all */
    bool asked;   /* nothing comes before the first command */
} server;

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    must(count == 1);
    fds->revents = server.asked ? POLLIN : timeout_ms ? POLLOUT : 0;
    return fds->revents != 0;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    (void)fd;
    (void)data;
    (void)flags;
    server.asked = true;
    return (ssize_t)len;
}

ssize_t recv(int fd, void *out, size_t room, int flags)
{
    (void)fd;
    (void)flags;
    size_t some = (size_t)(server.end - server.at);
    if (server.piece && some > server.piece)
        some = server.piece;
    if (some > room)
        some = room;
    memcpy(out, server.at, some);
    server.at += some;
    return (ssize_t)some;
}

/* ---- the questions ---- */

/* What the caller is told, as a sum. */
struct trace {
    uint64_t sum;
    size_t calls;
    int rc;
    char message[sizeof((struct err *)NULL)->message];
};

static void note(struct trace *trace, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        trace->sum = (trace->sum ^ ((const uint8_t *)data)[i]) * 1099511628211u;
    trace->sum = (trace->sum ^ len) * 1099511628211u;
}

enum { IDS = 3, CHANGES = 4 };

static int take_value(void *ctx, size_t index, const void *data, size_t len)
{
    struct trace *const trace = ctx;
    must(index == trace->calls && index < IDS && (data || !len));
    trace->calls++;
    note(trace, data, len);
    struct store_id id;
    size_t at = 0;
    int rc = 0;
    while (data && at < len && (rc = category_next(&id, data, len, &at)) != 0)
        must(rc == -ERR_CORRUPT || id_check(id.id, id.len, NULL) == 0);
    must(!data || at == len);
    return trace->calls == IDS && len == 7 ? 7 : 0; /* now and then the caller has enough */
}

static int ask_get(struct store_link *link, struct trace *trace, struct err *err)
{
    static const struct store_id ids[IDS] = {{"sports", 6}, {"news", 4}, {"music", 5}};
    const int rc = store_get(link, "g", STORE_CATEGORY, ids, IDS, take_value, trace, err);
    must(rc <= 0 || rc == 7);
    must(rc < 0 || trace->calls == IDS);
    return rc < 0 ? rc : 0;
}

static int ask_live(struct store_link *link, struct trace *trace, struct err *err)
{
    char name[STORE_GENERATION_MAX];
    const int rc = store_live(link, name, err);
    if (rc == 0) {
        must(store_name_valid(name, strlen(name)));
        note(trace, name, strlen(name));
    }
    return rc;
}

static int ask_generations(struct store_link *link, struct trace *trace, struct err *err)
{
    struct store_generation *rows = NULL;
    size_t count = 0;
    const int rc = store_generations(link, &rows, &count, err);
    must(rc == 0 || !rows);
    for (size_t i = 0; i < count; i++) {
        must(store_name_valid(rows[i].name, strlen(rows[i].name)) && rows[i].state <= STORE_RETIRED);
        note(trace, rows[i].name, strlen(rows[i].name));
        note(trace, &rows[i].token, sizeof rows[i].token);
    }
    free(rows);
    return rc;
}

static int take_id(void *ctx, const char *id, size_t len)
{
    struct id_map *const seen = ctx;
    bool added = false;
    must(id_map_add(seen, id, len, &added) >= 0 && added); /* each once */
    return 0;
}

static int ask_scan(struct store_link *link, struct trace *trace, struct err *err)
{
    struct id_map seen = {0};
    const int rc = store_scan(link, "g", STORE_USER, take_id, &seen, err);
    for (size_t i = 0; i < seen.count; i++)
        note(trace, id_map_get(&seen, i), seen.length[i]);
    id_map_done(&seen);
    return rc;
}

static int take_change(void *ctx, const struct store_change *change)
{
    struct trace *const trace = ctx;
    must(++trace->calls <= CHANGES && store_kind_changes((int)change->kind));
    note(trace, change->id.id, change->id.len);
    return 0;
}

static int ask_changes(struct store_link *link, struct trace *trace, struct err *err)
{
    char cursor[STORE_CURSOR_MAX] = "";
    const int rc = store_changes_read(link, "g", cursor, CHANGES, take_change, trace, err);
    must(memchr(cursor, '\0', sizeof cursor));
    must((trace->calls == 0) == (*cursor == '\0')); /* it is behind the last change that was taken */
    note(trace, cursor, strlen(cursor));
    struct err again = ERR_INIT;
    must(store_changes_read(link, "g", cursor, 1, take_change, trace, &again) != -ERR_INVALID);
    return rc;
}

static int ask_lock(struct store_link *link, struct trace *trace, struct err *err)
{
    uint64_t token = 0;
    const int rc = store_lock(link, 1000, &token, err);
    note(trace, &token, sizeof token);
    must(rc == 0 || token == 0);
    return rc;
}

static int ask_unlock(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    const int rc = store_renew(link, 17, 1000, err);
    return rc == 0 ? store_unlock(link, 17, err) : rc;
}

static int ask_commit(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    const struct store_generation row = {"g", STORE_READY, 17};
    return store_commit(link, 17, &row, 1, "g", err);
}

static int ask_drop(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    return store_drop(link, 17, "g", err);
}

static int ask_put(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    const struct store_entry entries[] = {{{"U1", 2}, "x", 1}, {{"", 0}, "y", 1}};
    return store_put(link, "g", STORE_USER, entries, 2, err);
}

static int ask_append(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    const struct store_change changes[] = {{STORE_USER, {"U1", 2}}, {STORE_CONTENT, {"N1", 2}}};
    return store_changes_append(link, "g", changes, 2, err);
}

static int (*const questions[])(struct store_link *, struct trace *, struct err *) = {ask_get, ask_live,
    ask_generations, ask_scan, ask_changes, ask_lock, ask_unlock, ask_commit, ask_drop, ask_put, ask_append};

enum { LIVE = 1, DROP = 8, QUESTIONS = sizeof questions / sizeof *questions };

/* ---- */

static void ask(
    struct trace *trace, struct store *store, size_t question, size_t piece, struct fuzz_input answer)
{
    struct store_link *link = NULL;
    struct err err = ERR_INIT;
    must(store_connect(&link, store, &err) == 0);
    struct redis_link *const redis = (struct redis_link *)link;
    redis->fd = dup(STDERR_FILENO); /* which is closed with the link */
    must(redis->fd >= 0 && redis_reader_open(redis));
    server.at = answer.at;
    server.end = answer.end;
    server.piece = piece;
    server.asked = false;
    *trace = (struct trace){.sum = 14695981039346656037u};
    trace->rc = questions[question](link, trace, &err);
    if (trace->rc < 0) {
        fuzz_must_tell(trace->rc, &err);
        must(trace->rc == -ERR_UNAVAILABLE || trace->rc == -ERR_CORRUPT || trace->rc == -ERR_NOT_FOUND ||
             trace->rc == -ERR_FENCED || trace->rc == -ERR_BUSY ||
             (trace->rc == -ERR_INVALID && question == DROP));
        memcpy(trace->message, err.message, sizeof err.message);
    }
    must(trace->rc <= 0);
    must(store_ping(link, &err) == -ERR_UNAVAILABLE); /* there is no server to connect to anew */
    store_disconnect(link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct store *store;
    struct fuzz_input input = {data, data + size};
    const size_t question = fuzz_byte(&input) % QUESTIONS, piece = 1u + fuzz_byte(&input) % 16;
    struct trace whole, pieces;
    struct err err = ERR_INIT;
    if (!store) {
        static const uint8_t good[] = "$1\r\ng\r\n";
        must(store_open(&store, "redis+unix:/nonexistent/socket", NULL, &err) == 0);
        ask(&whole, store, LIVE, 0, (struct fuzz_input){good, good + sizeof good - 1});
        must(whole.rc == 0); /* or the socket is not ours, and every answer is lost */
    }
    ask(&whole, store, question, 0, input);
    ask(&pieces, store, question, piece, input);
    must(whole.rc == pieces.rc && whole.sum == pieces.sum && whole.calls == pieces.calls);
    must(strcmp(whole.message, pieces.message) == 0);
    return 0;
}

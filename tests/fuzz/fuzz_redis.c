/* What a Redis answers: the first byte chooses the question; the second whether the server wants a password first, and how
 * the connection begins and ends; the third how the answer is cut in pieces; the rest is the answer. Whatever comes, nothing
 * but what the interface promises reaches the caller; in pieces and with interruptions it means the same as at once; and
 * what is left over is never taken for the answer to the next question.
 *
 * The socket is played by functions of this file, which the linker prefers to the C library's. */
#include "store/category.h"
#include "store/store_redis_int.h"
#include "tests/lib/fuzz.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the socket ---- */

/* What becomes of the connection. Behind the answer it is closed, unless something else is said. */
enum fate {
    CLOSED,
    RESET,         /* behind the answer */
    SILENT,        /* behind the answer nothing comes */
    POLL_FAILS,    /* behind the answer */
    SEND_FAILS,    /* at once */
    SLOW,          /* it is not made at once */
    QUEUED,        /* it is made at the second attempt */
    REFUSED,       /* it is not made */
    REFUSED_LATER, /* it seems to be on the way, and is not made */
    NEVER,         /* it stays on the way */
    NO_SOCKET,     /* there are too many already */
    FATES
};

static struct {
    const uint8_t *at, *end;
    enum fate fate;
    size_t piece;        /* of one recv or send; 0: all */
    unsigned calls;      /* every third is interrupted, where it has pieces */
    int attempts;        /* to connect; one alone is successful */
    bool asked, waiting; /* nothing comes before the first command; for the connection */
} server;

static int failed(int number)
{
    errno = number;
    return -1;
}

static bool interrupts(void)
{
    return server.piece && ++server.calls % 3 == 0;
}

int socket(int family, int type, int protocol)
{
    (void)family;
    (void)type;
    (void)protocol;
    return server.fate == NO_SOCKET ? failed(EMFILE) : dup(STDERR_FILENO); /* which is closed with the link */
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    (void)fd;
    (void)address;
    (void)len;
    server.attempts++;
    if (server.fate == REFUSED || server.attempts > 1 + (server.fate == QUEUED))
        return failed(ECONNREFUSED);
    server.waiting = server.fate == SLOW || server.fate == REFUSED_LATER || server.fate == NEVER;
    return server.waiting                                  ? failed(EINPROGRESS)
           : server.fate == QUEUED && server.attempts == 1 ? failed(EAGAIN)
                                                           : 0;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    (void)fd;
    must(level == SOL_SOCKET && name == SO_ERROR && *len == sizeof(int) && server.waiting);
    *(int *)value = server.fate == REFUSED_LATER ? ECONNREFUSED : 0;
    server.waiting = false;
    return 0;
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    if (!count) /* a pause */
        return 0;
    must(count == 1);
    if (timeout_ms && interrupts())
        return failed(EINTR);
    const bool over = server.asked && server.at == server.end;
    if (over && server.fate == POLL_FAILS && timeout_ms)
        return failed(ENOMEM);
    fds->revents = server.waiting                                     ? (server.fate == NEVER ? 0 : POLLOUT)
                   : server.asked && !(over && server.fate == SILENT) ? POLLIN
                                                                      : 0;
    fds->revents |= server.waiting ? 0 : (short)(fds->events & POLLOUT);
    return fds->revents != 0;
}

ssize_t send(int fd, const void *data, size_t len, int flags)
{
    (void)fd;
    (void)data;
    (void)flags;
    must(len);
    if (interrupts())
        return failed(EAGAIN);
    if (server.fate == SEND_FAILS)
        return failed(EPIPE);
    server.asked = true;
    return (ssize_t)(server.piece && len > server.piece ? server.piece : len);
}

ssize_t recv(int fd, void *out, size_t room, int flags)
{
    (void)fd;
    (void)flags;
    if (interrupts())
        return failed(EINTR);
    size_t some = (size_t)(server.end - server.at);
    if (!some && server.fate == RESET)
        return failed(ECONNRESET);
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

enum { IDS = 3, CHANGES = 4, HEAD = 4 };

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
    return store_unlock(link, 17, err);
}

static int ask_renew(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    return store_renew(link, 17, 1000, err);
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

static int take_head(void *ctx, size_t index, const void *data, size_t len)
{
    struct trace *const trace = ctx;
    must(index == trace->calls && index < IDS && (data ? len && len <= HEAD : !len));
    trace->calls++;
    note(trace, data, len);
    return trace->calls == IDS && len == 2 ? 7 : 0;
}

static int ask_heads(struct store_link *link, struct trace *trace, struct err *err)
{
    static const struct store_id ids[IDS] = {{"U1", 2}, {"", 0}, {"U2", 2}};
    const int rc = store_get_head(link, "g", STORE_USER, ids, IDS, HEAD, take_head, trace, err);
    must(rc <= 0 || rc == 7);
    must(rc < 0 || trace->calls == IDS);
    return rc < 0 ? rc : 0;
}

static int ask_delete(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    static const struct store_id ids[] = {{"U1", 2}, {"U2", 2}};
    return store_delete(link, STORE_SHARED, STORE_HISTORY, ids, 2, err);
}

static int ask_end(struct store_link *link, struct trace *trace, struct err *err)
{
    char cursor[STORE_CURSOR_MAX] = "before";
    const int rc = store_changes_end(link, "g", cursor, err);
    must(memchr(cursor, '\0', sizeof cursor));
    must(rc == 0 || strcmp(cursor, "before") == 0);
    must(rc < 0 || !*cursor || strchr(cursor, '-'));
    note(trace, cursor, strlen(cursor));
    return rc;
}

static int ask_trim(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    return store_changes_trim(link, "g", 10, err);
}

static int take_click(void *ctx, const struct store_click *click, const char *cursor)
{
    struct trace *const trace = ctx;
    must(++trace->calls <= CHANGES && strlen(cursor) < STORE_CURSOR_MAX);
    must((click->user.len == 0) == (click->item.len == 0));
    must(!click->user.len || (id_check(click->user.id, click->user.len, NULL) == 0 &&
                                 id_check(click->item.id, click->item.len, NULL) == 0));
    note(trace, click->user.id, click->user.len);
    note(trace, click->item.id, click->item.len);
    note(trace, cursor, strlen(cursor));
    return 0;
}

static int ask_clicks(struct store_link *link, struct trace *trace, struct err *err)
{
    char cursor[STORE_CURSOR_MAX] = "1-18446744073709551615";
    const int rc = store_clicks_read(link, cursor, CHANGES, take_click, trace, err);
    must(memchr(cursor, '\0', sizeof cursor));
    note(trace, cursor, strlen(cursor));
    return rc;
}

static int ask_append_clicks(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    static const struct store_click clicks[] = {{{"U1", 2}, {"N1", 2}}, {{"U2", 2}, {"N1", 2}}};
    return store_clicks_append(link, clicks, 2, err);
}

static int ask_trim_clicks(struct store_link *link, struct trace *trace, struct err *err)
{
    (void)trace;
    return store_clicks_trim(link, "1700000000000-5", err);
}

static int ask_changes_behind(struct store_link *link, struct trace *trace, struct err *err)
{
    char cursor[STORE_CURSOR_MAX] = "5-1";
    const int rc = store_changes_read(link, "g", cursor, CHANGES, take_change, trace, err);
    must(memchr(cursor, '\0', sizeof cursor));
    must(trace->calls || strcmp(cursor, "5-1") == 0);
    must(rc != -ERR_NOT_FOUND || trace->calls == 0);
    note(trace, cursor, strlen(cursor));
    return rc;
}

static int (*const questions[])(struct store_link *, struct trace *, struct err *) = {ask_get, ask_live,
    ask_generations, ask_scan, ask_changes, ask_lock, ask_unlock, ask_commit, ask_drop, ask_put, ask_append,
    ask_renew, ask_heads, ask_delete, ask_end, ask_trim, ask_clicks, ask_append_clicks, ask_trim_clicks,
    ask_changes_behind};

enum { LIVE = 1, DROP = 8, QUESTIONS = sizeof questions / sizeof *questions };

/* ---- */

static void ask(struct trace *trace, struct store *store, size_t question, enum fate fate, size_t piece,
    struct fuzz_input answer)
{
    struct store_link *link = NULL;
    struct err err = ERR_INIT;
    must(store_connect(&link, store, &err) == 0);
    memset(&server, 0, sizeof server);
    server.at = answer.at;
    server.end = answer.end;
    server.fate = fate;
    server.piece = piece;
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
    must(server.attempts || fate == NO_SOCKET);
    server.at = server.end;
    must(store_ping(link, &err) == -ERR_UNAVAILABLE); /* there is no server to connect to anew */
    store_disconnect(link);
}

static void open_stores(struct store *stores[2])
{
    static const uint8_t good[] = "$1\r\ng\r\n", greeted[] = "+OK\r\n+OK\r\n$1\r\ng\r\n";
    struct store_options options = STORE_OPTIONS_INIT;
    struct trace trace;
    struct err err = ERR_INIT;
    /* No time passes here but where this process is stopped for a while. */
    options.connect_timeout_ms = options.command_timeout_ms = 24 * 3600 * 1000;
    must(store_open(&stores[0], "redis+unix:/nonexistent/socket", &options, &err) == 0);
    options.password = "secret";
    must(store_open(&stores[1], "redis://user@127.0.0.1:6379/3", &options, &err) == 0);
    /* Or the socket is not ours, and every answer is lost. */
    ask(&trace, stores[0], LIVE, CLOSED, 0, (struct fuzz_input){good, good + sizeof good - 1});
    must(trace.rc == 0);
    ask(&trace, stores[1], LIVE, SLOW, 3, (struct fuzz_input){greeted, greeted + sizeof greeted - 1});
    must(trace.rc == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct store *stores[2]; /* without and with a greeting */
    struct fuzz_input input = {data, data + size};
    const size_t question = fuzz_byte(&input) % QUESTIONS, way = fuzz_byte(&input),
                 piece = 1u + fuzz_byte(&input) % 16;
    struct trace whole, pieces;
    if (!stores[0])
        open_stores(stores);
    ask(&whole, stores[way % 2], question, (enum fate)(way / 2 % FATES), 0, input);
    ask(&pieces, stores[way % 2], question, (enum fate)(way / 2 % FATES), piece, input);
    must(whole.rc == pieces.rc && whole.sum == pieces.sum && whole.calls == pieces.calls);
    must(strcmp(whole.message, pieces.message) == 0);
    return 0;
}

/* A connection to one server: its deadlines, its back-off, commands and replies. */
#include "store/store_redis_int.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room that a reader keeps between replies: with hiredis's own 16 KiB it would be given back and taken anew for each. */
#define READER_SPARE ((size_t)1 << 20)
#define ARRAY_MAX 1000000
#define SENTINEL_PAUSE_MS                                                                                    \
    250 /* at most: another master is there soon, and who is asked for it is not the one that died */

/* ---- beginning and end ---- */

void redis_link_init(struct redis_link *link, struct redis_store *store, const struct redis_address *address)
{
    link->base.store = &store->base;
    link->store = store;
    link->address = *address;
    link->fd = -1;
    /* Without entropy the links of this process still differ. */
    if (getrandom(&link->random, sizeof link->random, GRND_NONBLOCK) != (ssize_t)sizeof link->random)
        link->random = (uint64_t)(uintptr_t)link;
}

void redis_link_done(struct redis_link *link)
{
    redis_disconnect(link);
    free(link->out);
}

uint64_t redis_random(struct redis_link *link)
{
    link->random = link->random * 6364136223846793005u + 1442695040888963407u;
    return link->random >> 16; /* the lower bits are none */
}

/* ---- failures ---- */

void redis_disconnect(struct redis_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    if (link->reader)
        redisReaderFree(link->reader);
    link->reader = NULL;
    link->out_sent = link->out_used = 0;
    link->out_failed = false;
}

/* The pause doubles from attempt to attempt. Up to a quarter of it is left to chance, so that the links of a
 * fleet do not come back to a restarted server in one wave. */
static void back_off(struct redis_link *link)
{
    const struct redis_store *const store = link->store;
    const int max_ms = store->sentinels.count && store->retry_max_ms > SENTINEL_PAUSE_MS
                           ? SENTINEL_PAUSE_MS
                           : store->retry_max_ms;
    if (!link->retry_ms)
        link->retry_ms = store->retry_min_ms;
    else
        link->retry_ms = link->retry_ms < max_ms / 2 ? 2 * link->retry_ms : max_ms;
    link->failed_ms = redis_now_ms();
    link->retry_at_ms =
        link->failed_ms + link->retry_ms - link->retry_ms * (int)(redis_random(link) % 256) / 1024;
}

void redis_succeed(struct redis_link *link)
{
    link->retry_ms = 0;
    atomic_store_explicit(&link->store->well_ms, redis_now_ms(), memory_order_relaxed);
}

static void describe(char *out, size_t size, const struct redis_link *link)
{
    const struct redis_address *const address = &link->address;
    if (address->local)
        snprintf(out, size, "%s", address->path);
    else if (!*address->host)
        snprintf(out, size, "master %s", link->store->master); /* it has not been found yet */
    else
        snprintf(out, size, "%s:%s", address->host, address->port);
}

int redis_fail(struct redis_link *link, struct err *err, enum store_fault fault, const char *why)
{
    char where[280];
    describe(where, sizeof where, link);
    snprintf(link->why, sizeof link->why, "%s", why);
    redis_disconnect(link);
    back_off(link);
    link->base.fault = fault;
    return err_set(err, ERR_UNAVAILABLE, "Redis at %s: %s", where, link->why);
}

static int fail_errno(
    struct redis_link *link, struct err *err, enum store_fault fault, const char *what, int number)
{
    char why[128], text[96];
    snprintf(why, sizeof why, "%s: %s", what, strerror_r(number, text, sizeof text));
    return redis_fail(link, err, fault, why);
}

static int fail_late(
    struct redis_link *link, struct err *err, enum store_fault fault, const char *what, int timeout_ms)
{
    char why[96];
    snprintf(why, sizeof why, "%s within %d ms", what, timeout_ms);
    return redis_fail(link, err, fault, why);
}

/* ---- commands ---- */

static bool reserve(struct redis_link *link, size_t len)
{
    if (link->out_size - link->out_used >= len)
        return true;
    size_t size = link->out_size ? link->out_size : 4096;
    while (size - link->out_used < len && size < SIZE_MAX / 2)
        size *= 2;
    char *const out = size - link->out_used < len ? NULL : realloc(link->out, size);
    if (!out) {
        link->out_failed = true;
        return false;
    }
    link->out = out;
    link->out_size = size;
    return true;
}

static void append(struct redis_link *link, const void *data, size_t len)
{
    if (len && reserve(link, len)) {
        memcpy(link->out + link->out_used, data, len);
        link->out_used += len;
    }
}

static void append_size(struct redis_link *link, char type, size_t size)
{
    char text[32];
    append(link, text, (size_t)snprintf(text, sizeof text, "%c%zu\r\n", type, size));
}

void redis_command(struct redis_link *link, size_t count, const char *name)
{
    if (link->asking)
        append(link, "*1\r\n$6\r\nASKING\r\n", 16);
    append_size(link, '*', count);
    redis_arg_text(link, name);
}

void redis_arg(struct redis_link *link, const void *data, size_t len)
{
    append_size(link, '$', len);
    append(link, data, len);
    append(link, "\r\n", 2);
}

void redis_arg_text(struct redis_link *link, const char *text)
{
    redis_arg(link, text, strlen(text));
}

void redis_arg_key(struct redis_link *link, const struct store_key *key)
{
    redis_arg(link, key->text, key->len);
}

void redis_arg_number(struct redis_link *link, uint64_t number)
{
    char text[24];
    redis_arg(link, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, number));
}

/* ---- bytes ---- */

static int send_some(struct redis_link *link, struct err *err)
{
    const ssize_t sent =
        send(link->fd, link->out + link->out_sent, link->out_used - link->out_sent, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail_errno(link, err, STORE_IO, "send", errno);
    link->out_sent += (size_t)sent;
    if (link->out_sent == link->out_used)
        link->out_sent = link->out_used = 0;
    return 0;
}

int redis_flush(struct redis_link *link, struct err *err)
{
    return link->out_used && !link->out_failed ? send_some(link, err) : 0;
}

static int receive_some(struct redis_link *link, struct err *err)
{
    const ssize_t got = recv(link->fd, link->in, sizeof link->in, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : fail_errno(link, err, STORE_IO, "receive", errno);
    if (got == 0)
        return redis_fail(link, err, STORE_IO, "the server closed the connection");
    if (redisReaderFeed(link->reader, link->in, (size_t)got) != REDIS_OK)
        return redis_fail(link, err, STORE_OTHER, link->reader->errstr);
    return 0;
}

/* Wait for the socket, then send and receive what goes without waiting. */
static int exchange_some(struct redis_link *link, struct redis_deadline deadline, struct err *err)
{
    struct pollfd poller = {link->fd, POLLIN, 0};
    if (link->out_used)
        poller.events |= POLLOUT;
    const int64_t left_ms = deadline.at_ms - redis_now_ms();
    const int rc = left_ms > 0 ? poll(&poller, 1, (int)left_ms) : 0;
    if (rc == 0)
        return fail_late(link, err, STORE_TIMEOUT, "no answer", deadline.ms);
    if (rc < 0)
        return errno == EINTR ? 0 : fail_errno(link, err, STORE_IO, "poll", errno);
    if (poller.revents & POLLOUT && send_some(link, err) < 0)
        return -ERR_UNAVAILABLE;
    return poller.revents & ~POLLOUT ? receive_some(link, err) : 0;
}

/* ---- replies ---- */

/* By the word that an error begins with. */
static enum store_fault fault_of(const char *error)
{
    static const struct {
        const char *word;
        enum store_fault fault;
    } rows[] = {
        {"LOADING", STORE_LOADING},
        {"READONLY", STORE_READONLY},
        {"NOAUTH", STORE_NOAUTH},
        {"WRONGPASS", STORE_NOAUTH},
        {"NOPERM", STORE_NOAUTH},
        {"OOM", STORE_OOM},
        {"MISCONF", STORE_MISCONF},
    };
    const size_t len = strcspn(error, " ");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strlen(rows[i].word) == len && memcmp(rows[i].word, error, len) == 0)
            return rows[i].fault;
    return STORE_OTHER;
}

int redis_refuse(struct redis_link *link, redisReply *reply, struct err *err)
{
    char why[128], where[280];
    if (link->store->seeds.count && redis_redirect_parse(&link->redirect, reply->str)) {
        describe(where, sizeof where, link);
        err_set(err, ERR_UNAVAILABLE, "Redis at %s: %s", where, reply->str);
        freeReplyObject(reply);
        link->base.fault = STORE_OTHER;
        return -ERR_UNAVAILABLE;
    }
    const bool wrong_type = strncmp(reply->str, "WRONGTYPE", 9) == 0;
    snprintf(why, sizeof why, "%s", reply->str);
    freeReplyObject(reply);
    redis_fail(link, err, fault_of(why), why);
    if (!wrong_type)
        return -ERR_UNAVAILABLE;
    link->retry_at_ms = 0; /* the server is well, a key is not what it should be */
    redis_succeed(link);
    return err_set(err, ERR_CORRUPT, "a key of the store has another type than it should: %s", why);
}

int redis_reply_any(
    struct redis_link *link, redisReply **out, struct redis_deadline deadline, struct err *err)
{
    void *reply = NULL;
    if (link->out_failed) {
        redis_disconnect(link); /* half a command may stand in the buffer */
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    /* A reply that is here already must not hold back what was asked for behind it. */
    if (link->out_used && send_some(link, err) < 0)
        return -ERR_UNAVAILABLE;
    for (;;) {
        const int64_t before_ms = redis_now_ms();
        if (redisReaderGetReply(link->reader, &reply) != REDIS_OK)
            return redis_fail(link, err, STORE_OTHER, link->reader->errstr);
        deadline.at_ms +=
            redis_now_ms() - before_ms; /* a reader may work on what comes: not the server's time */
        if (reply)
            break;
        const int rc = exchange_some(link, deadline, err);
        if (rc < 0)
            return rc;
    }
    *out = reply;
    return 0;
}

int redis_reply_until(
    struct redis_link *link, redisReply **out, struct redis_deadline deadline, struct err *err)
{
    redisReply *reply = NULL;
    const int rc = redis_reply_any(link, &reply, deadline, err);
    if (rc == 0 && reply->type == REDIS_REPLY_ERROR)
        return redis_refuse(link, reply, err);
    if (rc == 0)
        *out = reply;
    return rc;
}

int redis_reply(struct redis_link *link, redisReply **out, struct err *err)
{
    const struct redis_deadline deadline =
        link->until.at_ms ? link->until : redis_deadline_in(link->store->command_timeout_ms);
    redisReply *asked = NULL;
    int rc = link->asking ? redis_reply_until(link, &asked, deadline, err) : 0;
    freeReplyObject(asked);
    if (rc == 0)
        rc = redis_reply_until(link, out, deadline, err);
    if (rc == 0)
        link->until.at_ms = 0;
    return rc;
}

int redis_unexpected(struct redis_link *link, redisReply *reply, const char *command, struct err *err)
{
    char why[96];
    snprintf(
        why, sizeof why, "an answer to %s that the command does not have (type %d)", command, reply->type);
    freeReplyObject(reply);
    return redis_fail(link, err, STORE_OTHER, why);
}

/* ---- connecting ---- */

/* AUTH and SELECT in one go. Without either the first command tells whether the server is well. */
int redis_greet(struct redis_link *link, struct redis_deadline deadline, struct err *err)
{
    const char *const user = link->address.user, *const password = link->store->password;
    size_t expected = 0;
    if (password) {
        redis_command(link, *user ? 3 : 2, "AUTH");
        if (*user)
            redis_arg_text(link, user);
        redis_arg_text(link, password);
        expected++;
    }
    if (link->address.database) {
        redis_command(link, 2, "SELECT");
        redis_arg_number(link, (uint64_t)link->address.database);
        expected++;
    }
    for (; expected; expected--) {
        redisReply *reply = NULL;
        const int rc = redis_reply_until(link, &reply, deadline, err);
        if (rc < 0)
            return rc;
        if (reply->type != REDIS_REPLY_STATUS)
            return redis_unexpected(link, reply, "AUTH or SELECT", err);
        freeReplyObject(reply);
    }
    return 0;
}

/* hiredis makes room for an array as soon as its length has come: "*2147483647" would cost 16 GiB. The largest array that
 * is ever asked for has some thousands of elements. */
static void *create_array(const redisReadTask *task, int elements)
{
    const redisReplyObjectFunctions *const plain = task->privdata;
    return elements <= ARRAY_MAX ? plain->createArray(task, elements) : NULL;
}

bool redis_reader_open(struct redis_link *link)
{
    redisReader *const reader = redisReaderCreate();
    if (!reader)
        return false;
    link->functions = *reader->fn;
    link->functions.createArray = create_array;
    reader->privdata = reader->fn; /* hiredis's own */
    reader->fn = &link->functions;
    link->reader = reader;
    return true;
}

int redis_dial(struct redis_link *link, struct redis_deadline deadline, struct err *err)
{
    const char *resolver_says = NULL;
    const int fd = redis_socket_open(&link->address, deadline.at_ms, &resolver_says);
    if (resolver_says)
        return redis_fail(link, err, STORE_CONNECT, resolver_says);
    if (fd == -ETIMEDOUT || fd == -EAGAIN)
        return fail_late(link, err, STORE_CONNECT, "no connection", deadline.ms);
    if (fd < 0)
        return fail_errno(link, err, STORE_CONNECT, "connect", -fd);
    link->fd = fd;
    if (!redis_reader_open(link)) {
        redis_disconnect(link);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    link->reader->maxbuf = READER_SPARE;
    return 0;
}

static int connect_link(struct redis_link *link, struct err *err)
{
    struct redis_deadline deadline = redis_deadline_in(link->store->connect_timeout_ms);
    if (link->until.at_ms && link->until.at_ms < deadline.at_ms)
        deadline = link->until;
    const bool guided = link->store->sentinels.count;
    int rc = guided ? redis_sentinel_find(link, deadline, err) : 0;
    if (rc == 0)
        rc = redis_dial(link, deadline, err);
    if (rc == 0)
        rc = redis_greet(link, deadline, err);
    return rc == 0 && guided ? redis_check_role(link, deadline, err) : rc;
}

/* Between calls nothing may come: an end of the connection (the server restarted, or closed an idle client),
 * or an answer that belongs to nobody. */
static bool is_stale(const struct redis_link *link)
{
    struct pollfd poller = {link->fd, POLLIN, 0};
    return link->reader->pos < link->reader->len || poll(&poller, 1, 0) != 0;
}

/* Where another link has had an answer since, the server is well, and a long pause would be a pause for nothing. */
static int64_t pause_left_ms(const struct redis_link *link)
{
    struct redis_store *const store = link->store;
    const bool well = !store->seeds.count && /* where there are many, another one was well */
                      atomic_load_explicit(&store->well_ms, memory_order_relaxed) > link->failed_ms;
    const int64_t soon_ms = link->failed_ms + store->retry_min_ms;
    return (well && soon_ms < link->retry_at_ms ? soon_ms : link->retry_at_ms) - redis_now_ms();
}

int redis_begin(struct redis_link *link, struct err *err)
{
    if (link->fd >= 0 && is_stale(link))
        redis_disconnect(link);
    if (link->fd >= 0)
        return 0;
    const int64_t left_ms = pause_left_ms(link);
    if (left_ms > 0) {
        char where[280];
        link->base.fault = STORE_PAUSED;
        describe(where, sizeof where, link);
        return err_set(err, ERR_UNAVAILABLE, "Redis at %s: %s; the next attempt is due in %" PRId64 " ms",
            where, link->why, left_ms);
    }
    const bool asking = link->asking;
    link->asking = false;
    const int rc = connect_link(link, err);
    link->asking = asking;
    return rc;
}

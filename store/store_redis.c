/* The production store, one Redis: opening, links, the table of functions. A link connects with its first
 * call, so that a daemon may start before its Redis. */
#include "store/store_redis_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static int redis_open(struct store **out, const struct redis_address *address,
    const struct store_options *options, struct err *err)
{
    if (*address->user && !options->password)
        return err_set(
            err, ERR_INVALID, "the store URL names the user %s, but there is no password", address->user);
    struct redis_store *const store = calloc(1, sizeof *store);
    char *const password = options->password ? strdup(options->password) : NULL;
    if (!store || (options->password && !password)) {
        free(store);
        free(password);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    store->address = *address;
    store->password = password;
    store->connect_timeout_ms = options->connect_timeout_ms;
    store->command_timeout_ms = options->command_timeout_ms;
    store->retry_min_ms = options->retry_min_ms;
    store->retry_max_ms = options->retry_max_ms;
    *out = &store->base;
    return 0;
}

static int redis_open_tcp(
    struct store **out, const char *text, const struct store_options *options, struct err *err)
{
    struct redis_address address;
    const int rc = redis_parse_tcp(&address, text, err);
    return rc < 0 ? rc : redis_open(out, &address, options, err);
}

static int redis_open_unix(
    struct store **out, const char *text, const struct store_options *options, struct err *err)
{
    struct redis_address address;
    const int rc = redis_parse_unix(&address, text, err);
    return rc < 0 ? rc : redis_open(out, &address, options, err);
}

static void redis_close(struct store *store)
{
    struct redis_store *const self = (struct redis_store *)store;
    if (self->password)
        explicit_bzero(self->password, strlen(self->password));
    free(self->password);
    free(self);
}

static int redis_link_new(struct store_link **out, struct store *store, struct err *err)
{
    struct redis_link *const link = calloc(1, sizeof *link);
    if (!link)
        return err_set(err, ERR_NOMEM, "out of memory");
    link->store = (struct redis_store *)store;
    link->fd = -1;
    /* Without entropy the links of this process still differ. */
    if (getrandom(&link->random, sizeof link->random, GRND_NONBLOCK) != (ssize_t)sizeof link->random)
        link->random = (uint64_t)(uintptr_t)link;
    *out = &link->base;
    return 0;
}

static void redis_link_free(struct store_link *link)
{
    struct redis_link *const self = (struct redis_link *)link;
    redis_disconnect(self);
    free(self->out);
    free(self);
}

static int redis_ping(struct store_link *link, struct err *err)
{
    struct redis_link *const self = (struct redis_link *)link;
    redisReply *reply = NULL;
    int rc = redis_begin(self, err);
    if (rc < 0)
        return rc;
    redis_command(self, 1, "PING");
    rc = redis_reply(self, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_STATUS || strcmp(reply->str, "PONG") != 0)
        return redis_unexpected(self, reply, "PING", err);
    freeReplyObject(reply);
    redis_succeed(self);
    return 0;
}

#define COMMON                                                                                               \
    .close = redis_close, .connect = redis_link_new, .disconnect = redis_link_free, .ping = redis_ping,      \
    .live = redis_live, .generations = redis_generations, .stream = redis_stream, .scan = redis_scan,        \
    .put = redis_put, .lock = redis_lock, .renew = redis_renew, .unlock = redis_unlock,                      \
    .commit = redis_commit, .drop = redis_drop, .changes_append = redis_changes_append,                      \
    .changes_read = redis_changes_read

const struct store_backend store_redis_tcp = {.open = redis_open_tcp, COMMON};
const struct store_backend store_redis_unix = {.open = redis_open_unix, COMMON};

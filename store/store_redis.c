/* The production store, one Redis or the master that sentinels name: opening, links, the table of functions. A link connects with its first
 * call, so that a daemon may start before its Redis. */
#include "store/store_redis_int.h"

#include <stdlib.h>
#include <string.h>

int redis_store_open(struct store **out, const struct redis_store *wanted,
    const struct store_options *options, struct err *err)
{
    const char *const user = wanted->address.user;
    if (*user && !options->password)
        return err_set(err, ERR_INVALID, "the store URL names the user %s, but there is no password", user);
    struct redis_store *const store = malloc(sizeof *store);
    char *const password = options->password ? strdup(options->password) : NULL;
    if (!store || (options->password && !password)) {
        free(store);
        free(password);
        return err_set(err, ERR_NOMEM, "out of memory");
    }
    *store = *wanted;
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
    struct redis_store wanted = {0};
    const int rc = redis_parse_tcp(&wanted.address, text, err);
    return rc < 0 ? rc : redis_store_open(out, &wanted, options, err);
}

static int redis_open_unix(
    struct store **out, const char *text, const struct store_options *options, struct err *err)
{
    struct redis_store wanted = {0};
    const int rc = redis_parse_unix(&wanted.address, text, err);
    return rc < 0 ? rc : redis_store_open(out, &wanted, options, err);
}

static int redis_open_sentinel(
    struct store **out, const char *text, const struct store_options *options, struct err *err)
{
    struct redis_store wanted = {.replicated = true};
    int rc = redis_parse_sentinel(&wanted.address, &wanted.sentinels, wanted.master, text, err);
    if (rc < 0)
        return rc;
    rc = redis_store_open(out, &wanted, options, err);
    if (rc < 0)
        free(wanted.sentinels.at);
    return rc;
}

void redis_store_close(struct store *store)
{
    struct redis_store *const self = (struct redis_store *)store;
    if (self->password)
        explicit_bzero(self->password, strlen(self->password));
    free(self->password);
    free(self->sentinels.at);
    free(self->seeds.at);
    free(self);
}

static int redis_link_new(struct store_link **out, struct store *store, struct err *err)
{
    struct redis_link *const link = calloc(1, sizeof *link);
    if (!link)
        return err_set(err, ERR_NOMEM, "out of memory");
    struct redis_store *const self = (struct redis_store *)store;
    redis_link_init(link, self, &self->address);
    *out = &link->base;
    return 0;
}

static void redis_link_free(struct store_link *link)
{
    struct redis_link *const self = (struct redis_link *)link;
    redis_link_done(self);
    free(self);
}

int redis_ping(struct store_link *link, struct err *err)
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
    .close = redis_store_close, .connect = redis_link_new, .disconnect = redis_link_free,                    \
    .ping = redis_ping, .live = redis_live, .generations = redis_generations, .stream = redis_stream,        \
    .scan = redis_scan, .put = redis_put, .remove = redis_delete, .lock = redis_lock, .renew = redis_renew,  \
    .unlock = redis_unlock, .commit = redis_commit, .drop = redis_drop,                                      \
    .changes_append = redis_changes_append, .changes_read = redis_changes_read,                              \
    .changes_end = redis_changes_end, .changes_trim = redis_changes_trim,                                    \
    .clicks_append = redis_clicks_append, .clicks_read = redis_clicks_read,                                  \
    .clicks_trim = redis_clicks_trim, .shadow_add = redis_shadow_add, .shadow_get = redis_shadow_get,        \
    .work = &redis_work, .inspect = &redis_inspect

const struct store_backend store_redis_tcp = {.open = redis_open_tcp, COMMON};
const struct store_backend store_redis_unix = {.open = redis_open_unix, COMMON};
const struct store_backend store_redis_sentinel = {.open = redis_open_sentinel, COMMON};

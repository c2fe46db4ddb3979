/* Where the master is: sentinels watch it, choose another when it dies, and are asked with each connection that a link
 * makes. The one that answered last is asked first; one that hangs costs half of the time that is left, not all of it.
 *
 * A master that is cut off from its sentinels and replicas does not know that it was deposed, and takes writes from those
 * that it still reaches. They are lost when it comes back, so nobody may take one of them for done: before each step that a
 * token guards most of the sentinels have to name it, and afterwards a replica has to have the write (redis_confirm). What
 * it takes between the two it loses; min-replicas-to-write in its own configuration keeps it from taking that, too.
 */
#include "store/store_redis_int.h"

#include <stdlib.h>
#include <string.h>

static int take_address(
    struct redis_link *sentinel, struct redis_address *master, redisReply *reply, struct err *err)
{
    const bool known = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                       reply->element[0]->type == REDIS_REPLY_STRING &&
                       reply->element[1]->type == REDIS_REPLY_STRING;
    if (reply->type == REDIS_REPLY_NIL) {
        freeReplyObject(reply);
        return redis_fail(sentinel, err, STORE_CONNECT, "a sentinel that knows no master of this name");
    }
    if (!known || reply->element[0]->len == 0 || reply->element[0]->len >= sizeof master->host ||
        reply->element[1]->len == 0 || reply->element[1]->len >= sizeof master->port)
        return redis_unexpected(sentinel, reply, "SENTINEL", err);
    memcpy(master->host, reply->element[0]->str, reply->element[0]->len + 1);
    memcpy(master->port, reply->element[1]->str, reply->element[1]->len + 1);
    freeReplyObject(reply);
    return 0;
}

static int question(struct redis_link *sentinel, bool greet, struct redis_address *master,
    struct redis_deadline deadline, struct err *err)
{
    redisReply *reply = NULL;
    int rc = redis_dial(sentinel, deadline, err);
    if (rc == 0 && greet)
        rc = redis_greet(sentinel, deadline, err);
    if (rc < 0)
        return rc;
    redis_command(sentinel, 3, "SENTINEL");
    redis_arg_text(sentinel, "get-master-addr-by-name");
    redis_arg_text(sentinel, sentinel->store->master);
    rc = redis_reply_until(sentinel, &reply, deadline, err);
    return rc == 0 ? take_address(sentinel, master, reply, err) : rc;
}

/* Ask one sentinel. Most have no password; the one that wants one is given ours. */
static int ask(struct redis_address *master, struct redis_store *store, size_t which,
    struct redis_deadline deadline, struct err *err)
{
    struct redis_link *const sentinel = calloc(1, sizeof *sentinel);
    if (!sentinel)
        return err_set(err, ERR_NOMEM, "out of memory");
    redis_link_init(sentinel, store, &store->sentinels.at[which]);
    int rc = question(sentinel, false, master, deadline, err);
    if (rc == -ERR_UNAVAILABLE && sentinel->base.fault == STORE_NOAUTH && store->password)
        rc = question(sentinel, true, master, deadline, err);
    redis_link_done(sentinel);
    free(sentinel);
    return rc;
}

int redis_sentinel_find(struct redis_link *link, struct redis_deadline deadline, struct err *err)
{
    struct redis_store *const store = link->store;
    const size_t count = store->sentinels.count,
                 first = atomic_load_explicit(&store->sentinel_first, memory_order_relaxed);
    struct err last = ERR_INIT;
    for (size_t i = 0; i < count; i++) {
        const size_t which = (first + i) % count;
        const int rc = ask(&link->address, store, which, redis_deadline_half(deadline), &last);
        if (rc == 0) {
            atomic_store_explicit(&store->sentinel_first, which, memory_order_relaxed);
            return 0;
        }
        if (rc != -ERR_UNAVAILABLE)
            return err_set(err, (enum err_code) - rc, "%s", last.message);
    }
    return redis_fail(link, err, STORE_CONNECT, last.message);
}

int redis_sentinel_confirm(struct redis_link *link, struct err *err)
{
    struct redis_store *const store = link->store;
    const struct redis_deadline deadline = redis_deadline_in(store->command_timeout_ms);
    const size_t count = store->sentinels.count;
    size_t agree = 0;
    for (size_t i = 0; i < count && agree <= count / 2; i++) {
        struct redis_address master;
        const int rc = ask(&master, store, i, redis_deadline_half(deadline), err);
        if (rc < 0 && rc != -ERR_UNAVAILABLE)
            return rc;
        agree += rc == 0 && strcmp(master.host, link->address.host) == 0 &&
                 strcmp(master.port, link->address.port) == 0;
    }
    return agree > count / 2 ? 0
                             : redis_fail(link, err, STORE_READONLY,
                                   "most of the sentinels do not say that it is the master");
}

/* What replication asks of a writer. Replicas follow their master a moment later: a write is safe from its death when one of
 * them has it. Which is asked for once a call, after all that it has written, and costs a round trip of theirs.
 *
 * A master that has no replica at all has nobody to wait for, and is not kept from working: the last one of a set that has
 * lost the others. Where that must not be, its own min-replicas-to-write says so.
 */
#include "store/store_redis_int.h"

#include <string.h>

/* *replicas are those that follow the master; -1: it is none. */
static int ask_role(struct redis_link *link, long *replicas, struct redis_deadline deadline, struct err *err)
{
    redisReply *reply = NULL;
    redis_command(link, 1, "ROLE");
    const int rc = redis_reply_until(link, &reply, deadline, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3 ||
        reply->element[0]->type != REDIS_REPLY_STRING)
        return redis_unexpected(link, reply, "ROLE", err);
    const bool master =
        strcmp(reply->element[0]->str, "master") == 0 && reply->element[2]->type == REDIS_REPLY_ARRAY;
    *replicas = master ? (long)reply->element[2]->elements : -1;
    freeReplyObject(reply);
    return master ? 0 : redis_fail(link, err, STORE_READONLY, "it is not the master (any more)");
}

int redis_check_role(struct redis_link *link, struct redis_deadline deadline, struct err *err)
{
    long replicas;
    return ask_role(link, &replicas, deadline, err);
}

int redis_confirm(struct redis_link *link, struct err *err)
{
    redisReply *reply = NULL;
    const int timeout_ms = link->store->command_timeout_ms;
    long replicas = 0;
    if (!link->store->replicated)
        return 0;
    link->asking = false; /* it goes for commands with keys alone */
    int rc = ask_role(link, &replicas, redis_deadline_in(timeout_ms), err);
    if (rc < 0 || replicas == 0) /* WAIT would wait for it to have one */
        return rc;
    redis_command(link, 3, "WAIT");
    redis_arg_number(link, 1);
    redis_arg_number(link, (uint64_t)(timeout_ms + 1) / 2);
    rc = redis_reply(link, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->type != REDIS_REPLY_INTEGER)
        return redis_unexpected(link, reply, "WAIT", err);
    const bool confirmed = reply->integer > 0;
    freeReplyObject(reply);
    return confirmed ? 0
                     : redis_fail(link, err, STORE_TIMEOUT, "none of its replicas has confirmed the write");
}

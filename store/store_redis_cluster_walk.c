/* All keys of a generation in a cluster: listed, or deleted, master by master.
 *
 * A key whose slot moves from a node that is yet to be walked to one that has been is met by neither. So each walk looks at the
 * beginning and at the end which slots each master has by its own word, and which of them are on their way; where that is not
 * the same, or something is on its way, all masters are walked once more. What has moved once during the first walk is in its
 * place during the second.
 */
#include "store/store_redis_cluster_int.h"

#include <string.h>
#include <xxhash.h>

/* What is done with the keys of one step. Non-zero ends the walk: a negative err_code, or 1 when *stopped is set. */
typedef int visit_fn(struct cluster_link *link, void *ctx, const redisReply *keys, struct err *err);

/* ---- who has what ---- */

/* From CLUSTER NODES the line that is about the node itself, from its seventh word on: epoch, state of the link, slots. */
static const char *own_words(const char *text, size_t *len)
{
    const char *const myself = strstr(text, " myself");
    const char *const end = myself ? myself + strcspn(myself, "\n") : NULL, *at = myself;
    for (int words = 0; at && at < end && words < 5; words++) {
        at = memchr(at, ' ', (size_t)(end - at));
        at = at ? at + 1 : NULL;
    }
    *len = at ? (size_t)(end - at) : 0;
    return at;
}

/* Mix a node's own words into a sum. *moving is set if a slot is on its way from or to it. */
static int add_words(
    struct cluster_node *node, uint64_t *sum, bool *moving, struct redis_deadline deadline, struct err *err)
{
    redisReply *reply = NULL;
    size_t len = 0;
    node->link.until = deadline;
    int rc = redis_begin(&node->link, err);
    node->link.until.at_ms = 0;
    if (rc < 0)
        return rc;
    redis_command(&node->link, 2, "CLUSTER");
    redis_arg_text(&node->link, "NODES");
    rc = redis_reply(&node->link, &reply, err);
    if (rc < 0)
        return rc;
    const char *const words = reply->type == REDIS_REPLY_STRING ? own_words(reply->str, &len) : NULL;
    if (!words)
        return redis_unexpected(&node->link, reply, "CLUSTER NODES", err);
    *sum = XXH3_64bits_withSeed(words, len, *sum);
    *moving |= memchr(words, '[', len) != NULL;
    freeReplyObject(reply);
    return 0;
}

static int look(struct cluster_link *link, uint64_t *sum, bool *moving, struct err *err)
{
    const struct redis_deadline deadline = redis_deadline_in(link->store->connect_timeout_ms);
    int rc = cluster_refresh(link, deadline, err);
    *sum = 0;
    for (size_t i = 0; rc == 0 && i < link->node_count; i++)
        if (link->nodes[i] && link->nodes[i]->master)
            rc = cluster_failed(link, link->nodes[i], add_words(link->nodes[i], sum, moving, deadline, err));
    return rc;
}

/* ---- walking ---- */

static int walk_node(struct cluster_link *link, struct cluster_node *node, const struct store_key *base,
    visit_fn *visit, void *ctx, struct err *err)
{
    char cursor[REDIS_CURSOR_MAX] = "0";
    int rc = cluster_failed(link, node, redis_begin(&node->link, err));
    link->busy++;
    while (rc == 0) {
        redisReply *reply = NULL;
        rc = cluster_failed(link, node, redis_scan_step(&node->link, base, cursor, &reply, err));
        if (rc == 0)
            rc = visit(link, ctx, reply->element[1], err);
        freeReplyObject(reply);
        if (strcmp(cursor, "0") == 0)
            break;
    }
    link->busy--;
    return rc;
}

static int walk(
    struct cluster_link *link, const struct store_key *base, visit_fn *visit, void *ctx, struct err *err)
{
    for (int again = 0;; again++) {
        uint64_t before, after;
        bool moving = false;
        int rc = look(link, &before, &moving, err);
        for (size_t i = 0; rc == 0 && i < link->node_count; i++)
            if (link->nodes[i] && link->nodes[i]->master)
                rc = walk_node(link, link->nodes[i], base, visit, ctx, err);
        if (rc == 0)
            rc = look(link, &after, &moving, err);
        if (rc != 0 || again || (before == after && !moving))
            return rc;
    }
}

/* ---- listing: a key that has moved is met twice, an id is told once ---- */

struct scanning {
    size_t base_len;
    struct id_map seen;
    store_id_fn *fn;
    void *ctx;
    int stopped;
};

static int tell_ids(struct cluster_link *link, void *ctx, const redisReply *keys, struct err *err)
{
    struct scanning *const scanning = ctx;
    (void)link;
    for (size_t i = 0; !scanning->stopped && i < keys->elements; i++) {
        const char *const id = keys->element[i]->str + scanning->base_len;
        const size_t len = keys->element[i]->len - scanning->base_len;
        bool added = false;
        if (id_map_add(&scanning->seen, id, len, &added) < 0)
            return err_set(err, ERR_NOMEM, "out of memory");
        if (added)
            scanning->stopped = scanning->fn(scanning->ctx, id, len);
    }
    return scanning->stopped ? 1 : 0;
}

int cluster_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err)
{
    struct scanning scanning = {.fn = fn, .ctx = ctx};
    struct store_key base;
    store_key_kind(&base, link->store, generation, kind);
    scanning.base_len = base.len;
    const int rc = walk((struct cluster_link *)link, &base, tell_ids, &scanning, err);
    id_map_done(&scanning.seen);
    return rc < 0 ? rc : scanning.stopped;
}

/* ---- dropping ---- */

static int unlink_keys(struct cluster_link *link, void *ctx, const redisReply *keys, struct err *err)
{
    (void)ctx;
    return cluster_unlink(link, keys->element, keys->elements, err);
}

/* As of a single Redis, see redis_drop(); and no key may come back with a replica after the row is gone. */
int cluster_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    const unsigned slot = cluster_global_slot(self);
    struct cluster_route begin = cluster_route_to(self, slot), end = begin;
    struct store_key keys, changes, shadow;
    store_key_generation(&keys, link->store, generation);
    store_key_changes(&changes, link->store, generation);
    store_key_shadow(&shadow, link->store, generation);
    while (cluster_route_next(&begin, err))
        begin.rc = redis_drop_begin(&begin.node->link, token, generation, err);
    int rc = begin.rc;
    if (rc == 0)
        rc = walk(self, &keys, unlink_keys, NULL, err);
    if (rc == 0) {
        redisReply stream = {.type = REDIS_REPLY_STRING, .str = changes.text, .len = changes.len};
        redisReply sums = {.type = REDIS_REPLY_STRING, .str = shadow.text, .len = shadow.len};
        redisReply *const both[] = {&stream, &sums};
        rc = cluster_unlink(self, both, 2, err);
    }
    if (rc == 0)
        rc = cluster_confirm(self, err);
    if (rc < 0)
        return rc;
    while (cluster_route_next(&end, err))
        end.rc = redis_drop_end(&end.node->link, token, generation, err);
    return end.rc;
}

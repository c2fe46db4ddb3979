/* The map of a cluster, its nodes, and calls on one slot. */
#include "store/store_redis_cluster_int.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRYAGAIN_MS 5 /* until a command is tried again whose keys are on their way */

/* ---- nodes ---- */

static void forget(struct cluster_link *link, size_t place)
{
    redis_link_done(&link->nodes[place]->link);
    free(link->nodes[place]);
    link->nodes[place] = NULL;
}

/* The place of the node at an address, made if there is none. */
static int find_node(
    uint16_t *out, struct cluster_link *link, const char *host, const char *port, struct err *err)
{
    size_t free_place = link->node_count;
    for (size_t i = 0; i < link->node_count; i++) {
        const struct cluster_node *const node = link->nodes[i];
        if (!node) {
            free_place = i;
        } else if (strcmp(node->link.address.host, host) == 0 && strcmp(node->link.address.port, port) == 0) {
            *out = (uint16_t)i;
            return 0;
        }
    }
    if (free_place == CLUSTER_NODES_MAX)
        return err_set(err, ERR_UNAVAILABLE, "a cluster of more than %d nodes", CLUSTER_NODES_MAX);
    struct cluster_node *const node = calloc(1, sizeof *node);
    if (!node)
        return err_set(err, ERR_NOMEM, "out of memory");
    struct redis_address address = link->store->address; /* the user */
    snprintf(address.host, sizeof address.host, "%s", host);
    snprintf(address.port, sizeof address.port, "%s", port);
    redis_link_init(&node->link, link->store, &address);
    link->nodes[free_place] = node;
    if (free_place == link->node_count)
        link->node_count++;
    *out = (uint16_t)free_place;
    return 0;
}

static int begin(struct cluster_node *node, struct redis_deadline deadline, struct err *err)
{
    if (node->pending) /* its answers are on their way, so it is connected */
        return 0;
    node->link.until = deadline;
    const int rc = redis_begin(&node->link, err);
    node->link.until.at_ms = 0;
    return rc;
}

int cluster_failed(struct cluster_link *link, const struct cluster_node *node, int rc)
{
    if (rc == -ERR_UNAVAILABLE) {
        link->base.fault = node->link.base.fault;
        link->stale = true;
    }
    return rc;
}

/* ---- the map: CLUSTER SLOTS, which every version has ---- */

static bool read_port(char port[8], const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 1 || reply->integer > 65535)
        return false;
    snprintf(port, 8, "%d", (int)reply->integer);
    return true;
}

/* A node of a range: its host, port and more. The host may be unknown to the node that says so: then it is its own. */
static int read_node(uint16_t *place, struct cluster_link *link, const struct cluster_node *asked,
    const redisReply *reply, struct err *err)
{
    char port[8];
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 || !read_port(port, reply->element[1]))
        return -ERR_CORRUPT;
    const redisReply *const host = reply->element[0];
    if (host->type == REDIS_REPLY_NIL || (host->type == REDIS_REPLY_STRING && host->len == 0))
        return find_node(place, link, asked->link.address.host, port, err);
    if (host->type != REDIS_REPLY_STRING || host->len >= sizeof asked->link.address.host)
        return -ERR_CORRUPT;
    return find_node(place, link, host->str, port, err);
}

/* First and last slot, the master, replicas. -ERR_CORRUPT: it is no such thing. */
static int read_range(uint16_t *owner, struct cluster_link *link, const struct cluster_node *asked,
    const redisReply *range, struct err *err)
{
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3 ||
        range->element[0]->type != REDIS_REPLY_INTEGER || range->element[1]->type != REDIS_REPLY_INTEGER ||
        range->element[0]->integer < 0 || range->element[1]->integer >= REDIS_SLOTS)
        return -ERR_CORRUPT;
    for (size_t i = 2; i < range->elements; i++) {
        uint16_t place = 0;
        const int rc = read_node(&place, link, asked, range->element[i], err);
        if (rc < 0)
            return rc;
        link->nodes[place]->known = true;
        if (i > 2)
            continue;
        link->nodes[place]->master = true;
        for (long long slot = range->element[0]->integer; slot <= range->element[1]->integer; slot++)
            owner[slot] = place;
    }
    return 0;
}

static int read_map(
    struct cluster_link *link, const struct cluster_node *asked, const redisReply *reply, struct err *err)
{
    uint16_t owner[REDIS_SLOTS];
    int rc = reply->type == REDIS_REPLY_ARRAY ? 0 : -ERR_CORRUPT;
    for (size_t i = 0; i < REDIS_SLOTS; i++)
        owner[i] = CLUSTER_NOBODY;
    for (size_t i = 0; i < link->node_count; i++)
        if (link->nodes[i])
            link->nodes[i]->known = link->nodes[i]->master = false;
    for (size_t i = 0; rc == 0 && i < reply->elements; i++)
        rc = read_range(owner, link, asked, reply->element[i], err);
    if (rc < 0)
        return rc;
    if (!reply->elements)
        return err_set(err, ERR_UNAVAILABLE, "Redis at %s:%s: it is in no cluster", asked->link.address.host,
            asked->link.address.port);
    memcpy(link->owner, owner, sizeof owner);
    for (size_t i = 0; !link->busy && i < link->node_count; i++) {
        const struct cluster_node *const node = link->nodes[i];
        if (node && !node->known && !node->seed && node != asked)
            forget(link, i);
    }
    return 0;
}

static int ask_for_map(
    struct cluster_link *link, struct cluster_node *node, struct redis_deadline deadline, struct err *err)
{
    redisReply *reply = NULL;
    int rc = begin(node, deadline, err);
    if (rc < 0)
        return rc;
    redis_command(&node->link, 2, "CLUSTER");
    redis_arg_text(&node->link, "SLOTS");
    rc = redis_reply_until(&node->link, &reply, deadline, err);
    if (rc < 0)
        return rc;
    rc = read_map(link, node, reply, err);
    if (rc == -ERR_CORRUPT)
        return redis_unexpected(&node->link, reply, "CLUSTER SLOTS", err);
    freeReplyObject(reply);
    if (rc == 0)
        redis_succeed(&node->link);
    return rc;
}

/* The nodes in turn, beginning anywhere, those first that we are connected to; one that hangs costs half of the time that
 * is left. A node that has been cut off from the others tells an old map, until it notices: chance leads to another. */
int cluster_refresh(struct cluster_link *link, struct redis_deadline deadline, struct err *err)
{
    struct err last = ERR_INIT;
    const size_t count = link->node_count, first = (size_t)(link->random++ % count);
    err_set(&last, ERR_UNAVAILABLE, "no node of the cluster can be asked");
    link->refresh_at_ms = redis_now_ms() + link->store->retry_min_ms;
    for (int connected = 1; connected >= 0; connected--)
        for (size_t i = 0; i < count; i++) {
            struct cluster_node *const node = link->nodes[(first + i) % count];
            if (!node || node->pending || (node->link.fd >= 0) != connected)
                continue;
            const int rc = ask_for_map(link, node, redis_deadline_half(deadline), &last);
            if (rc == 0) {
                link->stale = false;
                return 0;
            }
            cluster_failed(link, node, rc);
            if (rc != -ERR_UNAVAILABLE)
                return err_set(err, (enum err_code) - rc, "%s", last.message);
        }
    return err_set(err, ERR_UNAVAILABLE, "%s", last.message);
}

/* ---- where to ask ---- */

static struct cluster_node *owner_of(const struct cluster_link *link, unsigned slot)
{
    return link->owner[slot] == CLUSTER_NOBODY ? NULL : link->nodes[link->owner[slot]];
}

/* True if there is a new map. */
static bool refresh_if_due(struct cluster_link *link, struct redis_deadline deadline, struct err *err)
{
    return redis_now_ms() >= link->refresh_at_ms && cluster_refresh(link, deadline, err) == 0;
}

int cluster_node_of(struct cluster_node **out, struct cluster_link *link, unsigned slot,
    struct redis_deadline deadline, struct err *err)
{
    struct err ignored = ERR_INIT;
    if (link->stale)
        refresh_if_due(link, deadline, &ignored);
    struct cluster_node *node = owner_of(link, slot);
    if (!node &&
        (link->stale || !refresh_if_due(link, deadline, &ignored) || !(node = owner_of(link, slot)))) {
        link->stale = true;
        link->base.fault = STORE_CONNECT;
        return err_set(err, ERR_UNAVAILABLE, "no node of the cluster is known to have slot %u%s%s", slot,
            *ignored.message ? ": " : "", ignored.message);
    }
    int rc = begin(node, deadline, err);
    if (rc == -ERR_UNAVAILABLE) { /* another one may have its slots by now */
        cluster_failed(link, node, rc);
        if (refresh_if_due(link, deadline, &ignored) && owner_of(link, slot) &&
            owner_of(link, slot) != node) {
            node = owner_of(link, slot);
            rc = cluster_failed(link, node, begin(node, deadline, err));
        }
    }
    *out = node;
    return rc;
}

int cluster_follow(struct cluster_node **out, struct cluster_link *link, struct cluster_node *from,
    const struct redis_redirect *redirect, unsigned *hops, struct redis_deadline deadline, struct err *err)
{
    const struct redis_address *const address = &from->link.address;
    const int64_t left_ms = deadline.at_ms - redis_now_ms();
    link->base.fault = redirect->kind == REDIS_DOWN ? STORE_OTHER : STORE_TIMEOUT;
    link->stale |= redirect->kind == REDIS_DOWN || redirect->kind == REDIS_MOVED;
    if (redirect->kind == REDIS_DOWN)
        return err_set(err, ERR_UNAVAILABLE, "Redis at %s:%s: the cluster is down (CLUSTERDOWN)",
            address->host, address->port);
    if (left_ms <= 0)
        return err_set(err, ERR_UNAVAILABLE,
            "Redis at %s:%s: no answer but to ask again or elsewhere within %d ms", address->host,
            address->port, deadline.ms);
    if (redirect->kind == REDIS_TRYAGAIN) {
        poll(NULL, 0, left_ms < TRYAGAIN_MS ? (int)left_ms : TRYAGAIN_MS);
        *out = from;
        return 0;
    }
    if (++*hops > CLUSTER_HOPS_MAX)
        return err_set(err, ERR_UNAVAILABLE, "Redis at %s:%s: slot %u is sent from node to node",
            address->host, address->port, redirect->slot);
    if (*hops > CLUSTER_HOPS_MAX / 4) /* they do not agree yet */
        poll(NULL, 0, left_ms < TRYAGAIN_MS ? (int)left_ms : TRYAGAIN_MS);
    uint16_t place = 0;
    const int rc =
        find_node(&place, link, *redirect->host ? redirect->host : address->host, redirect->port, err);
    if (rc < 0)
        return rc;
    if (redirect->kind == REDIS_MOVED) {
        link->owner[redirect->slot] = place;
        link->nodes[place]->master = true;
    }
    *out = link->nodes[place];
    return cluster_failed(link, *out, begin(*out, deadline, err));
}

/* ---- calls on one slot ---- */

struct cluster_route cluster_route_to(struct cluster_link *link, unsigned slot)
{
    return (struct cluster_route){.link = link, .slot = slot};
}

bool cluster_route_next(struct cluster_route *route, struct err *err)
{
    struct cluster_link *const link = route->link;
    const int timeout_ms = link->store->command_timeout_ms;
    struct cluster_node *const last = route->node;
    bool asking = false;
    if (!last) {
        route->rc = cluster_node_of(
            &route->node, link, route->slot, redis_deadline_in(link->store->connect_timeout_ms), err);
        route->deadline = redis_deadline_in(timeout_ms);
    } else {
        const struct redis_redirect redirect = last->link.redirect;
        if (!last->link.until.at_ms) { /* some of its commands have been answered */
            route->deadline = redis_deadline_in(timeout_ms);
            route->hops = 0;
        }
        asking = redirect.kind == REDIS_ASK || (redirect.kind == REDIS_TRYAGAIN && last->link.asking);
        last->link.until.at_ms = 0;
        last->link.asking = false;
        last->link.redirect.kind = REDIS_STAY;
        if (route->rc != -ERR_UNAVAILABLE || redirect.kind == REDIS_STAY) {
            cluster_failed(link, last, route->rc);
            return false;
        }
        route->rc = cluster_follow(&route->node, link, last, &redirect, &route->hops, route->deadline, err);
    }
    if (route->rc < 0)
        return false;
    route->node->link.until = route->deadline;
    route->node->link.asking = asking;
    route->node->link.redirect.kind = REDIS_STAY;
    return true;
}

unsigned cluster_global_slot(const struct cluster_link *link)
{
    struct store_key key;
    store_key_global(&key, link->base.store, "");
    return redis_slot(key.text, key.len);
}

int cluster_on_global(struct store_link *link, redis_step_fn *step, void *ctx, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = step(&route.node->link, ctx, err);
    return route.rc;
}

static int cluster_ping(struct store_link *link, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_ping(&route.node->link.base, err);
    return route.rc;
}

static int cluster_live(struct store_link *link, char name[STORE_GENERATION_MAX], struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_live(&route.node->link.base, name, err);
    return route.rc;
}

static int cluster_generations(struct store_link *link, struct store_rows *rows, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_generations(&route.node->link.base, rows, err);
    return route.rc;
}

static int cluster_lock(struct store_link *link, int ttl_ms, uint64_t *token, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_lock(&route.node->link.base, ttl_ms, token, err);
    return route.rc;
}

static int cluster_renew(struct store_link *link, uint64_t token, int ttl_ms, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_renew(&route.node->link.base, token, ttl_ms, err);
    return route.rc;
}

static int cluster_unlock(struct store_link *link, uint64_t token, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_unlock(&route.node->link.base, token, err);
    return route.rc;
}

static int cluster_commit(struct store_link *link, uint64_t token, const struct store_generation *rows,
    size_t count, const char *live, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_route route = cluster_route_to(self, cluster_global_slot(self));
    while (cluster_route_next(&route, err))
        route.rc = redis_commit(&route.node->link.base, token, rows, count, live, err);
    return route.rc;
}

/* ---- opening ---- */

static int cluster_open(
    struct store **out, const char *text, const struct store_options *options, struct err *err)
{
    struct redis_store wanted = {.replicated = true};
    int rc = redis_parse_cluster(&wanted.address, &wanted.seeds, text, err);
    if (rc < 0)
        return rc;
    if (wanted.seeds.count > CLUSTER_NODES_MAX / 2)
        rc = err_set(err, ERR_INVALID, "store URL: more than %d nodes", CLUSTER_NODES_MAX / 2);
    else
        rc = redis_store_open(out, &wanted, options, err);
    if (rc < 0)
        free(wanted.seeds.at);
    return rc;
}

static void cluster_disconnect(struct store_link *link)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    for (size_t i = 0; i < self->node_count; i++)
        if (self->nodes[i])
            forget(self, i);
    free(self);
}

static int cluster_connect(struct store_link **out, struct store *store, struct err *err)
{
    struct cluster_link *const link = calloc(1, sizeof *link);
    int rc = 0;
    if (!link)
        return err_set(err, ERR_NOMEM, "out of memory");
    link->base.store = store;
    link->store = (struct redis_store *)store;
    link->stale = true;
    for (size_t i = 0; i < REDIS_SLOTS; i++)
        link->owner[i] = CLUSTER_NOBODY;
    for (size_t i = 0; rc == 0 && i < link->store->seeds.count; i++) {
        const struct redis_address *const seed = &link->store->seeds.at[i];
        uint16_t place = 0;
        rc = find_node(&place, link, seed->host, seed->port, err);
        if (rc == 0) {
            link->nodes[place]->seed = true;
            link->random = redis_random(&link->nodes[place]->link);
        }
    }
    if (rc < 0) {
        cluster_disconnect(&link->base);
        return rc;
    }
    *out = &link->base;
    return 0;
}

const struct store_backend store_redis_cluster = {
    .open = cluster_open,
    .close = redis_store_close,
    .connect = cluster_connect,
    .disconnect = cluster_disconnect,
    .ping = cluster_ping,
    .live = cluster_live,
    .generations = cluster_generations,
    .stream = cluster_stream,
    .scan = cluster_scan,
    .put = cluster_put,
    .remove = cluster_delete,
    .lock = cluster_lock,
    .renew = cluster_renew,
    .unlock = cluster_unlock,
    .commit = cluster_commit,
    .drop = cluster_drop,
    .changes_append = cluster_changes_append,
    .changes_read = cluster_changes_read,
    .changes_end = cluster_changes_end,
    .changes_trim = cluster_changes_trim,
    .clicks_append = cluster_clicks_append,
    .clicks_read = cluster_clicks_read,
    .clicks_trim = cluster_clicks_trim,
    .shadow_add = redis_shadow_add,
    .shadow_get = redis_shadow_get,
    .work = &redis_work,
    .inspect = &cluster_inspect,
};

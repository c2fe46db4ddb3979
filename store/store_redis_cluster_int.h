/* A cluster: a map of slots to nodes, and a connection to each node, made when it is needed. A node's connection is a
 * redis_link like any other: what touches keys of one slot alone is done by the functions of the single Redis on the
 * slot's node (store_redis_cluster.c, store_redis_cluster_stream.c), what touches many keys is cut in single commands and
 * each goes its way (store_redis_cluster_data.c).
 *
 * Each link has a map of its own, and mends it by what the nodes tell it: MOVED changes one slot at once and all of them
 * with the next call; a node that cannot be reached, too. Answers are those of masters alone.
 */
#ifndef EMBSUM_STORE_STORE_REDIS_CLUSTER_INT_H
#define EMBSUM_STORE_STORE_REDIS_CLUSTER_INT_H

#include "store/store_redis_int.h"

#define CLUSTER_NODES_MAX 1024 /* what the specification recommends at most */
#define CLUSTER_NOBODY UINT16_MAX
#define CLUSTER_HOPS_MAX 16 /* redirections of one command */

struct cluster_node {
    struct redis_link link; /* first: a node is made of its link */
    bool seed;              /* from the URL: never forgotten */
    bool known;             /* the last map has it */
    bool master;            /* it has slots, by the same map */
    bool touched;           /* written to in this call */
    size_t pending;         /* commands whose answers have not come */
    size_t first, last;     /* of these, see store_redis_cluster_data.c */
};

struct cluster_link {
    struct store_link base;
    struct redis_store *store;
    struct cluster_node *nodes[CLUSTER_NODES_MAX]; /* NULL: a free place */
    size_t node_count;                             /* places in use, free ones among them */
    uint16_t owner[REDIS_SLOTS];                   /* places in nodes */
    bool stale;                                    /* the map may be wrong */
    unsigned busy;         /* callers that work with nodes: none is forgotten meanwhile */
    int64_t refresh_at_ms; /* not again before */
    uint64_t random;
    size_t value_bytes[REDIS_KINDS]; /* of the largest value of a kind in the last call */
};

/* ---- store_redis_cluster.c ---- */

/* The node of a slot, connected, by the deadline. ERR_UNAVAILABLE if it cannot be reached and nobody else has the slot. */
int cluster_node_of(struct cluster_node **out, struct cluster_link *link, unsigned slot,
    struct redis_deadline deadline, struct err *err);

/* Where a node's redirection leads to, connected; TRYAGAIN waits a little and leads to the node itself. *hops counts them.
 * ERR_UNAVAILABLE after too many, after the deadline, and if the cluster is down. */
int cluster_follow(struct cluster_node **out, struct cluster_link *link, struct cluster_node *from,
    const struct redis_redirect *redirect, unsigned *hops, struct redis_deadline deadline, struct err *err);

/* Ask for the map anew, now. */
int cluster_refresh(struct cluster_link *link, struct redis_deadline deadline, struct err *err);

/* A node has failed: its fault is the link's, and the map may be wrong. Returns rc. */
int cluster_failed(struct cluster_link *link, const struct cluster_node *node, int rc);

/* One call on the node of a slot, again where it is redirected to:
 *
 *     struct cluster_route route = cluster_route_to(link, slot);
 *     while (cluster_route_next(&route, err))
 *         route.rc = redis_live(&route.node->link.base, name, err);
 *     return route.rc;
 */
struct cluster_route {
    struct cluster_link *link;
    unsigned slot, hops;
    struct cluster_node *node;
    struct redis_deadline deadline;
    int rc;
};
struct cluster_route cluster_route_to(struct cluster_link *link, unsigned slot);
bool cluster_route_next(struct cluster_route *route, struct err *err);

/* The slot of all keys {P}:... */
unsigned cluster_global_slot(const struct cluster_link *link);
/* The same with the step as a function, for callers that know of no clusters. */
int cluster_on_global(struct store_link *link, redis_step_fn *step, void *ctx, struct err *err);

/* ---- store_redis_cluster_data.c ---- */

int cluster_stream(struct store_link *link, const char *generation, enum store_kind kind, size_t head,
    store_next_fn *next, store_value_fn *fn, void *ctx, struct err *err);
int cluster_put(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_entry *entries, size_t count, struct err *err);
int cluster_delete(struct store_link *link, const char *generation, enum store_kind kind,
    const struct store_id *ids, size_t count, struct err *err);
int cluster_changes_append(struct store_link *link, const char *generation,
    const struct store_change *changes, size_t count, struct err *err);
int cluster_clicks_append(
    struct store_link *link, const struct store_click *clicks, size_t count, struct err *err);
/* Delete keys, wherever they are. */
int cluster_unlink(struct cluster_link *link, redisReply *const *keys, size_t count, struct err *err);
/* What was written since the last time is on replicas. */
int cluster_confirm(struct cluster_link *link, struct err *err);

/* ---- store_redis_cluster_stream.c ---- */

int cluster_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err);
int cluster_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err);
int cluster_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err);
int cluster_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max,
    store_click_fn *fn, void *ctx, struct err *err);
int cluster_clicks_trim(struct store_link *link, const char *cursor, struct err *err);

/* ---- store_redis_cluster_walk.c ---- */

int cluster_scan(struct store_link *link, const char *generation, enum store_kind kind, store_id_fn *fn,
    void *ctx, struct err *err);
int cluster_drop(struct store_link *link, uint64_t token, const char *generation, struct err *err);

extern const struct store_inspect_backend cluster_inspect;

#endif

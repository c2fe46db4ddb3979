/* What a cluster says of itself: its masters, one after the other. A write is tried on the one that has {P}:..., where every
 * refresh begins. */
#include "store/store_redis_cluster_int.h"

/* The next master from *at on, connected; NULL behind the last. Slots that move meanwhile may be met twice, or not at all. */
static struct cluster_node *next_master(struct cluster_link *link, size_t *at)
{
    while (*at < link->node_count) {
        struct cluster_node *const node = link->nodes[(*at)++];
        if (node && node->master)
            return node;
    }
    return NULL;
}

static int inspect(struct store_link *link, struct store_inspection *out, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_node *node;
    size_t at = 0;
    int rc = cluster_refresh(self, redis_deadline_in(self->store->connect_timeout_ms), err);
    while (rc == 0 && (node = next_master(self, &at)))
        rc = cluster_failed(self, node, redis_inspect_server(&node->link, out, err));
    if (rc < 0)
        return rc;
    if (out->room != UINT64_MAX)
        out->room *= out->masters;
    return cluster_on_global(link, redis_inspect_lock, out, err);
}

static int probe(struct store_link *link, struct err *err)
{
    return cluster_on_global(link, redis_probe_step, NULL, err);
}

static int sample(struct store_link *link, const char *generation, enum store_kind kind, int64_t until_ms,
    store_id_fn *fn, void *ctx, bool *whole, struct err *err)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    struct cluster_node *node;
    struct id_map seen = {0};
    struct store_key base;
    size_t at = 0, masters = 0;
    bool all = true;
    int rc = cluster_refresh(self, redis_deadline_in(self->store->connect_timeout_ms), err);
    for (size_t i = 0; rc == 0 && next_master(self, &i);)
        masters++;
    store_key_kind(&base, link->store, generation, kind);
    self->busy++;
    while (rc == 0 && (node = next_master(self, &at))) {
        const int64_t now_ms = store_now_ms(), left_ms = until_ms > now_ms ? until_ms - now_ms : 0;
        bool done = false;
        rc = cluster_failed(self, node,
            redis_scan_until(
                &node->link, &base, &seen, now_ms + left_ms / (int64_t)masters, fn, ctx, &done, err));
        masters -= masters > 1;
        all &= done;
    }
    self->busy--;
    *whole = all && rc == 0;
    id_map_done(&seen);
    return rc;
}

const struct store_inspect_backend cluster_inspect = {inspect, probe, sample};

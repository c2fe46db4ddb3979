/* Streams in a cluster. Each has one slot, that of {P}: what is not appended is done by the functions of a single Redis on
 * the slot's node, again where a redirection comes between; what has been told by then is not told twice. */
#include "store/store_redis_cluster_int.h"

static struct cluster_route route_to_streams(struct store_link *link)
{
    struct cluster_link *const self = (struct cluster_link *)link;
    return cluster_route_to(self, cluster_global_slot(self));
}

struct counted {
    store_change_fn *change_fn;
    store_click_fn *click_fn;
    void *ctx;
    size_t left;
};

static int count_change(void *ctx, const struct store_change *change)
{
    struct counted *const counted = ctx;
    const int stopped = counted->change_fn(counted->ctx, change);
    counted->left -= !stopped;
    return stopped;
}

static int count_click(void *ctx, const struct store_click *click, const char *cursor)
{
    struct counted *const counted = ctx;
    const int stopped = counted->click_fn(counted->ctx, click, cursor);
    counted->left -= !stopped;
    return stopped;
}

int cluster_changes_read(struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX],
    size_t max, store_change_fn *fn, void *ctx, struct err *err)
{
    struct cluster_route route = route_to_streams(link);
    struct counted counted = {fn, NULL, ctx, max};
    while (cluster_route_next(&route, err))
        route.rc = redis_changes_read(
            &route.node->link.base, generation, cursor, counted.left, count_change, &counted, err);
    return route.rc;
}

int cluster_changes_end(
    struct store_link *link, const char *generation, char cursor[STORE_CURSOR_MAX], struct err *err)
{
    struct cluster_route route = route_to_streams(link);
    while (cluster_route_next(&route, err))
        route.rc = redis_changes_end(&route.node->link.base, generation, cursor, err);
    return route.rc;
}

int cluster_changes_trim(struct store_link *link, const char *generation, size_t keep, struct err *err)
{
    struct cluster_route route = route_to_streams(link);
    while (cluster_route_next(&route, err))
        route.rc = redis_changes_trim(&route.node->link.base, generation, keep, err);
    return route.rc;
}

int cluster_clicks_read(struct store_link *link, char cursor[STORE_CURSOR_MAX], size_t max,
    store_click_fn *fn, void *ctx, struct err *err)
{
    struct cluster_route route = route_to_streams(link);
    struct counted counted = {NULL, fn, ctx, max};
    while (cluster_route_next(&route, err))
        route.rc =
            redis_clicks_read(&route.node->link.base, cursor, counted.left, count_click, &counted, err);
    return route.rc;
}

int cluster_clicks_trim(struct store_link *link, const char *cursor, struct err *err)
{
    struct cluster_route route = route_to_streams(link);
    while (cluster_route_next(&route, err))
        route.rc = redis_clicks_trim(&route.node->link.base, cursor, err);
    return route.rc;
}

#include "server/router.h"

#include "server/clock.h"
#include "server/rank.h"
#include "server/status.h"
#include "server/worker.h"

#include <string.h>

enum { METHOD_GET = 1, METHOD_POST = 2, METHOD_HEAD = 4 };

static const struct {
    const char *name;
    unsigned bit;
} methods[] = {{"GET", METHOD_GET}, {"HEAD", METHOD_HEAD}, {"POST", METHOD_POST}};

typedef void handler(
    struct worker *worker, const struct http_request *request, struct http_response *response);

/* A path that ends in '/' stands for all that begin with it. HEAD goes where GET does: the front leaves the
 * body out. */
static const struct route {
    const char *path;
    unsigned methods;
    handler *handle;
    enum metrics_route metrics;
} routes[] = {
    {"/rank", METHOD_GET | METHOD_HEAD | METHOD_POST, rank_handle, METRICS_RANK},
    {"/users/", METHOD_GET | METHOD_HEAD, status_user, METRICS_USERS},
    {"/livez", METHOD_GET | METHOD_HEAD, status_livez, METRICS_LIVEZ},
    {"/readyz", METHOD_GET | METHOD_HEAD, status_readyz, METRICS_READYZ},
    {"/metrics", METHOD_GET | METHOD_HEAD, metrics_handle, METRICS_METRICS},
    {"/version", METHOD_GET | METHOD_HEAD, status_version, METRICS_VERSION},
};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const size_t len = strlen(routes[i].path);
        const bool prefix = routes[i].path[len - 1] == '/';
        if (prefix ? strncmp(path, routes[i].path, len) == 0 && path[len] : strcmp(path, routes[i].path) == 0)
            return &routes[i];
    }
    return NULL;
}

static bool is_allowed(const struct route *route, const char *method)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(method, methods[i].name) == 0)
            return route->methods & methods[i].bit;
    return false;
}

static void refuse_method(
    const struct route *route, const struct http_request *request, struct http_response *response)
{
    http_fail(response, request, 405, "this path does not know the method");
    char allow[64] = "";
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (route->methods & methods[i].bit) {
            if (allow[0])
                strcat(allow, ", ");
            strcat(allow, methods[i].name);
        }
    http_response_header(response, "Allow", "%s", allow);
}

void router_handle(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    const uint64_t start = clock_ns();
    const struct route *route = find_route(request->path);
    if (!route)
        http_fail(response, request, 404, "there is nothing at this path");
    else if (!is_allowed(route, request->method))
        refuse_method(route, request, response);
    else
        route->handle(worker, request, response);
    arena_reset(&worker->arena);
    metrics_request(
        &worker->metrics, route ? route->metrics : METRICS_OTHER, response->status, clock_ns() - start);
}

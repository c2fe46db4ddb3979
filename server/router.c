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
enum place { LOOP, READERS, RANK }; /* which threads answer */

static const struct route {
    const char *path;
    unsigned methods;
    enum place place;
    handler *handle;
    enum metrics_route metrics;
} routes[] = {
    {"/rank", METHOD_GET | METHOD_HEAD | METHOD_POST, RANK, NULL, METRICS_RANK},
    {"/users/", METHOD_GET | METHOD_HEAD, READERS, status_user, METRICS_USERS},
    {"/livez", METHOD_GET | METHOD_HEAD, LOOP, status_livez, METRICS_LIVEZ},
    {"/readyz", METHOD_GET | METHOD_HEAD, LOOP, status_readyz, METRICS_READYZ},
    {"/metrics", METHOD_GET | METHOD_HEAD, LOOP, metrics_handle, METRICS_METRICS},
    {"/version", METHOD_GET | METHOD_HEAD, LOOP, status_version, METRICS_VERSION},
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

static void count_request(struct worker *worker, const struct http_call *call)
{
    const struct route *route = call->route;
    metrics_request(&worker->metrics, route ? route->metrics : METRICS_OTHER, call->response.status,
        clock_ns() - call->since_ns);
}

void router_answer(struct worker *worker, struct http_call *call)
{
    count_request(worker, call);
    if (!worker_is_loop(worker) || worker->deferred)
        call->answer(call);
}

void router_defer(struct worker *worker, struct http_call *call)
{
    if (!worker_is_loop(worker) || worker->deferred)
        return;
    call->defer(call);
    worker->deferred = true;
}

static void run_handler(struct pool_task *task, struct worker *worker)
{
    struct http_call *call = POOL_OWNER(task, struct http_call, task);
    const struct route *route = call->route;
    route->handle(worker, &call->request, &call->response);
    arena_reset(&worker->arena);
    router_answer(worker, call);
}

bool router_handle(struct worker *loop, struct http_call *call)
{
    const struct http_request *request = &call->request;
    const struct route *route = find_route(request->path);
    call->route = route;
    if (request->spare && (!route || route->place != LOOP)) {
        http_fail(&call->response, request, 503, "too many connections");
        call->response.close = true;
    } else if (!route) {
        http_fail(&call->response, request, 404, "there is nothing at this path");
    } else if (!is_allowed(route, request->method)) {
        refuse_method(route, request, &call->response);
    } else if (route->place == LOOP) {
        route->handle(loop, request, &call->response);
        arena_reset(&loop->arena);
    } else if (route->place == RANK) {
        loop->deferred = false;
        rank_call(call, loop);
        return !loop->deferred;
    } else {
        call->defer(call);
        call->task.run = run_handler;
        pool_put(loop->service->reader_pool, &call->task);
        return false;
    }
    count_request(loop, call);
    return true;
}

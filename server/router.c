#include "server/router.h"

#include "server/admin.h"
#include "server/clock.h"
#include "server/completion.h"
#include "server/console.h"
#include "server/openapi.h"
#include "server/overload.h"
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

/* A path that ends in '/' stands for all that begin with it, but for the shortest, which is the console's page. HEAD goes where GET does: the front leaves the
 * body out. */
enum place { LOOP, READERS, WORKERS, RANK }; /* which threads answer */

static const struct route {
    const char *path;
    unsigned methods;
    enum place place;
    bool guarded; /* wants a token, where the listener has any */
    handler *handle;
    enum metrics_route metrics;
} routes[] =
    {
        {"/rank", METHOD_GET | METHOD_HEAD | METHOD_POST, RANK, true, NULL, METRICS_RANK},
        {"/users/", METHOD_GET | METHOD_HEAD, READERS, true, status_user, METRICS_USERS},
        {"/contents/", METHOD_GET | METHOD_HEAD, READERS, true, status_content, METRICS_CONTENTS},
        {"/hot", METHOD_GET | METHOD_HEAD, WORKERS, true, completion_handle, METRICS_HOT},
        {"/livez", METHOD_GET | METHOD_HEAD, LOOP, false, status_livez, METRICS_LIVEZ},
        {"/readyz", METHOD_GET | METHOD_HEAD, LOOP, false, status_readyz, METRICS_READYZ},
        {"/metrics", METHOD_GET | METHOD_HEAD, LOOP, false, metrics_handle, METRICS_METRICS},
        {"/openapi.json", METHOD_GET | METHOD_HEAD, LOOP, false, openapi_public, METRICS_OPENAPI},
        {"/version", METHOD_GET | METHOD_HEAD, LOOP, false, status_version, METRICS_VERSION},
        {"/", METHOD_GET | METHOD_HEAD, LOOP, false, console_handle, METRICS_CONSOLE},
        {"/console.css", METHOD_GET | METHOD_HEAD, LOOP, false, console_handle, METRICS_CONSOLE},
        {"/console.js", METHOD_GET | METHOD_HEAD, LOOP, false, console_handle, METRICS_CONSOLE},
        {NULL, 0, LOOP, false, NULL, METRICS_OTHER},
},
  admin_routes[] = {
      {"/generations", METHOD_GET | METHOD_HEAD, LOOP, true, admin_generations, METRICS_ADMIN},
      {"/generations/reload", METHOD_POST, LOOP, true, admin_reload, METRICS_ADMIN},
      {"/openapi.json", METHOD_GET | METHOD_HEAD, LOOP, false, openapi_admin, METRICS_ADMIN},
      {NULL, 0, LOOP, false, NULL, METRICS_OTHER},
};

static const struct route *find_route(const struct route *route, const char *path)
{
    for (; route->path; route++) {
        const size_t len = strlen(route->path);
        const bool prefix = len > 1 && route->path[len - 1] == '/';
        if (prefix ? strncmp(path, route->path, len) == 0 && path[len] : strcmp(path, route->path) == 0)
            return route;
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

static void refuse_stranger(const struct http_request *request, struct http_response *response)
{
    http_fail(response, request, 401,
        request->authorization ? "the token is not valid here" : "a bearer token is needed");
    http_response_header(response, "WWW-Authenticate", "Bearer realm=\"embsum\"%s",
        request->authorization ? ", error=\"invalid_token\"" : "");
}

/* What the request asks for; NULL if the response tells that it may not. */
static const struct route *admit(const struct route *table, struct auth *auth, struct http_call *call)
{
    const struct http_request *request = &call->request;
    const struct route *route = find_route(table, request->path);
    call->route = route;
    call->facts = NULL;
    if (request->spare && (!route || route->place != LOOP)) {
        http_fail(&call->response, request, 503, "too many connections");
        call->response.close = true;
    } else if (!route)
        http_fail(&call->response, request, 404, "there is nothing at this path");
    else if (route->guarded && !auth_allows(auth, request->authorization))
        refuse_stranger(request, &call->response);
    else if (!is_allowed(route, request->method))
        refuse_method(route, request, &call->response);
    else
        return route;
    return NULL;
}

static void count(struct worker *worker, const struct http_call *call, enum metrics_route route, uint64_t ns)
{
    metrics_request(&worker->metrics, route, call->response.status, ns);
    access_note(worker, call, route, ns);
}

static void count_request(struct worker *worker, const struct http_call *call)
{
    const struct route *route = call->route;
    count(worker, call, route ? route->metrics : METRICS_OTHER, clock_ns() - call->since_ns);
}

void router_refused(struct worker *loop, struct http_call *call)
{
    call->facts = NULL;
    count(loop, call, METRICS_REFUSED, 0);
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

static void answer_here(const struct route *route, struct worker *loop, struct http_call *call)
{
    if (route)
        route->handle(loop, &call->request, &call->response);
    arena_reset(&loop->arena);
    count_request(loop, call);
}

static void hand_to(struct pool *pool, struct http_call *call)
{
    call->defer(call);
    call->task.run = run_handler;
    pool_put(pool, &call->task);
}

bool router_handle(struct worker *loop, struct http_call *call)
{
    const struct route *route = admit(routes, loop->service->auth, call);
    if (route && route->place == RANK) {
        loop->deferred = false;
        rank_call(call, loop);
        return !loop->deferred;
    }
    if (route && route->place == READERS) {
        hand_to(loop->service->reader_pool, call);
        return false;
    }
    if (route && route->place == WORKERS) {
        if (!overload_before_queue(loop, call)) {
            hand_to(loop->service->worker_pool, call);
            return false;
        }
        route = NULL; /* it is answered */
    }
    answer_here(route, loop, call);
    return true;
}

bool router_handle_admin(struct worker *admin, struct http_call *call)
{
    answer_here(admit(admin_routes, admin->service->admin_auth, call), admin, call);
    return true;
}

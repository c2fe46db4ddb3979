#include "server/overload.h"

#include "server/clock.h"

uint64_t overload_deadline_ns(const struct config *config, const struct http_call *call)
{
    const uint64_t usual = (uint64_t)config->rank.deadline_ms, asked = call->request.timeout_ms;
    return call->since_ns + (asked && asked < usual ? asked : usual) * 1000000;
}

static bool refuse(
    struct worker *worker, struct http_call *call, enum metrics_shed reason, const char *message)
{
    metrics_add(&worker->metrics.shed[reason], 1);
    http_fail(&call->response, &call->request, 503, message);
    return true;
}

bool overload_before_queue(struct worker *loop, struct http_call *call)
{
    const struct service *service = loop->service;
    const struct pool_load load = pool_load(service->worker_pool);
    if (load.waiting >= (size_t)service->config->server.queue_max)
        return refuse(loop, call, METRICS_SHED_QUEUE, "too busy: the queue of requests is full");
    /* Twice the wait, as that is a guess: who is let in and then refused has waited for nothing. */
    if (load.waiting && clock_ns() + 2 * load.wait_ns > overload_deadline_ns(service->config, call))
        return refuse(
            loop, call, METRICS_SHED_EARLY, "too busy: the request would wait longer than it may take");
    return false;
}

bool overload_after_queue(struct worker *worker, struct http_call *call)
{
    const uint64_t now = clock_ns();
    metrics_observe(&worker->metrics.queue, now - call->since_ns, 1);
    if (now <= overload_deadline_ns(worker->service->config, call))
        return false;
    return refuse(
        worker, call, METRICS_SHED_LATE, "too busy: the request has waited longer than it may take");
}

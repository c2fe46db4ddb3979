/* What of a call goes into the access log, and what does not: no query, no header, and no user's id unless log.access_users
 * asks for it. */
#include "server/access.h"
#include "server/trace.h"
#include "server/worker.h"

#include <string.h>
#include <time.h>

static void set(struct access_entry *entry, enum access_text which, const char *text)
{
    if (!text || !*text)
        return;
    entry->texts[which].at = text;
    entry->texts[which].len = strlen(text);
}

/* Where a path can hold a user's id the route says what was asked for, without it; of a path that nobody knows, which may
 * be a slip of the pen in such a one, the first part does. */
static void set_path(
    struct access_entry *entry, const struct http_request *request, unsigned route, bool users)
{
    set(entry, ACCESS_PATH, request->path);
    if (users || !request->path)
        return;
    if (route == METRICS_USERS)
        set(entry, ACCESS_PATH, metrics_route_name(METRICS_USERS));
    else if (route == METRICS_OTHER && *request->path == '/')
        entry->texts[ACCESS_PATH].len = 1 + strcspn(request->path + 1, "/");
}

static void set_facts(struct access_entry *entry, const struct access_facts *facts)
{
    struct access_numbers *numbers = &entry->numbers;
    numbers->ranked = true;
    numbers->users = facts->users;
    numbers->present = facts->present;
    numbers->candidates = facts->candidates;
    numbers->missing = facts->missing;
    numbers->degraded = facts->degraded;
    memcpy(numbers->stage_us, facts->stage_us, sizeof numbers->stage_us);
    set(entry, ACCESS_GENERATION, facts->generation);
    set(entry, ACCESS_USER, facts->user);
}

void access_note(struct worker *worker, const struct http_call *call, unsigned route, uint64_t ns)
{
    const struct service *service = worker->service;
    const struct http_request *request = &call->request;
    const unsigned status = call->response.status;
    uint64_t left_out = 0;
    struct timespec now;
    if (!service->access)
        return;
    if (status >= 400 && !log_allow(&worker->access_errors, &left_out)) {
        metrics_add(&worker->metrics.unlogged[METRICS_LOG_LIMITED], 1);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    const bool head = request->method && strcmp(request->method, "HEAD") == 0;
    struct access_entry entry = {.numbers = {.seconds = now.tv_sec,
                                     .nanoseconds = now.tv_nsec,
                                     .us = ns / 1000,
                                     .bytes = head ? 0 : call->response.body.used,
                                     .left_out = left_out,
                                     .status = (uint16_t)status,
                                     .route = (uint8_t)route}};
    set(&entry, ACCESS_ID, request->id);
    set(&entry, ACCESS_CLIENT, request->client);
    set(&entry, ACCESS_METHOD, request->method);
    set_path(&entry, request, route, service->config->log.access_users);
    if (call->facts)
        set_facts(&entry, call->facts);
    if (request->trace) {
        set(&entry, ACCESS_TRACE_ID, request->trace->trace_id);
        set(&entry, ACCESS_PARENT_ID, request->trace->parent_id);
        set(&entry, ACCESS_SPAN_ID, request->trace->span_id);
    }
    if (!access_put(service->access, worker_slot(worker), &entry))
        metrics_add(&worker->metrics.unlogged[METRICS_LOG_FULL], 1);
}

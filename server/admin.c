#include "server/admin.h"

#include "server/worker.h"

#include <stdlib.h>

static void write_refused(struct writer *w, struct live *live)
{
    struct live_stats stats;
    live_stats(live, &stats);
    writer_key(w, "refused");
    if (!stats.refused[0]) {
        writer_null(w);
        return;
    }
    writer_open(w, '{');
    writer_key(w, "generation");
    writer_text(w, stats.refused);
    writer_key(w, "reason");
    writer_text(w, stats.reason);
    writer_close(w, '}');
}

static void write_stored(struct writer *w, struct worker *worker)
{
    struct err err = ERR_INIT;
    struct store_generation *list = NULL;
    size_t count = 0;
    writer_key(w, "stored");
    const int code = store_generations(worker->link, &list, &count, &err);
    worker_note_store(worker, code, &err);
    if (code < 0) {
        writer_null(w);
        return;
    }
    writer_open(w, '[');
    for (size_t i = 0; i < count; i++) {
        writer_open(w, '{');
        writer_key(w, "generation");
        writer_text(w, list[i].name);
        writer_key(w, "state");
        writer_text(w, store_state_name(list[i].state));
        writer_close(w, '}');
    }
    writer_close(w, ']');
    free(list);
}

void admin_generations(
    struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)request;
    struct live_generation *generation = live_acquire(worker->service->live);
    struct writer *w = &response->body;
    writer_open(w, '{');
    writer_key(w, "in_memory");
    if (generation)
        writer_text(w, generation->name);
    else
        writer_null(w);
    live_release(generation);
    write_refused(w, worker->service->live);
    write_stored(w, worker);
    writer_close(w, '}');
}

void admin_reload(struct worker *worker, const struct http_request *request, struct http_response *response)
{
    (void)request;
    live_hurry(worker->service->live);
    struct writer *w = &response->body;
    writer_open(w, '{');
    writer_key(w, "status");
    writer_text(w, "looking");
    writer_close(w, '}');
}

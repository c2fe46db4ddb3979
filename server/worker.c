#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

/* Reading is all a daemon does. What is not there yet is waited for: a daemon may start before its store. */
static int open_store(struct service *service, struct err *err)
{
    const struct config *config = service->config;
    char password[CONFIG_STRING_MAX];
    int code = config_password(config, password, err);
    if (code < 0)
        return code;
    const struct store_options options = {
        .prefix = config->store.prefix,
        .password = password[0] ? password : NULL,
        .connect_timeout_ms = (int)config->store.connect_timeout_ms,
        .command_timeout_ms = (int)config->store.command_timeout_ms,
        .retry_min_ms = (int)config->store.retry_min_ms,
        .retry_max_ms = (int)config->store.retry_max_ms,
        .read_only = true,
    };
    code = store_open(&service->store, config->store.url, &options, err);
    explicit_bzero(password, sizeof password);
    return code;
}

int service_init(struct service *service, const struct config *config, const struct log *log,
    size_t worker_count, struct err *err)
{
    *service = (struct service){.config = config, .log = log};
    int code = open_store(service, err);
    if (code < 0)
        return code;
    const struct live_options options = {
        .store = service->store,
        .log = log,
        .memory_bytes = (size_t)config->memory.limit_bytes,
        .poll_ms = config->store.poll_ms,
        .workers = worker_count,
    };
    code = live_new(&service->live, &options, err);
    if (code < 0)
        return code;
    service->workers = calloc(worker_count, sizeof *service->workers);
    if (!service->workers)
        return err_set(err, ERR_NOMEM, "no memory for the workers");
    service->worker_count = worker_count;
    for (size_t i = 0; code == 0 && i < worker_count; i++) {
        service->workers[i].service = service;
        code = store_connect(&service->workers[i].link, service->store, err);
    }
    return code;
}

void service_done(struct service *service)
{
    for (size_t i = 0; i < service->worker_count; i++) {
        struct worker *worker = &service->workers[i];
        store_disconnect(worker->link);
        arena_done(&worker->arena);
        contents_done(&worker->contents);
        free(worker->score_scratch);
    }
    free(service->workers);
    live_free(service->live);
    store_close(service->store);
    *service = (struct service){0};
}

void worker_note_blob(struct worker *worker, const char *kind, const struct store_id *id,
    const char *generation, enum blob_reason reason)
{
    uint64_t dropped;
    metrics_add(&worker->metrics.blobs[reason], 1);
    if (!log_allow(&worker->blob_lines, &dropped))
        return;
    struct log_line line;
    log_begin(&line, worker->service->log, LOG_ERROR, "blob refused");
    log_text(&line, "kind", kind);
    log_bytes(&line, "id", id->id, id->len);
    log_text(&line, "generation", generation);
    log_text(&line, "reason", blob_reason_name(reason));
    log_int(&line, "lines_dropped", (int64_t)dropped);
    log_end(&line);
}

void worker_note_store(struct worker *worker, const struct err *err)
{
    uint64_t dropped;
    metrics_add(&worker->metrics.store_errors, 1);
    if (!log_allow(&worker->store_lines, &dropped))
        return;
    struct log_line line;
    log_begin(&line, worker->service->log, LOG_WARN, "store error");
    log_text(&line, "error", err_name(err->code));
    log_text(&line, "detail", err->message);
    log_int(&line, "lines_dropped", (int64_t)dropped);
    log_end(&line);
}

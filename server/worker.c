#include "server/worker.h"

#include "server/rank.h"
#include "server/shadow.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Reading is all a daemon does. What is not there yet is waited for: a daemon may start before its store. */
int worker_open_store(struct store **out, const struct config *config, struct err *err)
{
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
    code = store_open(out, config->store.url, &options, err);
    explicit_bzero(password, sizeof password);
    return code;
}

/* Processors that this process may use, which a container or taskset may have made fewer than there are. */
static size_t count_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (size_t)CPU_COUNT(&set);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (size_t)online : 1;
}

static struct worker *seat(struct service *service, struct worker *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        at[i] = (struct worker){.service = service, .number = i};
    return at;
}

static int make_threads(struct service *service, struct err *err)
{
    const struct config *config = service->config;
    service->loop_count = config->server.io_threads ? (size_t)config->server.io_threads : count_processors();
    service->worker_count = config->server.workers ? (size_t)config->server.workers : count_processors();
    service->reader_count = (size_t)config->store.connections;
    service->thread_count = service->loop_count + service->worker_count + service->reader_count + 4;
    service->threads = calloc(service->thread_count, sizeof *service->threads);
    if (!service->threads)
        return err_set(err, ERR_NOMEM, "no memory for the threads");
    service->loops = seat(service, service->threads, service->loop_count);
    service->workers = seat(service, service->loops + service->loop_count, service->worker_count);
    service->shadow_ranker = seat(service, service->workers + service->worker_count, 1);
    service->readers = seat(service, service->shadow_ranker + 1, service->reader_count);
    service->watcher = seat(service, service->readers + service->reader_count, 1);
    service->shadow_watcher = seat(service, service->watcher + 1, 1);
    service->admin = seat(service, service->shadow_watcher + 1, 1);
    int code = 0;
    for (struct worker *at = service->readers; code == 0 && at <= service->admin; at++)
        code = store_connect(&at->link, service->store, err);
    return code;
}

static int start_pool(
    struct pool **out, struct worker *first, size_t count, const char *name, struct err *err)
{
    struct worker **each = calloc(count, sizeof(struct worker *));
    if (!each)
        return err_set(err, ERR_NOMEM, "no memory for the threads");
    for (size_t i = 0; i < count; i++)
        each[i] = &first[i];
    const int code = pool_start(out, each, count, name, err);
    free(each);
    return code;
}

int service_init(struct service *service, const struct config *config, const struct log *log, struct err *err)
{
    *service = (struct service){.config = config, .log = log};
    breaker_init(&service->breaker, log);
    int code = live_generation_check(config, err);
    if (code == 0)
        code = auth_open(&service->auth, "server.token_file", config->server.token_file, log, err);
    if (code == 0)
        code = auth_open(&service->admin_auth, "admin.token_file", config->admin.token_file, log, err);
    if (code == 0)
        code = worker_open_store(&service->store, config, err);
    if (code == 0)
        code = make_threads(service, err);
    if (code == 0)
        code = access_open(&service->access, config, log, service->thread_count, err);
    if (code == 0)
        code = deadlines_start(&service->deadlines, err);
    if (code == 0)
        code = start_pool(&service->worker_pool, service->workers, service->worker_count, "rank", err);
    if (code == 0)
        code = start_pool(&service->reader_pool, service->readers, service->reader_count, "store", err);
    if (code == 0)
        code = live_new(&service->live, service, err);
    if (code == 0)
        code = shadow_new(&service->shadow, service, err);
    return code;
}

void service_done(struct service *service)
{
    atomic_store(&service->stopping, true);
    live_stop(service->live); /* what it has asked of the readers comes first */
    shadow_stop(service->shadow);
    deadlines_stop(service->deadlines);
    pool_stop(service->worker_pool);
    pool_stop(service->reader_pool);
    pool_free(service->worker_pool);
    pool_free(service->reader_pool);
    live_free(service->live);
    shadow_free(service->shadow);
    access_close(service->access);
    deadlines_free(service->deadlines);
    for (size_t i = 0; service->threads && i < service->thread_count; i++) {
        struct worker *worker = &service->threads[i];
        store_disconnect(worker->link);
        arena_done(&worker->arena);
        buffer_done(&worker->matrices);
        buffer_done(&worker->gates);
        buffer_done(&worker->blocks);
        buffer_done(&worker->scores);
        buffer_done(&worker->best);
        rank_jobs_free(worker);
    }
    free(service->threads);
    store_close(service->store);
    auth_free(service->auth);
    auth_free(service->admin_auth);
    breaker_done(&service->breaker);
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

/* A link that waits for its next attempt tells nothing about the store, and is no news; and as long as the store is away,
 * the breaker's line has said so. */
void worker_note_store(struct worker *worker, int code, const struct err *err)
{
    struct breaker *breaker = &worker->service->breaker;
    const bool away = code == -ERR_UNAVAILABLE || code == -ERR_IO;
    const enum store_fault fault = away ? store_fault(worker->link) : STORE_OTHER;
    uint64_t dropped;
    if (code == 0 || code == -ERR_NOT_FOUND || code == -ERR_CORRUPT)
        breaker_succeeded(breaker);
    if (code == 0 || code == -ERR_NOT_FOUND)
        return;
    metrics_add(&worker->metrics.store_errors[fault], 1);
    if (away && fault != STORE_PAUSED)
        breaker_failed(breaker, err->message);
    if (fault == STORE_PAUSED || breaker_is_open(breaker) || !log_allow(&worker->store_lines, &dropped))
        return;
    struct log_line line;
    log_begin(&line, worker->service->log, LOG_WARN, "store error");
    log_text(&line, "error", err_name(code));
    log_text(&line, "kind", store_fault_name(fault));
    log_text(&line, "detail", err->message);
    log_int(&line, "lines_dropped", (int64_t)dropped);
    log_end(&line);
}

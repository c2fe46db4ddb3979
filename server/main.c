/* embsumd: the life of the daemon, from the command line to the last answer. */
#include "server/descriptors.h"
#include "server/http.h"
#include "server/options.h"
#include "server/process.h"
#include "server/router.h"
#include "server/sandbox.h"
#include "server/shadow.h"
#include "server/worker.h"

#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

/* A signal handler has nothing but static memory to reach. sigwait was tried and rejected: a library may
 * start a thread when it is loaded (OpenBLAS does), before main can block anything, and a SIGTERM that the kernel gives
 * to that thread would end the process on the spot. */
static sem_t wake;
static atomic_bool stop;

static void on_signal(int number)
{
    (void)number;
    const int saved = errno;
    atomic_store(&stop, true);
    sem_post(&wake);
    errno = saved;
}

/* A system call was refused, by any thread. */
static void on_refused(void)
{
    sem_post(&wake);
}

/* From now on SIGTERM and SIGINT are kept until wait_for_signal. They are blocked for the threads to come, so
 * that no system call of theirs is interrupted. */
static void catch_signals(sigset_t *signals)
{
    sem_init(&wake, 0, 0);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(signals);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
}

/* Nobody provokes a refused call by a request: it is a mistake of ours, or somebody has taken over. */
static void log_refused(const struct log *log, uint64_t *known)
{
    int last;
    const uint64_t refused = sandbox_refused(&last);
    if (refused == *known)
        return;
    struct log_line line;
    log_begin(&line, log, LOG_ERROR, "sandbox: a system call was refused");
    log_int(&line, "call", last);
    log_int(&line, "calls", (int64_t)(refused - *known));
    log_end(&line);
    *known = refused;
}

static void wait_for_signal(const sigset_t *signals, const struct log *log)
{
    static struct log_limit limit;
    uint64_t known = 0, dropped;
    pthread_sigmask(SIG_UNBLOCK, signals, NULL);
    while (!atomic_load(&stop)) {
        if (sem_wait(&wake) == 0 && log_allow(&limit, &dropped))
            log_refused(log, &known);
    }
    log_refused(log, &known);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
}

static bool handle(void *loop, struct http_call *call)
{
    return router_handle(loop, call);
}

static bool handle_admin(void *loop, struct http_call *call)
{
    return router_handle_admin(loop, call);
}

static void refused(void *loop, struct http_call *call)
{
    router_refused(loop, call);
}

/* The two listeners; an operator's is NULL where none is wanted. */
struct fronts {
    struct http *http, *admin;
};

static void log_listening(const struct service *service, const struct fronts *fronts)
{
    struct log_line line;
    log_begin(&line, service->log, LOG_INFO, "listening");
    log_text(&line, "address", http_address(fronts->http));
    if (fronts->admin)
        log_text(&line, "admin", http_address(fronts->admin));
    log_text(&line, "tokens", service->auth ? "wanted" : "not wanted");
    log_int(&line, "workers", (int64_t)service->worker_count);
    log_text(&line, "dtype", service->config->scoring.dtype);
    log_text(&line, "store", service->config->store.url); /* store_open refuses a password in it */
    log_text(&line, "version", EMBSUM_VERSION);
    log_end(&line);
}

static void log_sandbox(const struct service *service, bool files, bool calls)
{
    struct log_line line;
    const bool wanted = service->config->server.sandbox;
    log_begin(&line, service->log, wanted && !(files && calls) ? LOG_WARN : LOG_INFO, "sandbox");
    log_text(&line, "files",
        files    ? "Landlock"
        : wanted ? "open: the kernel or this build has no Landlock"
                 : "off");
    log_text(&line, "calls",
        calls    ? "seccomp"
        : wanted ? "open: the kernel or this build has no seccomp"
                 : "off");
    log_end(&line);
}

/* But for the address and who answers. */
static struct http_options front_options(const struct config *config)
{
    return (struct http_options){
        .refused = refused,
        .connections_max = (size_t)config->server.connections_max,
        .body_max = (size_t)config->server.body_max_bytes,
        .header_max = (size_t)config->server.header_max_bytes,
        .bodies_max = (size_t)config->server.bodies_max_bytes,
        .idle_timeout_ms = config->server.idle_timeout_ms,
        .header_timeout_ms = config->server.header_timeout_ms,
        .body_timeout_ms = config->server.body_timeout_ms,
        .write_timeout_ms = config->server.write_timeout_ms,
    };
}

static int open_http(struct http **out, struct service *service, struct err *err)
{
    void **loops = calloc(service->loop_count, sizeof *loops);
    if (!loops)
        return err_set(err, ERR_NOMEM, "no memory for the loops");
    for (size_t i = 0; i < service->loop_count; i++)
        loops[i] = &service->loops[i];
    struct http_options options = front_options(service->config);
    options.listen = service->config->server.listen;
    options.loops = loops;
    options.loop_count = service->loop_count;
    options.handle = handle;
    const int code = http_open(out, &options, err);
    free(loops);
    return code;
}

static int open_fronts(struct fronts *fronts, struct service *service, struct err *err)
{
    const int code = open_http(&fronts->http, service, err);
    if (code < 0 || !service->config->admin.listen[0])
        return code;
    void *loops[] = {service->admin};
    struct http_options options = front_options(service->config);
    options.listen = service->config->admin.listen;
    options.loops = loops;
    options.loop_count = 1;
    options.handle = handle_admin;
    return http_open(&fronts->admin, &options, err);
}

/* Answer requests until a signal asks to stop. */
static int serve(struct service *service, const struct fronts *fronts, bool files_closed,
    const sigset_t *signals, struct err *err)
{
    /* The first look is taken before anybody may connect, so that a daemon whose store is there is ready when
     * it says that it listens. A store that is away is the watcher's affair. */
    live_poll(service->live, NULL);
    int code = live_start(service->live, err);
    if (code == 0)
        code = shadow_start(service->shadow, err);
    service->http = fronts->http;
    if (code == 0)
        code = http_start(fronts->http, err);
    if (code == 0 && fronts->admin)
        code = http_start(fronts->admin, err);
    if (code == 0 && service->config->server.sandbox)
        code = sandbox_calls(service->config->store.url, on_refused, err);
    if (code < 0)
        return code;
    log_sandbox(service, files_closed, code > 0);
    log_listening(service, fronts);
    wait_for_signal(signals, service->log);
    struct log_line line;
    log_begin(&line, service->log, LOG_INFO, "stopping");
    log_end(&line);
    http_drain(fronts->http, service->config->server.shutdown_timeout_ms);
    atomic_store(&service->stopping, true);
    const size_t lost = http_stop(fronts->http);
    log_begin(&line, service->log, lost ? LOG_WARN : LOG_INFO, "stopped");
    log_int(&line, "requests_unanswered", (int64_t)lost);
    log_end(&line);
    return 0;
}

/* Blocks of some megabytes, which a request with misses takes and gives back, stay with the process until the next switch
 * (live.c gives back what is free then): by default malloc asks the kernel for each anew, and the kernel clears every page of
 * it (two fifths of such a request's time). One heap for all threads: what one gives back is taken by the next, where each had a heap of its own
 * that grew to the most it ever held; requests that find everything in memory do not call malloc. */
static void set_up_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 128 << 20);
    mallopt(M_ARENA_MAX, 1);
}

static int run(const struct config *config, const struct log *log, struct err *err)
{
    sigset_t signals;
    catch_signals(&signals);
    json_object_seed(0);
    set_up_malloc();
    struct service service = {0};
    struct fronts fronts = {0};
    struct process process;
    process_open(&process);
    int code = config->server.sandbox ? sandbox_files(config, err) : 0;
    const bool files_closed = code > 0;
    if (code >= 0)
        code = service_init(&service, config, log, err);
    service.process = &process;
    if (code == 0)
        code = open_fronts(&fronts, &service, err);
    if (code == 0)
        code = serve(&service, &fronts, files_closed, &signals, err);
    http_free(fronts.admin);
    http_free(fronts.http);
    service_done(&service);
    process_close(&process);
    return code;
}

int main(int argc, char **argv)
{
    struct config config;
    struct err err = ERR_INIT;
    enum options_action action;
    bool usage;
    if (options_parse(&config, &action, argc, argv, environ, &usage, &err) < 0) {
        fprintf(stderr, "embsumd: %s\n%s", err.message, usage ? "embsumd --help lists the options\n" : "");
        return usage ? EXIT_USAGE : EXIT_FAILURE;
    }
    if (action == OPTIONS_HELP)
        options_help(stdout);
    else if (action == OPTIONS_VERSION)
        puts("embsumd " EMBSUM_VERSION);
    else if (action == OPTIONS_PRINT_CONFIG)
        options_print_config(stdout, &config);
    if (action != OPTIONS_RUN)
        return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
    struct log log = {.fd = STDERR_FILENO};
    int code = log_init(&log, STDERR_FILENO, config.log.level, &err);
    if (code == 0) {
        descriptors_reserve(&config, &log);
        code = run(&config, &log, &err);
    }
    if (code < 0)
        log_err(&log, LOG_ERROR, "failed", &err);
    return code < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Load at a fixed rate, and the latency that callers would feel.
 *
 * Requests are due at times that were fixed beforehand, whatever the server does, and a latency counts from the time
 * at which its request was due. A closed loop (wrk) asks only after the last answer: while the server stalls it asks
 * nothing, so that a stall of a second costs it one bad figure a connection where a thousand callers would have felt
 * it. One thread, plain sockets; it stops by itself after --seconds or --requests. */
#include "core/err.h"
#include "tests/load/answers.h"
#include "tests/load/connection.h"
#include "tests/load/histogram.h"
#include "tests/load/options.h"
#include "tests/load/requests.h"

#include <arpa/inet.h>
#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

static const int64_t SECOND = 1000000000;

/* Times at which requests are due but no connection was free: a ring. */
struct backlog {
    int64_t *due;
    size_t first, count, size;
};

struct run {
    const struct options *options;
    struct sockaddr_storage address;
    socklen_t address_len;
    struct requests requests;
    struct connection *connections;
    struct connection **idle;
    size_t idle_count, in_flight;
    struct backlog backlog;
    struct answers answers;
    struct histogram from_due, from_send, refusal;
    int epoll;
    uint64_t random, scheduled, asked, answered, refused, failed, dropped;
    int64_t start, record_from, stop, next_due;
    char buffer[CONNECTION_READ];
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- when it is due ---- */

/* Uniform in (0, 1]: splitmix64's upper bits. */
static double random_unit(struct run *run)
{
    uint64_t z = run->random += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53 + 0x1p-53;
}

static void schedule_next(struct run *run)
{
    const double gap = (double)SECOND / run->options->rate;
    const double factor = run->options->poisson ? -log(random_unit(run)) : 1;
    /* From the start for a fixed rate, so that rounding never adds up. */
    run->next_due = run->options->poisson ? run->next_due + (int64_t)(gap * factor)
                                          : run->start + (int64_t)(gap * (double)(run->scheduled + 1));
}

static bool schedule_ended(const struct run *run)
{
    return run->next_due >= run->stop || run->scheduled >= (uint64_t)run->options->requests;
}

static void backlog_put(struct run *run, int64_t due)
{
    struct backlog *b = &run->backlog;
    if (b->count == b->size) {
        run->dropped++;
        return;
    }
    b->due[(b->first + b->count++) % b->size] = due;
}

static int64_t backlog_take(struct backlog *b)
{
    const int64_t due = b->due[b->first];
    b->first = (b->first + 1) % b->size;
    b->count--;
    return due;
}

/* ---- sending and receiving ---- */

static int reopen(struct run *run, struct connection *c)
{
    connection_close(c);
    return connection_open(c, run->epoll, (struct sockaddr *)&run->address, run->address_len);
}

/* The request is lost, and the connection is made anew. */
static void fail(struct run *run, struct connection *c)
{
    const bool asked = c->state != CONNECTION_IDLE;
    reopen(run, c); /* where that fails the next request tries again */
    if (!asked)
        return; /* it is among the idle ones already */
    run->failed++;
    run->in_flight--;
    run->idle[run->idle_count++] = c;
}

static void finish(struct run *run, struct connection *c)
{
    const int64_t now = now_ns();
    run->in_flight--;
    if (c->status != 200) {
        run->refused++;
        histogram_add(&run->refusal, (uint64_t)(now - c->sent));
    } else if (c->scheduled >= run->record_from) {
        histogram_add(&run->from_due, (uint64_t)(now - c->scheduled));
        histogram_add(&run->from_send, (uint64_t)(now - c->sent));
    }
    if (c->body)
        answers_add(&run->answers, c->request, c->status, c->body, c->body_used, now);
    run->answered++;
    if (c->state == CONNECTION_CLOSED)
        reopen(run, c);
    run->idle[run->idle_count++] = c;
}

/* False if there is nobody to ask. */
static bool start_request(struct run *run, int64_t due)
{
    struct connection *c = run->idle[run->idle_count - 1];
    const size_t request = run->asked++ % run->requests.count;
    if (c->state == CONNECTION_CLOSED && reopen(run, c) < 0) {
        run->failed++;
        return false;
    }
    run->idle_count--;
    run->in_flight++;
    c->request = request;
    c->scheduled = due;
    c->sent = now_ns();
    if (connection_send(c, run->requests.message[request]) == CONNECTION_FAILED) {
        fail(run, c);
        return false;
    }
    return true;
}

static void serve(struct run *run, struct connection *c)
{
    enum connection_result result = CONNECTION_PENDING;
    if (c->state == CONNECTION_CLOSED)
        return;
    if (c->state == CONNECTION_SENDING)
        result = connection_flush(c);
    if (result == CONNECTION_PENDING)
        result = connection_read(c, run->buffer);
    if (result == CONNECTION_ANSWERED)
        finish(run, c);
    else if (result == CONNECTION_FAILED)
        fail(run, c);
}

/* Whatever is due becomes a request, or waits for a connection. */
static void start_due(struct run *run, int64_t now)
{
    if (run->options->rate == 0) { /* a closed loop: a request is due when a connection is free */
        run->next_due = now;
        bool open = true;
        while (open && run->idle_count && !schedule_ended(run)) {
            run->scheduled++;
            open = start_request(run, now);
        }
        return;
    }
    while (run->next_due <= now && !schedule_ended(run)) {
        backlog_put(run, run->next_due);
        schedule_next(run);
        run->scheduled++;
    }
    while (run->backlog.count && run->idle_count)
        start_request(run, backlog_take(&run->backlog));
}

static int loop(struct run *run, struct err *err)
{
    const int64_t patience = (int64_t)(run->options->timeout_ms * 1e6);
    int64_t give_up = INT64_MAX;
    for (;;) {
        const int64_t now = now_ns();
        start_due(run, now);
        const bool ended = schedule_ended(run);
        if (ended && give_up == INT64_MAX)
            give_up = now + patience;
        if (ended && ((run->in_flight == 0 && run->backlog.count == 0) || now >= give_up))
            return 0;
        int64_t until = ended ? give_up : run->options->rate > 0 ? run->next_due : run->stop;
        if (run->in_flight == 0 && until > now + SECOND / 100)
            until = now + SECOND / 100; /* where nobody answers, try again soon */
        const int64_t wait = until > now ? until - now : 0;
        const struct timespec timeout = {wait / SECOND, wait % SECOND};
        struct epoll_event events[256];
        const int count = epoll_pwait2(run->epoll, events, 256, &timeout, NULL);
        if (count < 0 && errno != EINTR)
            return err_errno(err, "epoll_pwait2");
        for (int i = 0; i < count; i++)
            serve(run, events[i].data.ptr);
    }
}

/* ---- the whole ---- */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

/* HOST:PORT with a numeric host, or [IPv6]:PORT. */
static int resolve(struct run *run, const struct options *o, struct err *err)
{
    char host[64];
    const char *colon = strrchr(o->address, ':'), *from = o->address;
    size_t len = colon ? (size_t)(colon - from) : 0;
    if (len > 2 && from[0] == '[' && from[len - 1] == ']') {
        from++;
        len -= 2;
    }
    if (!colon || len == 0 || len >= sizeof host)
        return err_set(err, ERR_INVALID, "--address %s: HOST:PORT is wanted", o->address);
    memcpy(host, from, len);
    host[len] = '\0';
    struct addrinfo *found;
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    const int code = getaddrinfo(host, colon + 1, &hints, &found);
    if (code != 0)
        return err_set(err, ERR_INVALID, "--address %s: %s", o->address, gai_strerror(code));
    memcpy(&run->address, found->ai_addr, found->ai_addrlen);
    run->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    if (!o->allow_remote && !is_loopback((struct sockaddr *)&run->address))
        return err_set(
            err, ERR_INVALID, "%s is not this machine; --allow-remote if load is welcome there", o->address);
    return 0;
}

/* One connection that is waited for, so that an address where nobody listens is told at once. */
static int probe(const struct run *run, struct err *err)
{
    const struct timeval patience = {5, 0}; /* for connect(), too */
    const int fd = socket(run->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, "socket");
    int result = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        connect(fd, (const struct sockaddr *)&run->address, run->address_len) != 0)
        result = err_errno(err, "connect to %s", run->options->address);
    close(fd);
    return result;
}

static int run_init(struct run *run, const struct options *o, struct err *err)
{
    const size_t connections = (size_t)o->connections;
    run->options = o;
    run->random = (uint64_t)o->seed;
    int result = resolve(run, o, err);
    if (result == 0)
        result = probe(run, err);
    if (result == 0)
        result = requests_make(&run->requests, o, err);
    if (result < 0)
        return result;
    run->backlog.size = 1 << 20;
    run->connections = calloc(connections, sizeof *run->connections);
    run->idle = calloc(connections, sizeof(void *));
    run->backlog.due = malloc(run->backlog.size * sizeof *run->backlog.due);
    if (!run->connections || !run->idle || !run->backlog.due)
        return err_set(err, ERR_NOMEM, "no memory for %zu connections", connections);
    result = o->answers ? answers_init(&run->answers, err) : 0;
    if (result < 0)
        return result;
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (run->epoll < 0)
        return err_errno(err, "epoll_create1");
    for (size_t i = 0; i < connections; i++) {
        struct connection *c = &run->connections[i];
        c->body = o->answers ? malloc(CONNECTION_READ) : NULL;
        if (o->answers && !c->body)
            return err_set(err, ERR_NOMEM, "no memory for answers");
        if (connection_open(c, run->epoll, (struct sockaddr *)&run->address, run->address_len) < 0)
            return err_errno(err, "connect to %s", o->address);
        run->idle[run->idle_count++] = c;
    }
    prctl(PR_SET_TIMERSLACK, 1UL); /* requests leave when they are due, not 50 us later */
    run->start = now_ns();
    run->record_from = run->start + (int64_t)(o->warmup * (double)SECOND);
    run->stop = run->record_from + (int64_t)(o->seconds * (double)SECOND);
    run->next_due = run->start;
    return 0;
}

static void run_done(struct run *run)
{
    for (size_t i = 0; run->connections && i < (size_t)run->options->connections; i++) {
        connection_close(&run->connections[i]);
        free(run->connections[i].body);
    }
    answers_done(&run->answers);
    if (run->epoll >= 0)
        close(run->epoll);
    free(run->connections);
    free(run->idle);
    free(run->backlog.due);
    requests_done(&run->requests);
}

static void print_times(const char *name, const struct histogram *h)
{
    printf(", \"%s\": {\"count\": %llu, \"mean\": %.1f", name, (unsigned long long)h->count,
        h->count ? h->sum / (double)h->count / 1e3 : 0);
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        printf(", \"%s\": %.1f", quantiles[i].name, histogram_quantile(h, quantiles[i].q) / 1e3);
    printf(", \"max\": %.1f}", (double)h->max / 1e3);
}

static void print_run(const struct run *run)
{
    const double seconds = (double)(now_ns() - run->start) / (double)SECOND;
    printf(
        "{\"rate\": %g, \"arrivals\": \"%s\", \"connections\": %.0f, \"seconds\": %.3f, \"scheduled\": %llu, "
        "\"answered\": %llu, \"not_200\": %llu, \"failed\": %llu, \"unanswered\": %llu",
        run->options->rate,
        run->options->rate == 0 ? "closed loop"
        : run->options->poisson ? "poisson"
                                : "fixed",
        run->options->connections, seconds, (unsigned long long)run->scheduled,
        (unsigned long long)run->answered, (unsigned long long)run->refused, (unsigned long long)run->failed,
        (unsigned long long)(run->in_flight + run->backlog.count + run->dropped));
    print_times("from_due_us", &run->from_due);
    print_times("from_send_us", &run->from_send);
    print_times("not_200_from_send_us", &run->refusal);
    puts("}");
}

int main(int argc, char **argv)
{
    struct options options;
    const int code = options_parse(&options, argc, argv);
    if (code >= 0)
        return code;
    struct err err = ERR_INIT;
    struct run *run = calloc(1, sizeof *run);
    int result = run ? 0 : err_set(&err, ERR_NOMEM, "out of memory");
    if (run) {
        run->epoll = -1;
        result = run_init(run, &options, &err);
        if (result == 0)
            result = loop(run, &err);
        if (result == 0 && options.answers)
            result = answers_write(&run->answers, options.answers, &err);
        if (result == 0)
            print_run(run);
    }
    const bool whole_run = run && run->answered == run->scheduled && run->refused == 0;
    if (run)
        run_done(run);
    free(run);
    if (result < 0)
        fprintf(stderr, "openloop: %s\n", err.message);
    return result < 0 || !whole_run ? 1 : 0;
}

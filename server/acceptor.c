#include "server/acceptor.h"

#include "config/address.h"
#include "server/clock.h"
#include "server/http_message.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A refused connection is closed only when its client has closed, or after LINGER_MS: closing at once with
 * the request still unread sends a reset, which may overtake the 503. */
enum { LINGER = 64, LINGER_MS = 1000, BACKLOG = 1024, PAUSE_MS = 100 };

struct acceptor {
    int listen_fd, stop_fd;
    char address[NI_MAXHOST + NI_MAXSERV + 4];
    acceptor_take_fn *take;
    void *ctx;
    pthread_t thread;
    bool started;
    atomic_uint_fast64_t refused;
    uint64_t id_state;
    uint64_t paused_until; /* no descriptors left: accepting would only spin */
    struct {
        int fd;
        uint64_t deadline;
    } linger[LINGER];
    size_t lingering;
};

/* ---- binding ---- */

static int bind_to(const struct addrinfo *info)
{
    const int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    const int number = errno;
    close(fd);
    errno = number;
    return -1;
}

static int name_address(struct acceptor *acceptor, struct err *err)
{
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getsockname(acceptor->listen_fd, (struct sockaddr *)&bound, &len) < 0)
        return err_errno(err, "getsockname");
    const int failed = getnameinfo((const struct sockaddr *)&bound, len, host, sizeof host, port, sizeof port,
        NI_NUMERICHOST | NI_NUMERICSERV);
    if (failed)
        return err_set(err, ERR_IO, "getnameinfo: %s", gai_strerror(failed));
    snprintf(
        acceptor->address, sizeof acceptor->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return 0;
}

int acceptor_open(struct acceptor **out, const char *listen_at, struct err *err)
{
    struct address at;
    if (!address_parse(&at, listen_at))
        return err_set(err, ERR_INVALID, "listen on \"%s\": ADDR:PORT or [IPv6]:PORT is expected", listen_at);
    char port[8];
    snprintf(port, sizeof port, "%u", at.port);
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    const int failed = getaddrinfo(at.host, port, &hints, &found);
    if (failed)
        return err_set(err, ERR_INVALID, "listen on \"%s\": %s", listen_at, gai_strerror(failed));
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (!acceptor) {
        freeaddrinfo(found);
        return err_set(err, ERR_NOMEM, "no memory for the listener");
    }
    int code = 0;
    acceptor->listen_fd = bind_to(found);
    if (acceptor->listen_fd < 0)
        code = err_errno(err, "listen on \"%s\"", listen_at);
    freeaddrinfo(found);
    acceptor->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (code == 0 && acceptor->stop_fd < 0)
        code = err_errno(err, "eventfd");
    if (code == 0)
        code = name_address(acceptor, err);
    if (code < 0) {
        acceptor_free(acceptor);
        return code;
    }
    http_id_seed(&acceptor->id_state);
    *out = acceptor;
    return 0;
}

const char *acceptor_address(const struct acceptor *acceptor)
{
    return acceptor->address;
}

uint64_t acceptor_refused(const struct acceptor *acceptor)
{
    return atomic_load_explicit(&acceptor->refused, memory_order_relaxed);
}

/* ---- accepting ---- */

/* Close connection i of the lingering ones; the last takes its place. */
static void linger_end(struct acceptor *acceptor, size_t i)
{
    close(acceptor->linger[i].fd);
    acceptor->linger[i] = acceptor->linger[--acceptor->lingering];
}

static void refuse(struct acceptor *acceptor, int fd)
{
    char id[HTTP_ID_MAX + 1], answer[1024];
    http_id_make(id, &acceptor->id_state);
    const size_t len = http_refusal(answer, sizeof answer, 503, "too many connections", id);
    atomic_fetch_add_explicit(&acceptor->refused, 1, memory_order_relaxed);
    /* A fresh connection's send buffer is empty: it takes the whole answer or the connection is dead. */
    if (send(fd, answer, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len || shutdown(fd, SHUT_WR) < 0) {
        close(fd);
        return;
    }
    if (acceptor->lingering == LINGER)
        linger_end(acceptor, 0);
    acceptor->linger[acceptor->lingering].fd = fd;
    acceptor->linger[acceptor->lingering++].deadline = clock_ms() + LINGER_MS;
}

/* Read and throw away what a refused client still sends. */
static void linger_read(struct acceptor *acceptor, size_t i)
{
    char waste[4096];
    const ssize_t got = recv(acceptor->linger[i].fd, waste, sizeof waste, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        linger_end(acceptor, i);
}

/* Accept until nobody waits. */
static void accept_all(struct acceptor *acceptor)
{
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        const int fd =
            accept4(acceptor->listen_fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                acceptor->paused_until = clock_ms() + PAUSE_MS;
            return;
        }
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (acceptor->take(acceptor->ctx, fd, (const struct sockaddr *)&peer, len) < 0)
            refuse(acceptor, fd);
    }
}

/* Milliseconds to the next thing that must happen by itself, -1 if there is none. */
static int next_timeout(const struct acceptor *acceptor, uint64_t now)
{
    uint64_t next = acceptor->paused_until > now ? acceptor->paused_until : UINT64_MAX;
    for (size_t i = 0; i < acceptor->lingering; i++)
        if (acceptor->linger[i].deadline < next)
            next = acceptor->linger[i].deadline;
    return next == UINT64_MAX ? -1 : next <= now ? 0 : (int)(next - now);
}

static void *accept_loop(void *ctx)
{
    struct acceptor *acceptor = ctx;
    pthread_setname_np(pthread_self(), "acceptor");
    for (;;) {
        struct pollfd fds[2 + LINGER] = {{.fd = acceptor->stop_fd, .events = POLLIN}};
        const uint64_t now = clock_ms();
        const size_t lingering = acceptor->lingering;
        fds[1] =
            (struct pollfd){.fd = acceptor->paused_until > now ? -1 : acceptor->listen_fd, .events = POLLIN};
        for (size_t i = 0; i < lingering; i++)
            fds[2 + i] = (struct pollfd){.fd = acceptor->linger[i].fd, .events = POLLIN};
        if (poll(fds, (nfds_t)(2 + lingering), next_timeout(acceptor, now)) < 0 && errno != EINTR)
            acceptor->paused_until = clock_ms() + PAUSE_MS;
        for (size_t i = lingering; i-- > 0;) { /* from the end: linger_end moves the last one down */
            if (acceptor->linger[i].deadline <= clock_ms())
                linger_end(acceptor, i);
            else if (fds[2 + i].revents)
                linger_read(acceptor, i);
        }
        if (fds[1].revents)
            accept_all(acceptor);
        if (fds[0].revents)
            break;
    }
    accept_all(acceptor);
    return NULL;
}

int acceptor_start(struct acceptor *acceptor, acceptor_take_fn *take, void *ctx, struct err *err)
{
    acceptor->take = take;
    acceptor->ctx = ctx;
    errno = pthread_create(&acceptor->thread, NULL, accept_loop, acceptor);
    if (errno)
        return err_errno(err, "start the accepting thread");
    acceptor->started = true;
    return 0;
}

void acceptor_stop(struct acceptor *acceptor)
{
    if (acceptor->started) {
        const uint64_t one = 1;
        if (write(acceptor->stop_fd, &one, sizeof one) == sizeof one)
            pthread_join(acceptor->thread, NULL);
        acceptor->started = false;
    }
    if (acceptor->listen_fd >= 0)
        close(acceptor->listen_fd);
    acceptor->listen_fd = -1;
    while (acceptor->lingering)
        linger_end(acceptor, 0);
}

void acceptor_free(struct acceptor *acceptor)
{
    if (!acceptor)
        return;
    acceptor_stop(acceptor);
    if (acceptor->stop_fd >= 0)
        close(acceptor->stop_fd);
    free(acceptor);
}

/* A connected socket to a Redis, before a deadline. Looking up a name comes on top of it. */
#include "store/store_redis_int.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t redis_now_ms(void)
{
    return store_now_ms();
}

struct redis_deadline redis_deadline_in(int ms)
{
    return (struct redis_deadline){redis_now_ms() + ms, ms};
}

struct redis_deadline redis_deadline_half(struct redis_deadline deadline)
{
    const int64_t left_ms = deadline.at_ms - redis_now_ms();
    return redis_deadline_in(left_ms > 0 ? (int)(left_ms + 1) / 2 : 0);
}

/* Wait for a connection under way. 0, or the errno of its failure. */
static int await_connection(int fd, int64_t deadline_ms)
{
    struct pollfd poller = {fd, POLLOUT, 0};
    int error = 0;
    socklen_t len = sizeof error;
    for (;;) {
        const int64_t left_ms = deadline_ms - redis_now_ms();
        const int rc = left_ms > 0 ? poll(&poller, 1, (int)left_ms) : 0;
        if (rc == 0)
            return ETIMEDOUT;
        if (rc > 0)
            break;
        if (errno != EINTR)
            return errno;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? errno : error;
}

/* A connected, non-blocking socket, or the negative errno. */
static int open_socket(int family, const struct sockaddr *address, socklen_t len, int64_t deadline_ms)
{
    static const int on = 1;
    const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = connect(fd, address, len) < 0 ? errno : 0;
    while (error == EAGAIN && redis_now_ms() < deadline_ms) { /* a unix socket whose queue is full */
        poll(NULL, 0, 2);
        error = connect(fd, address, len) < 0 ? errno : 0;
    }
    if (error == EINPROGRESS || error == EINTR)
        error = await_connection(fd, deadline_ms);
    if (error) {
        close(fd);
        return -error;
    }
    if (family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    return fd;
}

static int open_unix(const struct redis_address *address, int64_t deadline_ms)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, address->path, sizeof name.sun_path);
    return open_socket(AF_UNIX, (const struct sockaddr *)&name, sizeof name, deadline_ms);
}

/* The first of the host's addresses that accepts. */
static int open_tcp(const struct redis_address *address, int64_t deadline_ms, const char **resolver_says)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    const int rc = getaddrinfo(address->host, address->port, &hints, &found);
    if (rc) {
        *resolver_says = gai_strerror(rc);
        return -EHOSTUNREACH;
    }
    int fd = -EHOSTUNREACH;
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next)
        fd = open_socket(at->ai_family, at->ai_addr, at->ai_addrlen, deadline_ms);
    freeaddrinfo(found);
    return fd;
}

int redis_socket_open(const struct redis_address *address, int64_t deadline_ms, const char **resolver_says)
{
    return address->local ? open_unix(address, deadline_ms) : open_tcp(address, deadline_ms, resolver_says);
}

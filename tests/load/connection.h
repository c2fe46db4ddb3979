/* One keep-alive connection of a load generator: a request goes out, the answer's length is found and its bytes are
 * counted. No socket call ever blocks. */
#ifndef EMBSUM_TESTS_LOAD_CONNECTION_H
#define EMBSUM_TESTS_LOAD_CONNECTION_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTION_HEAD_MAX = 16384, CONNECTION_READ = 65536 };

struct message {
    const char *data;
    size_t len;
};

enum connection_state { CONNECTION_CLOSED, CONNECTION_IDLE, CONNECTION_SENDING, CONNECTION_READING };

struct connection {
    int fd;
    enum connection_state state;
    struct message out; /* what is left to send */
    char head[CONNECTION_HEAD_MAX + 1];
    size_t head_used;
    bool in_body, closes;
    int status;
    uint64_t body_left;
    char *
        body; /* CONNECTION_READ bytes that the caller gives and takes back, for answers of that size; NULL: only counted */
    size_t body_used;
    size_t request;          /* the caller's number of what was asked */
    int64_t scheduled, sent; /* nanoseconds: when the request was due, when it went out */
};

static inline void connection_close(struct connection *c)
{
    if (c->state != CONNECTION_CLOSED)
        close(c->fd);
    c->fd = -1;
    c->state = CONNECTION_CLOSED;
}

/* Connects (without waiting for it) and registers with epoll, edge-triggered. 0, or -1 with errno. */
static inline int connection_open(
    struct connection *c, int epoll, const struct sockaddr *address, socklen_t len)
{
    const int yes = 1;
    c->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return -1;
    c->state = CONNECTION_IDLE;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0 ||
        (connect(c->fd, address, len) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        const int error = errno;
        connection_close(c);
        errno = error;
        return -1;
    }
    return 0;
}

enum connection_result { CONNECTION_FAILED = -1, CONNECTION_PENDING, CONNECTION_ANSWERED };

/* Send what the socket takes. */
static inline enum connection_result connection_flush(struct connection *c)
{
    while (c->out.len) {
        const ssize_t some = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0) /* ENOTCONN: the connection is still being made */
            return errno == EAGAIN || errno == ENOTCONN ? CONNECTION_PENDING : CONNECTION_FAILED;
        c->out.data += some;
        c->out.len -= (size_t)some;
    }
    c->state = CONNECTION_READING;
    return CONNECTION_PENDING;
}

static inline enum connection_result connection_send(struct connection *c, struct message request)
{
    c->out = request;
    c->head_used = c->body_used = 0;
    c->in_body = c->closes = false;
    c->state = CONNECTION_SENDING;
    return connection_flush(c);
}

/* The whole head is there, ended by a zero: status, length and whether the connection ends with this answer. An answer
 * without Content-Length cannot be told from the next one here. */
static inline bool connection_parse_head(struct connection *c)
{
    if (strncmp(c->head, "HTTP/1.1 ", 9) != 0)
        return false;
    c->status = atoi(c->head + 9);
    bool has_length = c->status == 204 || c->status == 304;
    c->body_left = 0;
    for (const char *line = strstr(c->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, "content-length:", 15) == 0) {
            c->body_left = strtoull(line + 15, NULL, 10);
            has_length = true;
        } else if (strncasecmp(line, "connection: close", 17) == 0)
            c->closes = true;
    }
    return has_length;
}

/* Bytes of the head up to its empty line, parsed once that is there. Returns how many belong to the head. */
static inline ssize_t connection_take_head(struct connection *c, const char *bytes, size_t len)
{
    const size_t before = c->head_used;
    const size_t room = CONNECTION_HEAD_MAX - before, taken = len < room ? len : room;
    memcpy(c->head + before, bytes, taken);
    c->head_used += taken;
    c->head[c->head_used] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end)
        return taken < len ? -1 : (ssize_t)taken;
    const size_t head = (size_t)(end + 4 - c->head);
    end[2] = '\0';
    c->in_body = connection_parse_head(c);
    return c->in_body ? (ssize_t)(head - before) : -1;
}

/* Read what is there. ANSWERED once the answer is whole: the connection is idle, or closed if the server wants so. */
static inline enum connection_result connection_read(struct connection *c, char *buffer)
{
    for (;;) {
        const ssize_t got = recv(c->fd, buffer, CONNECTION_READ, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN || errno == ENOTCONN ? CONNECTION_PENDING : CONNECTION_FAILED;
        if (got == 0)
            return CONNECTION_FAILED;
        size_t len = (size_t)got;
        const char *bytes = buffer;
        if (c->state == CONNECTION_IDLE)
            return CONNECTION_FAILED; /* nothing was asked */
        if (!c->in_body) {
            const ssize_t head = connection_take_head(c, bytes, len);
            if (head < 0)
                return CONNECTION_FAILED;
            bytes += head;
            len -= (size_t)head;
        }
        if (!c->in_body)
            continue;
        if (len > c->body_left)
            return CONNECTION_FAILED;
        c->body_left -= len;
        if (c->body && c->body_used + len > CONNECTION_READ)
            return CONNECTION_FAILED;
        if (c->body)
            memcpy(c->body + c->body_used, bytes, len);
        c->body_used += len;
        if (c->body_left)
            continue;
        if (c->closes)
            connection_close(c);
        else
            c->state = CONNECTION_IDLE;
        return CONNECTION_ANSWERED;
    }
}

#endif

#include "tests/lib/redis_fake.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Wait for a descriptor; false when the server shall stop. */
static bool await(struct fake_redis *fake, int fd)
{
    struct pollfd poller = {fd, POLLIN, 0};
    while (!atomic_load(&fake->stop))
        if (poll(&poller, 1, 5) > 0)
            return true;
    return false;
}

static bool answer(struct fake_redis *fake, int fd, const char *reply)
{
    const size_t len = strlen(reply), step = fake->drop_ms ? 1 : len;
    for (size_t at = 0; at < len && !atomic_load(&fake->stop); at += step) {
        if (send(fd, reply + at, step, MSG_NOSIGNAL) < 0)
            return false;
        if (fake->drop_ms)
            poll(NULL, 0, fake->drop_ms);
    }
    return !fake->close_after_reply;
}

static void serve(struct fake_redis *fake, int fd)
{
    char request[65536], scripted[4096];
    ssize_t len;
    while (await(fake, fd) && (len = recv(fd, request, sizeof request - 1, 0)) > 0) {
        const char *reply = fake->reply;
        request[len] = scripted[0] = '\0';
        if (fake->script) {
            fake->script(fake, request, scripted, sizeof scripted);
            reply = scripted;
        }
        if (reply && !answer(fake, fd, reply))
            break;
    }
    close(fd);
}

static void *run(void *arg)
{
    struct fake_redis *const fake = arg;
    while (await(fake, fake->listener)) {
        const int fd = accept(fake->listener, NULL, NULL);
        if (fd < 0)
            continue;
        atomic_fetch_add(&fake->connections, 1);
        serve(fake, fd);
    }
    return NULL;
}

void fake_redis_start(struct fake_redis *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    fake->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (fake->listener < 0 || bind(fake->listener, (struct sockaddr *)&address, len) < 0 ||
        listen(fake->listener, 16) < 0 || getsockname(fake->listener, (struct sockaddr *)&address, &len) < 0)
        die("start the fake server");
    fake->port = ntohs(address.sin_port);
    atomic_init(&fake->stop, false);
    atomic_init(&fake->connections, 0);
    if (pthread_create(&fake->thread, NULL, run, fake))
        die("start the fake server");
}

void fake_redis_stop(struct fake_redis *fake)
{
    atomic_store(&fake->stop, true);
    pthread_join(fake->thread, NULL);
    close(fake->listener);
}

/* A slow wire between a daemon and its Redis: passes bytes on, but holds one in some commands, or the second half of its
 * answer, for longer than the daemon waits.
 *
 *     stall LISTEN TARGET ONE_IN STALL_MS SEED       paths of unix sockets
 *
 * It begins with a byte on its stdin, ends with that, and tells how many commands there were and how many it stalled.
 * A command is what one recv brings: a reader sends a pipeline of MGETs at a time. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *target;
static unsigned one_in, stall_ms;
static atomic_bool begun;
static atomic_uint next_seed;
static atomic_ulong commands, stalled;

struct wire {
    int client, server;
    unsigned seed;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int unix_socket(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(address->sun_path, path, strlen(path));
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static bool send_all(int fd, const char *data, size_t len)
{
    while (len) {
        const ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

static void hold(void)
{
    poll(NULL, 0, (int)stall_ms);
}

/* One side has something to say. False: it has ended. */
static bool pass(struct wire *wire, bool from_client, bool *hold_answer)
{
    char data[65536];
    const ssize_t got = recv(from_client ? wire->client : wire->server, data, sizeof data, 0);
    if (got <= 0)
        return false;
    size_t first = 0, len = (size_t)got;
    if (from_client && atomic_load(&begun)) {
        atomic_fetch_add(&commands, 1);
        if ((unsigned)rand_r(&wire->seed) % one_in == 0) {
            atomic_fetch_add(&stalled, 1);
            *hold_answer = rand_r(&wire->seed) & 256;
            if (!*hold_answer)
                hold();
        }
    } else if (!from_client && *hold_answer) {
        *hold_answer = false;
        first = len / 2;
        if (!send_all(wire->client, data, first))
            return false;
        hold();
    }
    return send_all(from_client ? wire->server : wire->client, data + first, len - first);
}

static void *run(void *arg)
{
    struct wire *wire = arg;
    struct pollfd ends[2] = {{wire->client, POLLIN, 0}, {wire->server, POLLIN, 0}};
    bool hold_answer = false, open = true;
    while (open && poll(ends, 2, -1) > 0) {
        if (ends[0].revents)
            open = pass(wire, true, &hold_answer);
        if (open && ends[1].revents)
            open = pass(wire, false, &hold_answer);
    }
    close(wire->client);
    close(wire->server);
    free(wire);
    return NULL;
}

static void *serve(void *arg)
{
    const int listener = *(int *)arg;
    for (;;) {
        struct sockaddr_un address;
        pthread_t thread;
        struct wire *wire = malloc(sizeof *wire);
        if (!wire)
            die("memory");
        wire->client = accept(listener, NULL, NULL);
        wire->server = unix_socket(&address, target);
        wire->seed = atomic_fetch_add(&next_seed, 1);
        if (wire->client < 0 || connect(wire->server, (struct sockaddr *)&address, sizeof address) < 0)
            die("connect");
        if (pthread_create(&thread, NULL, run, wire))
            die("thread");
        pthread_detach(thread);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address;
    pthread_t thread;
    if (argc != 6) {
        fprintf(stderr, "usage: stall LISTEN TARGET ONE_IN STALL_MS SEED\n");
        return 2;
    }
    target = argv[2];
    one_in = (unsigned)strtoul(argv[3], NULL, 10);
    stall_ms = (unsigned)strtoul(argv[4], NULL, 10);
    atomic_init(&next_seed, (unsigned)strtoul(argv[5], NULL, 10));
    int listener = unix_socket(&address, argv[1]);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 128) < 0)
        die(argv[1]);
    if (pthread_create(&thread, NULL, serve, &listener))
        die("thread");
    puts("ready");
    fflush(stdout);
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        atomic_store(&begun, true);
    printf("%lu %lu\n", atomic_load(&commands), atomic_load(&stalled));
    return fflush(stdout) == 0 ? 0 : 1;
}

/* A bad wire between a daemon and its Redis, on 127.0.0.1: passes on what is said, with faults.
 *
 *     wire TARGET SEED DELAY_MS FAULT=ONE_IN...       TARGET: the path of Redis's socket
 *
 *     delay     half of a message, then the other half DELAY_MS later
 *     split     a message in pieces of 1 to 16 bytes
 *     cut       half of a message, then the connection ends
 *     hole      the message is swallowed, and all that follows on the connection, which stays open
 *     garbage   up to 8 bytes of an answer become others
 *
 * It tells its port, begins with a line on its stdin, stops with the next one, and when stdin ends tells how many commands
 * there were and how many met each fault. A command is what one recv brings: a reader sends a pipeline of MGETs at a time.
 * A fault hits the command or its answer, garbage the answer alone: what Redis was asked for instead would be no fault of
 * the wire. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

enum fault { DELAY, SPLIT, CUT, HOLE, GARBAGE, FAULTS, NONE = FAULTS };
static const char *const names[FAULTS] = {"delay", "split", "cut", "hole", "garbage"};

static const char *target;
static int delay_ms;
static unsigned one_in[FAULTS];
static atomic_bool at_work;
static atomic_uint next_seed;
static atomic_ulong commands, hits[FAULTS];

struct wire {
    int client, server;
    unsigned seed;
    enum fault answer; /* what the next answer meets */
    bool hole;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static unsigned draw(struct wire *wire, unsigned below)
{
    return (unsigned)rand_r(&wire->seed) % below;
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

/* False: the connection ends. */
static bool send_faulty(struct wire *wire, int to, char *data, size_t len, enum fault fault)
{
    size_t first = len / 2;
    switch (fault) {
    case DELAY:
        if (!send_all(to, data, first))
            return false;
        poll(NULL, 0, delay_ms);
        return send_all(to, data + first, len - first);
    case SPLIT:
        for (size_t at = 0, piece; at < len; at += piece) {
            piece = 1 + draw(wire, 16);
            piece = piece < len - at ? piece : len - at;
            if (!send_all(to, data + at, piece))
                return false;
        }
        return true;
    case CUT:
        send_all(to, data, first);
        return false;
    case HOLE:
        wire->hole = true;
        return true;
    case GARBAGE:
        for (unsigned i = 1 + draw(wire, 8); i > 0; i--)
            data[draw(wire, (unsigned)len)] = (char)draw(wire, 256);
        return send_all(to, data, len);
    default:
        return send_all(to, data, len);
    }
}

static enum fault draw_fault(struct wire *wire)
{
    for (enum fault fault = 0; fault < FAULTS; fault++)
        if (one_in[fault] && draw(wire, one_in[fault]) == 0) {
            atomic_fetch_add(&hits[fault], 1);
            return fault;
        }
    return NONE;
}

/* One side has something to say. False: it has ended. */
static bool pass(struct wire *wire, bool from_client)
{
    char data[65536];
    enum fault fault = NONE;
    const ssize_t got = recv(from_client ? wire->client : wire->server, data, sizeof data, 0);
    if (got <= 0)
        return false;
    if (wire->hole)
        return true;
    if (!from_client) {
        fault = wire->answer;
        wire->answer = NONE;
    } else if (atomic_load(&at_work)) {
        atomic_fetch_add(&commands, 1);
        fault = draw_fault(wire);
        if (fault == GARBAGE || draw(wire, 2)) {
            wire->answer = fault;
            fault = NONE;
        }
    }
    return send_faulty(wire, from_client ? wire->server : wire->client, data, (size_t)got, fault);
}

static void *run(void *arg)
{
    struct wire *wire = arg;
    struct pollfd ends[2] = {{wire->client, POLLIN, 0}, {wire->server, POLLIN, 0}};
    bool open = true;
    while (open && poll(ends, 2, -1) > 0)
        for (int i = 0; open && i < 2; i++)
            if (ends[i].revents)
                open = pass(wire, i == 0);
    close(wire->client);
    close(wire->server);
    free(wire);
    return NULL;
}

static int connect_target(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(target) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(target);
    }
    memcpy(address.sun_path, target, strlen(target));
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(target);
    return fd;
}

static void *serve(void *arg)
{
    const int listener = *(int *)arg, on = 1;
    for (;;) {
        pthread_t thread;
        struct wire *wire = malloc(sizeof *wire);
        if (!wire)
            die("memory");
        *wire = (struct wire){
            .client = accept(listener, NULL, NULL), .seed = atomic_fetch_add(&next_seed, 1), .answer = NONE};
        if (wire->client < 0)
            die("accept");
        setsockopt(wire->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        wire->server = connect_target();
        if (pthread_create(&thread, NULL, run, wire))
            die("thread");
        pthread_detach(thread);
    }
    return NULL;
}

static bool read_fault(const char *text)
{
    for (int fault = 0; fault < FAULTS; fault++) {
        const size_t len = strlen(names[fault]);
        if (strncmp(text, names[fault], len) == 0 && text[len] == '=')
            return (one_in[fault] = (unsigned)strtoul(text + len + 1, NULL, 10)) > 0;
    }
    return false;
}

static int listen_here(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 128) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        die("listen");
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    bool right = argc > 4;
    for (int i = 4; i < argc; i++)
        right &= read_fault(argv[i]);
    if (!right) {
        fprintf(stderr, "usage: wire TARGET SEED DELAY_MS FAULT=ONE_IN...\n");
        return 2;
    }
    target = argv[1];
    atomic_init(&next_seed, (unsigned)strtoul(argv[2], NULL, 10));
    delay_ms = (int)strtol(argv[3], NULL, 10);
    int listener = listen_here();
    if (pthread_create(&thread, NULL, serve, &listener))
        die("thread");
    for (int c; (c = getchar()) != EOF;)
        if (c == '\n')
            atomic_store(&at_work, !atomic_load(&at_work));
    printf("{\"commands\": %lu", atomic_load(&commands));
    for (int fault = 0; fault < FAULTS; fault++)
        printf(", \"%s\": %lu", names[fault], atomic_load(&hits[fault]));
    puts("}");
    return fflush(stdout) == 0 ? 0 : 1;
}
